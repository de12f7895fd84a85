"""Does a training on meaningless labels end at chance? If not, the test split leaks the answer.

The benchmark repeats a finished training with the same settings on the same crops, after shuffling the
generators' names among the swaps of each scene; a swap has the same wrong name at all qualities. It
tests both trainings on the split test: the shuffled one on its shuffled names and on the true names.

python benchmarks/shuffled_labels.py --training build/demo/training [--repeats 1]
"""

import json
import os
import shutil
import statistics
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from report import OUT, Table, parser, save, show
from rich.console import Console

from dfdm_ray.clips.crops_dataset import INDEX_FOLDER, read_index
from dfdm_ray.engine.session import ray_session
from dfdm_ray.io import storage
from dfdm_ray.jobs.score.config import ScoreConfig
from dfdm_ray.jobs.score.job import score
from dfdm_ray.jobs.train.config import ClipAugmentConfig, NetworkConfig, Recipe, TrainConfig
from dfdm_ray.jobs.train.job import train
from dfdm_ray.labels import REAL

FOLDER = OUT / "shuffled_labels"


def read_config(training: Path) -> TrainConfig:
    values = json.loads((training / "run.json").read_text())["config"]
    augment = values["recipe"].pop("augment")
    augment["h264_crf"] = tuple(augment["h264_crf"])
    steps = tuple(values["recipe"].pop("step_epochs"))
    recipe = Recipe(**values.pop("recipe"), step_epochs=steps, augment=ClipAugmentConfig(**augment))
    network = NetworkConfig(**values.pop("network"))
    crf = tuple(values.pop("crf"))
    return TrainConfig(**{**values, "overwrite": False}, recipe=recipe, network=network, crf=crf)


def shuffled_names(index: pa.Table, rng: np.random.Generator) -> list[str | None]:
    """Return a name for each row, shuffled among the swaps of a scene, the same at all qualities."""
    scene = ("target_identity", "source_identity", "scene")
    rows = index.select(["generator", *scene]).to_pylist()
    names: dict[tuple[Any, ...], set[str]] = defaultdict(set)
    for row in rows:
        if row["generator"]:
            names[tuple(row[part] for part in scene)].add(row["generator"])
    other = {
        group: dict(zip(sorted(found), rng.permutation(sorted(found)).tolist(), strict=True))
        for group, found in names.items()
    }
    return [other[tuple(row[part] for part in scene)].get(row["generator"]) for row in rows]


def write_shuffled(crops: str, out: Path, *, seed: int) -> None:
    """Write a copy of the dataset with shuffled names; the crops are hard links."""
    shutil.copytree(crops, out, copy_function=os.link, dirs_exist_ok=True)
    index = read_index(crops)
    names = shuffled_names(index, np.random.default_rng(seed))
    place = index.column_names.index("generator")
    shutil.rmtree(out / INDEX_FOLDER)
    shuffled = index.set_column(place, index.schema.field(place), pa.array(names, pa.string()))
    storage.write_parquet(str(out / INDEX_FOLDER / "part-00000.parquet"), shuffled)


def test_accuracy(
    crops: str, checkpoint: str, out: Path, console: Console, true: dict[str, str]
) -> list[float]:
    """Return the accuracy on the swaps of the test split by the dataset's names and by the true names."""
    job = ScoreConfig(crops=crops, split="test", checkpoint=checkpoint, out=str(out))
    rows = score(job, console).predictions.to_pylist()
    rows = [row for row in rows if row["generator"] and row["true_generator"] != REAL]
    return [
        statistics.fmean(row["generator"] == name for row, name in zip(rows, names, strict=True))
        for names in ([row["true_generator"] for row in rows], [true[row["video_id"]] for row in rows])
    ]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--training", type=Path, required=True, help="output folder of `dfdm-ray train`")
    options.add_argument("--repeats", type=int, default=1, help="number of shuffles, with a training each")
    args = options.parse_args()
    console = Console()
    config = read_config(args.training)
    shutil.rmtree(FOLDER, ignore_errors=True)
    rows = []
    with ray_session(None, worker_output=False):
        index = read_index(config.crops)
        true = dict(zip(index["video_id"].to_pylist(), index["generator"].to_pylist(), strict=True))
        checkpoint = str(args.training / "dma_sta.pt")
        real, _ = test_accuracy(config.crops, checkpoint, FOLDER / "real", console, true)
        for number in range(args.repeats):
            folder = FOLDER / str(number)
            write_shuffled(config.crops, folder / "crops", seed=number)
            job = replace(config, crops=str(folder / "crops"), out=str(folder / "training"))
            trained = train(job, console)
            rows.append(test_accuracy(job.crops, trained.checkpoint, folder / "test", console, true))
    cells = [["true", f"{real:.0%}", f"{real:.0%}"]]
    cells += [[f"shuffled, {n}", f"{own:.0%}", f"{by_true:.0%}"] for n, (own, by_true) in enumerate(rows)]
    headings = ["labels of the training", "tested on its names", "tested on true names"]
    show(Table(headings=headings, rows=cells))
    save("shuffled_labels", true=real, shuffled=rows)


if __name__ == "__main__":
    main()
