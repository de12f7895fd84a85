"""How long an epoch of ``dfdm-ray train`` takes, compared with another version of this repository.

Each version trains on the same crops, once in each repeat, as ``make demo`` does: ResNet-10, its recipe, two
CPU workers. The first epoch is left out: workers import and set up in it.

git worktree add build/before COMMIT
python benchmarks/epochs.py --crops build/demo/crops --against build/before [--epochs 8]
"""

import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from report import Table, parser, save, show, spread


def epochs(version: str, out: Path, args: argparse.Namespace) -> list[dict[str, float]]:
    """Train with the code in the folder ``version`` and return its history."""
    command = [sys.executable, "-m", "dfdm_ray.cli", "train", "--crops", args.crops, "--out", str(out)]
    command += ["--network.backbone", args.backbone, "--recipe.epochs", str(args.epochs)]
    environment = os.environ | {"PYTHONPATH": version, "RAY_USAGE_STATS_ENABLED": "0"}
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    with (out / "history.csv").open(newline="") as stream:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(stream)]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--crops", required=True)
    options.add_argument("--against", required=True, help="folder with another version of this repository")
    options.add_argument("--backbone", default="resnet10")
    options.add_argument("--epochs", type=int, default=8)
    options.add_argument("--repeats", type=int, default=3)
    args = options.parse_args()
    versions = {
        "before": str(Path(args.against).resolve()),
        "this version": str(Path(__file__).parents[1].resolve()),
    }
    args.crops = str(Path(args.crops).resolve())
    found: dict[str, list[list[dict[str, float]]]] = {name: [] for name in versions}
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(args.repeats):  # interleaved, so that other load affects both alike
            for name, version in versions.items():
                out = Path(folder) / f"{repeat} {name}"
                found[name].append(epochs(version, out, args))
    seconds = {
        name: [statistics.median(one["seconds"] for one in history[1:]) for history in histories]
        for name, histories in found.items()
    }
    base = statistics.median(seconds["before"])
    rows = [
        (
            name,
            spread(seconds[name], 2),
            f"{statistics.median(seconds[name]) / base:.2f}",
            *(spread([history[-1][what] for history in histories], 3) for what in ("train_loss", "val_loss")),
            spread([max(one["val_accuracy"] for one in history) for history in histories], 3),
        )
        for name, histories in found.items()
    ]
    headings = ("version", "s an epoch", "ratio", "training loss", "validation loss", "best accuracy")
    show(Table(headings=headings, rows=rows), repeats=f"medians of {args.repeats} trainings")
    save("epochs", repeats=args.repeats, found=found)


if __name__ == "__main__":
    main()
