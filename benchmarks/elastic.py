"""Time of a run whose cluster grows, with stages that sleep instead of working.

A logical node of four CPUs does 40 videos a second, whatever this machine does. The run has one node, for
which its pools are sized; in the second case, another joins while its workers start.

python benchmarks/elastic.py [--videos 1600] [--repeats 3]
"""

import statistics
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

import ray
from report import Table, parser, save, show

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support.elastic import joined_node, until
from support.sleepers import Run, is_over, run_while

_CPUS = 4


def grow(root: Path, begin: threading.Event, seen: dict[str, float], run: Run) -> None:
    """Add a node."""
    with joined_node(root, cpus=_CPUS):
        seen["joined"] = time.time()
        begin.set()
        until(lambda: is_over(run), limit_s=600)


def measure(root: Path, name: str, num_videos: int) -> dict[str, float]:
    """Return the seconds from the first row to the last and, where a node joins, until its first row."""
    seen: dict[str, float] = {}
    begin = threading.Event()
    if name == "one node":
        made, _, _ = run_while(root / "out", num_videos, lambda _: None)
    else:
        made, _, _ = run_while(root / "out", num_videos, partial(grow, root, begin, seen), begin=begin)
    times = sorted(row["pts_s"][0] for row in made)
    result = {"seconds": times[-1] - times[0]}
    if seen:
        head = ray.get_runtime_context().get_node_id()
        there = min(row["pts_s"][0] for row in made if row["scored_by"] != head)
        result["first_row_after_joining_s"] = there - seen["joined"]
    return result


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--videos", type=int, default=1600)
    options.add_argument("--repeats", type=int, default=3)
    args = options.parse_args()
    ray.init(address="local", num_cpus=_CPUS, include_dashboard=False, log_to_driver=False)
    results: dict[str, list[dict[str, float]]] = {}
    for _ in range(args.repeats):
        for name in ("one node", "a second node joins"):  # interleaved, as other load changes
            with tempfile.TemporaryDirectory() as folder:
                results.setdefault(name, []).append(measure(Path(folder), name, args.videos))
    save("elastic", videos=args.videos, results=results)
    alone = statistics.median(one["seconds"] for one in results["one node"])
    rows = []
    for name, found in results.items():
        seconds = statistics.median(one["seconds"] for one in found)
        used = [one["first_row_after_joining_s"] for one in found if "first_row_after_joining_s" in one]
        first = f"{statistics.median(used):.1f}" if used else ""
        rows.append([name, f"{seconds:.1f}", f"{seconds / alone:.2f}", first])
    headings = ["run", "seconds from first to last row", "of one node", "first row of the new node after s"]
    show(Table(headings=headings, rows=rows), repeats=f"medians of {args.repeats}")


if __name__ == "__main__":
    main()
