"""How many training clips a core loads per second, compared with another version of this repository.

A clip is read, decoded and augmented as for ``dfdm-ray train``, in one process with one thread. The crops are
drawn: smooth pictures with noise, whose PNG files have about the size of those of real faces (66 kB at 224
pixels). No GPU is needed: loaders run on CPUs.

git worktree add build/before COMMIT
python benchmarks/loader.py --against build/before [--frames 10] [--clips 2] [--crop-size 224]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
from report import Table, parser, save, show, spread

from dfdm_ray.io import storage
from dfdm_ray.io.images import png
from dfdm_ray.jobs.train.config import ClipAugmentConfig
from dfdm_ray.jobs.train.data import TrainingClips, Videos

VIDEOS = 8
_NOISE = 0.5
"""Standard deviation of the noise, in levels."""


def write_videos(root: Path, args: argparse.Namespace) -> float:
    """Write the crops of some videos; return the mean size of a picture in kB."""
    rng = np.random.default_rng(0)
    sizes = []
    for number in range(VIDEOS):
        shape = (args.clips * args.frames, args.crop_size, args.crop_size, 3)
        smooth = cv2.GaussianBlur(rng.integers(0, 256, shape[1:]).astype(np.float32), (0, 0), 8)
        smooth = cv2.normalize(smooth, None, 20, 235, cv2.NORM_MINMAX)
        pictures = [png(one) for one in (smooth + rng.normal(0, _NOISE, shape)).round().astype(np.uint8)]
        sizes += map(len, pictures)
        table = pa.table({"num_clips": [args.clips], "crops": pa.array([pictures], pa.list_(pa.binary()))})
        storage.write_parquet(str(root / f"{number}.parquet"), table)
    return statistics.mean(sizes) / 1000


def load(root: str, *, frames: int, count: int) -> dict[str, float]:
    """Load ``count`` clips; return clips per second of CPU time, and of wall time."""
    files = tuple(f"{number}.parquet" for number in range(VIDEOS))
    videos = Videos(root=root, files=files, video_ids=files, labels=(0,) * VIDEOS)
    clips = TrainingClips(videos=videos, num_frames=frames, augment=ClipAugmentConfig(), seed=0)
    for video in range(VIDEOS):
        clips[0, video]  # the first clips import and set up
    wall, cpu = time.perf_counter(), time.process_time()
    for number in range(count):
        clips[1 + number // VIDEOS, number % VIDEOS]
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {"cpu": count / cpu, "wall": count / wall}


def load_with(version: str, root: str, args: argparse.Namespace) -> dict[str, float]:
    """Load in a process that imports the code in the folder ``version``."""
    command = [sys.executable, __file__, "--load", root, "--frames", str(args.frames)]
    environment = os.environ | {"PYTHONPATH": version, "OMP_NUM_THREADS": "1"}
    command += ["--count", str(args.count)]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
    return dict(json.loads(done.stdout))


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--against", help="folder with another version of this repository")
    options.add_argument("--frames", type=int, default=10)
    options.add_argument("--clips", type=int, default=2)
    options.add_argument("--crop-size", type=int, default=224)
    options.add_argument("--count", type=int, default=80, help="clips in one timing")
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--load", help=argparse.SUPPRESS)
    args = options.parse_args()
    if args.load:
        print(json.dumps(load(args.load, frames=args.frames, count=args.count)))
        return
    here = str(Path(__file__).parent.parent.resolve())
    versions = {"before": str(Path(args.against).resolve())} if args.against else {}
    versions |= {"this version": here}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in versions}
    with tempfile.TemporaryDirectory() as root:
        size_kb = write_videos(Path(root), args)
        for _ in range(args.repeats):  # interleaved, so that other load on the machine affects both alike
            for name, version in versions.items():
                found[name].append(load_with(version, root, args))
    base = statistics.median(one["cpu"] for one in found[next(iter(versions))])
    rows = [
        (
            name,
            *(spread([one[kind] for one in rates], 1) for kind in ("cpu", "wall")),
            f"{statistics.median(one['cpu'] for one in rates) / base:.2f}",
        )
        for name, rates in found.items()
    ]
    headings = ("version", "clips/s of CPU time", "clips/s, one process", "ratio")
    remark = (
        f"{args.clips} clips a video, {args.frames} frames of {args.crop_size} pixels, {size_kb:.0f} kB each"
    )
    show(Table(headings=headings, rows=rows, remark=remark), repeats=f"medians of {args.repeats}")
    save("loader", repeats=args.repeats, picture_kb=size_kb, found=found)


if __name__ == "__main__":
    main()
