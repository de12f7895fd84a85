"""Throughput of `dfdm-ray score`, compared with the sum of its steps, a hand-written pool and Daft.

Each way scores a small and a large archive of the same videos, in turn. The rate is the difference in videos
over the difference in time, so that start-up does not count. All ways must give equal answers. The ideal is
the number of CPUs over the CPU seconds of a video, with all steps measured alone by floor.py.

python benchmarks/throughput.py [--quick] [--backbone resnet50] [--videos 324] [--repeats 1] [--ways pool]
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from corpus import archive, originals
from floor import STEPS, checkpoint
from report import OUT, Table, parser, save, show, spread

from dfdm_ray.labels import QUALITIES

OURS, RIVALS = "dfdm-ray", ("pool", "daft")
FEW, QUICK_FEW, QUICK_MANY = 24, 12, 60
_HERE = Path(__file__).parent


def run(way: str, videos: Path, model: Path) -> tuple[float, float, dict[str, list[float]]]:
    """Return the wall seconds, the seconds to the first row, and the probabilities by file name."""
    out = OUT / f"rows_{way}"
    shutil.rmtree(out, ignore_errors=True)
    options = ["--videos", str(videos), "--checkpoint", str(model), "--out", str(out)]
    if way == OURS:
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
    if way == OURS:
        first = json.loads((out / "run.json").read_text())["runs"][-1]["seconds_to_first_row"]
        rows = pa.concat_tables(pq.read_table(path) for path in (out / "predictions").iterdir())
    else:
        first, rows = float(ended.stdout.split()[-1]), pq.read_table(out / "rows.parquet")
    names = [Path(uri).name for uri in rows["uri"].to_pylist()]
    return seconds, first, dict(zip(names, rows["probabilities"].to_pylist(), strict=True))


def ideal_rate(backbone: str) -> float:
    """Return the videos per second of all CPUs from floor.py, for a third of the videos at each quality."""
    command = [sys.executable, str(_HERE / "floor.py"), "--quick", "--ours-only", "--backbone", backbone]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    results = json.loads((OUT / f"floor_{backbone}_ours.json").read_text())["results"]
    times = [sum(results[str(crf)]["ms"][step] for step in STEPS) for crf in QUALITIES]
    return 1000 * (os.cpu_count() or 1) / statistics.mean(times)


def measure(args: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Return, for each way, videos per second, seconds to the first row and seconds in total."""
    model, ways = checkpoint(args.backbone), (OURS, *args.ways)
    videos = originals(OUT / "corpus", num_scenes=2 if args.quick else 4)
    least = QUICK_FEW if args.quick else FEW
    few, many = (archive(OUT / "corpus", videos, num_videos=count) for count in (least, args.videos))
    figures: dict[str, dict[str, list[float]]] = {way: {} for way in ("ideal", *ways)}
    for _ in range(args.repeats):
        figures["ideal"].setdefault("videos/s", []).append(ideal_rate(args.backbone))
        answers = {}
        for way in ways:  # in turn, so that other load affects all alike
            short, _, _ = run(way, few, model)
            seconds, first, answers[way] = run(way, many, model)
            rate = (args.videos - least) / (seconds - short)
            for name, value in (("videos/s", rate), ("first row, s", first), ("all, s", seconds)):
                figures[way].setdefault(name, []).append(value)
        check_equal(answers)
    return figures


def check_equal(answers: dict[str, dict[str, list[float]]]) -> None:
    """Exit with an error unless all ways give equal answers for the same videos."""
    ours = answers[OURS]
    for way, theirs in answers.items():
        if theirs.keys() != ours.keys():
            raise SystemExit(f"{way} did not score the same videos as dfdm-ray")
        most = max(np.abs(np.subtract(ours[name], theirs[name])).max() for name in ours)
        if most > 1e-3:
            raise SystemExit(f"probabilities of {way} differ from those of dfdm-ray by up to {most:.2g}")


def table_of(content: Mapping[str, Any]) -> Table:
    """Return the table of what this benchmark wrote as JSON."""
    figures = content["figures"]
    ours, rows = statistics.median(figures[OURS]["videos/s"]), []
    for way, columns in figures.items():
        rates = columns["videos/s"]
        row = [way, spread(rates, 2), f"{ours / statistics.median(rates):.2f}"]
        later = [columns.get(name) for name in ("first row, s", "all, s")]
        rows.append([*row, *(f"{statistics.median(times):.1f}" if times else "" for times in later)])
    headings = ["way", "videos/s", "dfdm-ray / this", "first row, s", "all, s"]
    return Table(title=f"{content['backbone']}, {content['videos']} videos", headings=headings, rows=rows)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--quick", action="store_true", help=f"{QUICK_MANY} videos and a small network")
    options.add_argument("--backbone", default="resnet50")
    options.add_argument("--videos", type=int, default=324)
    options.add_argument("--repeats", type=int, default=1)
    options.add_argument("--ways", nargs="+", choices=RIVALS, default=RIVALS, help="what to compare with")
    args = options.parse_args()
    if args.quick:
        args.videos, args.backbone = QUICK_MANY, "resnet10"
    content = {"backbone": args.backbone, "videos": args.videos, "repeats": args.repeats}
    content["figures"] = measure(args)
    show(table_of(content), repeats=f"medians of {args.repeats}")
    save(f"throughput_{args.backbone}", **content)


if __name__ == "__main__":
    main()
