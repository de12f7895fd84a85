"""What a training of ``generate`` at full size writes and keeps in memory, compared with another version.

Two people have ``--faces`` faces each; the default of ``generate`` is 3,000 frames a video. Each version does
three things, each in a process of its own: train a network for some iterations on the CPU, cut scenes as the
driver does, and encode a real scene near the end of a video. Bytes are those that the process wrote, by
Linux's count; memory is the peak of its own memory, without pages of files that are mapped into memory.

git worktree add build/before COMMIT
python benchmarks/full_size.py --against build/before [--generator faceswap] [--iterations 200]
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
from memory import Watch
from report import Table, parser, save, show

from dfdm_ray.jobs.generate import job, tasks
from dfdm_ray.jobs.generate.config import GenerateConfig, SwapTrainConfig
from dfdm_ray.jobs.generate.plan import Identity, Scene
from dfdm_ray.labels import Generator
from dfdm_ray.video.encode import QualityWriter

_WORK = ("train", "driver", "convert")
_OF_RUN = 2000
"""Iterations of the training for which the share of saving is computed."""


def make_input(root: Path, num_faces: int) -> None:
    """Write a video, and the faces of two people as this version (``a.npz``) and earlier ones store them."""
    with QualityWriter(
        {23: root / "v.mp4"}, size=(960, 540), time_base=Fraction(1, 25), rate=Fraction(25), metadata={}
    ) as writer:
        for number in range(num_faces):
            picture = np.full((540, 960, 3), 60 + number % 128, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number
            writer.write(frame)
    landmarks = np.zeros((num_faces, 5, 2), np.float32)
    faces = np.random.default_rng(0).integers(0, 256, (num_faces, 256, 256, 3), dtype=np.uint8)
    for side in "ab":
        np.savez(root / f"{side}_old.npz", landmarks=landmarks, faces=faces)
        np.savez(root / f"{side}.npz", landmarks=landmarks, times_s=np.arange(num_faces) / 25)
        np.save(root / f"{side}.npy", faces)


def work(what: str, root: Path, args: argparse.Namespace) -> dict[str, float]:
    """Do one of :data:`_WORK` with the code of the version that was imported; return what it measured."""
    is_new = any(one.name == "save_s" for one in dataclasses.fields(tasks.Training))
    files = {side: str(root / (f"{side}.npz" if is_new else f"{side}_old.npz")) for side in "ab"}
    started = time.perf_counter()
    if what == "train":
        return _train(root, files, args, {"save_s": 300.0} if is_new else {})
    if what == "driver":
        config = GenerateConfig(identities="", out="")
        people = [Identity(id=side, name=side, videos=(side,)) for side in "ab"]
        for person in people:
            job._scenes(config, person, {side: files[side] for side in "ab"}, {})
    else:
        scene = Scene(
            identity="a", number=0, uri=str(root / "v.mp4"), frames=range(args.faces - 100, args.faces)
        )
        tasks.convert(None, scene, files["a"], "b", {23: root / f"{os.getpid()}.mp4"})
    return {"s": time.perf_counter() - started}


def _train(root: Path, files: dict[str, str], args: argparse.Namespace, options: Any) -> dict[str, float]:
    saving = []
    save_state = tasks._save

    def timed(*arguments: Any) -> None:
        started = time.perf_counter()
        save_state(*arguments)
        saving.append(time.perf_counter() - started)

    tasks._save = timed
    training = tasks.Training(
        generator=Generator(args.generator),
        pair=("a", "b"),
        faces={side: (file,) for side, file in files.items()},
        folder=root / f"{os.getpid()}",
        config=SwapTrainConfig(iterations=args.iterations, batch_size=1),
        seed=0,
        **options,
    )
    before = psutil.Process().io_counters().write_chars
    started = time.perf_counter()
    tasks.train(training, "cpu")
    return {
        "s": time.perf_counter() - started,
        "saves": len(saving),
        "saving_s": sum(saving),
        "written_gb": (psutil.Process().io_counters().write_chars - before) / 1e9,
    }


def measured(what: str, version: str, root: str, args: argparse.Namespace) -> dict[str, float]:
    """Let a process that imports the code in the folder ``version`` work; return its figures and memory."""
    command = [sys.executable, __file__, "--work", what, "--root", root, "--generator", args.generator]
    command += ["--iterations", str(args.iterations), "--faces", str(args.faces), "--against", args.against]
    process = psutil.Popen(
        command, env=os.environ | {"PYTHONPATH": version, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE
    )
    with Watch(process, every_s=0.2) as watch:
        answer, _ = process.communicate()
    if process.returncode:
        sys.exit(f"{what} failed in {version}")
    return {**json.loads(answer.splitlines()[-1]), "gb": watch.peak.processes / 1e9}


def at_full_length(one: dict[str, float], *, iterations: int, every_s: float | None) -> tuple[float, float]:
    """Return the saves in :data:`_OF_RUN` iterations, and the share of the time that they take.

    Args:
        one: Figures of a training of ``iterations``.
        every_s: Seconds between saves; ``None``: a save every 100 iterations.
    """
    step_s = (one["s"] - one["saving_s"]) / iterations
    saves = _OF_RUN / 100 if every_s is None else 1 + _OF_RUN * step_s // every_s
    saving_s = saves * one["saving_s"] / one["saves"]
    return saves, saving_s / (saving_s + _OF_RUN * step_s)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--against", required=True, help="folder with another version of this repository")
    options.add_argument("--generator", default="faceswap")
    options.add_argument("--iterations", type=int, default=200)
    options.add_argument("--faces", type=int, default=3000)
    options.add_argument("--work", choices=_WORK, help=argparse.SUPPRESS)
    options.add_argument("--root", help=argparse.SUPPRESS)
    args = options.parse_args()
    if args.work:
        print(json.dumps(work(args.work, Path(args.root), args)))
        return
    versions = {
        "before": str(Path(args.against).resolve()),
        "this version": str(Path(__file__).parents[1].resolve()),
    }
    with tempfile.TemporaryDirectory() as root:
        make_input(Path(root), args.faces)
        found = {
            name: {what: measured(what, version, root, args) for what in _WORK}
            for name, version in versions.items()
        }
    rows = []
    for name, one in found.items():
        train, driver, convert = (one[what] for what in _WORK)
        every_s = None if name == "before" else 300.0
        saves, share = at_full_length(train, iterations=args.iterations, every_s=every_s)
        rows.append(
            (
                *(name, f"{train['written_gb'] / train['saves']:.2f}", f"{saves:.0f}"),
                *(f"{saves * train['written_gb'] / train['saves']:.1f}", f"{share:.1%}"),
                *(f"{kind['gb']:.2f}" for kind in (train, driver, convert)),
                *(f"{kind['s']:.1f}" for kind in (driver, convert)),
            )
        )
    headings = "version|GB a save|saves|GB written|share of time|training, GB|driver, GB|conversion, GB"
    headings += "|driver, s|conversion, s"
    remark = (
        f"saves, bytes and share are computed for {_OF_RUN} iterations from a training of "
        f"{args.iterations} with batches of 1"
    )
    show(Table(headings=headings.split("|"), rows=rows, remark=remark))
    save("full_size", found=found, iterations=args.iterations)


if __name__ == "__main__":
    main()
