"""What a frame plan costs: frames decoded and seconds, against decoding the whole video with OpenCV.

Makes one video a quality: 942x500, 30 frames a second, 400 frames, key frames 250 apart, x264's default
B-frames, the woman of the demo media scaled up.

python benchmarks/decode_plan.py [--repeats 5]
"""

import argparse
import json
import platform
import statistics
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import cv2
from rich.console import Console
from rich.table import Table

from dfdm_ray import assets
from dfdm_ray.labels import QUALITIES
from dfdm_ray.video.decode import VideoReader
from dfdm_ray.video.encode import QualityWriter
from dfdm_ray.video.plan import plan_frames

OUT = Path("build/bench")
SIZE = (942, 500)
NUM_FRAMES = 400
WANTED = 10
RUNS = 2


def make_videos() -> dict[int, Path]:
    paths = {crf: OUT / f"dfdm_like_crf{crf}.mp4" for crf in QUALITIES}
    if all(path.exists() for path in paths.values()):
        return paths
    source = str(assets.get("WolfgangLanger_Pexels.mp4"))
    settings = {"size": SIZE, "time_base": Fraction(1, 30), "rate": Fraction(30), "metadata": {}}
    with av.open(source) as container, QualityWriter(paths, **settings) as writer:
        for number, frame in zip(range(NUM_FRAMES), container.decode(video=0), strict=False):
            frame.pts = number
            writer.write(frame)
    return paths


def read_plan(path: Path, strategy: str) -> tuple[int, int]:
    """Return how many frames were decoded and used."""
    with VideoReader(str(path)) as reader:
        keys, count = reader.index.keys, len(reader.index)
        plan = plan_frames(strategy, keys, num_frames=count, wanted=WANTED, runs=RUNS)
        if plan is None:
            raise SystemExit(f"{path} is too short")
        used = sum(
            len(batch) for batch in reader.read_planned(plan.runs, flexible=strategy == "keyframe_runs")
        )
        return reader.num_frames_decoded, used


def read_all(path: Path) -> tuple[int, int]:
    """The usual way: OpenCV decodes every frame and ten are kept."""
    cv2.setNumThreads(1)
    video = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    decoded = 0
    while video.read()[0]:
        decoded += 1
    return decoded, WANTED


WAYS = {
    "keyframe_runs": lambda path: read_plan(path, "keyframe_runs"),
    "head": lambda path: read_plan(path, "head"),
    "uniform": lambda path: read_plan(path, "uniform"),
    "every frame (OpenCV)": read_all,
}


def measure(paths: dict[int, Path], repeats: int) -> list[dict[str, object]]:
    seconds: dict[tuple[int, str], list[float]] = {(crf, way): [] for crf in paths for way in WAYS}
    frames: dict[tuple[int, str], tuple[int, int]] = {}
    for _ in range(repeats):  # interleaved, so that a busy moment falls on all
        for crf, way in seconds:
            started = time.process_time()
            frames[crf, way] = WAYS[way](paths[crf])
            seconds[crf, way].append(time.process_time() - started)
    return [
        {
            "crf": crf,
            "way": way,
            "decoded": frames[crf, way][0],
            "used": frames[crf, way][1],
            "cpu_seconds_median": statistics.median(values),
            "cpu_seconds_spread": max(values) - min(values),
        }
        for (crf, way), values in seconds.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    paths = make_videos()
    rows = measure(paths, repeats)
    usual = {row["crf"]: row["cpu_seconds_median"] for row in rows if row["way"] == "every frame (OpenCV)"}
    console = Console()
    console.print(f"{platform.machine()}, {platform.platform()}; {' '.join(sys.argv)}; medians of {repeats}")
    table = Table("crf", "MB", "way", "decoded", "used", "decoded/used", "CPU s", "spread", "x faster")
    for row in rows:
        size = paths[row["crf"]].stat().st_size / 1e6
        ratio, faster = row["decoded"] / row["used"], usual[row["crf"]] / row["cpu_seconds_median"]
        times = f"{row['cpu_seconds_median']:.3f}", f"{row['cpu_seconds_spread']:.3f}"
        cells = (row["crf"], f"{size:.1f}", row["way"], row["decoded"], row["used"], f"{ratio:.2f}", *times)
        table.add_row(*map(str, cells), f"{faster:.1f}")
    console.print(table)
    (OUT / "decode_plan.json").write_text(
        json.dumps({"command": sys.argv, "repeats": repeats, "rows": rows}, indent=2)
    )


if __name__ == "__main__":
    main()
