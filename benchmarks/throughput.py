"""`dfdm-ray score` against the sum of its steps, a hand-written pool and Daft, on the same videos.

Each way is run on few and on many videos, in turn; the difference of the two times is what the videos between
them cost, without start-up. Answers are checked to be equal. The ideal is the number of CPUs over the CPU
seconds of a video, all steps measured alone by floor.py.

python benchmarks/throughput.py [--quick] [--backbone resnet50] [--videos 324] [--repeats 1]
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from corpus import archive, originals
from floor import OUT, STEPS, checkpoint
from rich.console import Console
from rich.table import Table
from timing import machine

from dfdm_ray.labels import QUALITIES

WAYS = ("dfdm-ray", "pool", "daft")
FEW, QUICK_FEW, QUICK_MANY = 24, 12, 60
_HERE = Path(__file__).parent


def run(way: str, videos: Path, model: Path) -> tuple[float, float, dict[str, list[float]]]:
    """Return wall seconds, seconds to the first row, and the probabilities by file name."""
    out = OUT / f"rows_{way}"
    shutil.rmtree(out, ignore_errors=True)
    options = ["--videos", str(videos), "--checkpoint", str(model), "--out", str(out)]
    if way == "dfdm-ray":
        command = [str(Path(sys.executable).parent / "dfdm-ray"), "score", *options]
    else:
        out.mkdir()
        options[-1] = str(out / "rows.parquet")
        command = [sys.executable, str(_HERE / "rivals.py"), way, *options]
    path = os.pathsep.join(filter(None, (str(_HERE), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path, "DAFT_PROGRESS_BAR": "0"}
    started = time.monotonic()
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - started
    if ended.returncode:
        raise SystemExit(f"{way} failed:\n{ended.stderr[-3000:]}")
    if way == "dfdm-ray":
        first = json.loads((out / "run.json").read_text())["runs"][-1]["seconds_to_first_row"]
        rows = pa.concat_tables(pq.read_table(path) for path in (out / "predictions").iterdir())
    else:
        first, rows = float(ended.stdout.split()[-1]), pq.read_table(out / "rows.parquet")
    names = [Path(uri).name for uri in rows["uri"].to_pylist()]
    return seconds, first, dict(zip(names, rows["probabilities"].to_pylist(), strict=True))


def ideal_rate(backbone: str) -> float:
    """Return videos a second of all CPUs by floor.py, a third of each quality."""
    command = [sys.executable, str(_HERE / "floor.py"), "--quick", "--ours-only", "--backbone", backbone]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    results = json.loads((OUT / f"floor_{backbone}_ours.json").read_text())["results"]
    times = [sum(results[str(crf)]["ms"][step] for step in STEPS) for crf in QUALITIES]
    return 1000 * (os.cpu_count() or 1) / statistics.mean(times)


def measure(args: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Return, for each way, videos a second, seconds to the first row and seconds in all."""
    model = checkpoint(args.backbone)
    videos = originals(OUT / "corpus", num_scenes=2 if args.quick else 4)
    least = QUICK_FEW if args.quick else FEW
    few, many = (archive(OUT / "corpus", videos, num_videos=count) for count in (least, args.videos))
    figures: dict[str, dict[str, list[float]]] = {way: {} for way in ("ideal", *WAYS)}
    for _ in range(args.repeats):
        figures["ideal"].setdefault("videos/s", []).append(ideal_rate(args.backbone))
        answers = {}
        for way in WAYS:  # in turn, so that a busy minute falls on all
            short, _, _ = run(way, few, model)
            seconds, first, answers[way] = run(way, many, model)
            rate = (args.videos - least) / (seconds - short)
            for name, value in (("videos/s", rate), ("first row, s", first), ("all, s", seconds)):
                figures[way].setdefault(name, []).append(value)
        check_equal(answers)
    return figures


def check_equal(answers: dict[str, dict[str, list[float]]]) -> None:
    """Stop unless all ways say the same of the same videos."""
    ours = answers["dfdm-ray"]
    for way, theirs in answers.items():
        if theirs.keys() != ours.keys():
            raise SystemExit(f"{way} has other videos than dfdm-ray")
        most = max(np.abs(np.subtract(ours[name], theirs[name])).max() for name in ours)
        if most > 1e-3:
            raise SystemExit(f"{way} differs from dfdm-ray by {most:.2g}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_MANY} videos and a small network")
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--videos", type=int, default=324)
    parser.add_argument("--repeats", type=int, default=1)
    args = parser.parse_args()
    if args.quick:
        args.videos, args.backbone = QUICK_MANY, "resnet10"
    figures = measure(args)
    median = {
        way: {name: statistics.median(v) for name, v in columns.items()} for way, columns in figures.items()
    }
    console = Console(width=110)
    console.print(f"{machine('cpu')}, {os.cpu_count()} CPUs; {' '.join(sys.argv)}; medians of {args.repeats}")
    table = Table("way", "videos/s", "spread", "dfdm-ray / this", "first row, s", "all, s")
    for way, row in median.items():
        rates = figures[way]["videos/s"]
        ratio = median["dfdm-ray"]["videos/s"] / row["videos/s"]
        later = [f"{row[name]:.1f}" if name in row else "" for name in ("first row, s", "all, s")]
        table.add_row(way, f"{row['videos/s']:.2f}", f"{max(rates) - min(rates):.2f}", f"{ratio:.2f}", *later)
    console.print(table)
    content = {"command": sys.argv, "machine": machine("cpu"), "videos": args.videos, "figures": figures}
    content |= {"backbone": args.backbone, "repeats": args.repeats}
    (OUT / f"throughput_{args.backbone}.json").write_text(json.dumps(content, indent=2))


if __name__ == "__main__":
    main()
