"""Train variants of the network on the same crops and compare them on the test split.

::

    for each seed and variant: train -> OUT/<variant>/seed-<n>/, score --split test -> .../test/
    all predictions -> OUT/evaluation/, ablation.md, ablation.json, ablation.png

What is finished is not done again.
"""

import dataclasses
import io
import json
from dataclasses import asdict
from itertools import product
from typing import Any

import pyarrow.compute as pc
from rich.console import Console

from dfdm_ray.clips.crops_dataset import prepared, read_index
from dfdm_ray.engine.session import ray_session
from dfdm_ray.errors import UserError
from dfdm_ray.io import storage
from dfdm_ray.io.terminal import say
from dfdm_ray.jobs.ablate.config import AblateConfig, variant_config
from dfdm_ray.jobs.ablate.seeds import by_seed, draw_seeds, seeds_table
from dfdm_ray.jobs.evaluate import markdown, terminal
from dfdm_ray.jobs.evaluate.config import EvaluateConfig
from dfdm_ray.jobs.evaluate.job import evaluate
from dfdm_ray.jobs.score.config import ScoreConfig
from dfdm_ray.jobs.score.job import score
from dfdm_ray.jobs.train.config import TrainConfig
from dfdm_ray.jobs.train.inputs import check_task
from dfdm_ray.jobs.train.job import train

_TEST = "test"


def ablate(config: AblateConfig, console: Console) -> dict[str, Any]:
    """Train and test every variant with every seed; return what stands in ``ablation.json``.

    Raises:
        UserError: If an input is wrong for any variant, or a folder below ``config.out`` holds another
            training.
    """
    config = dataclasses.replace(
        config, crops=storage.absolute(config.crops), out=storage.absolute(config.out)
    )
    jobs = {
        f"{variant} {seed}": variant_config(
            config, variant, seed=seed, out=storage.join(config.out, variant, f"seed-{seed}")
        )
        for seed, variant in product(config.seeds, config.variants)
    }
    _check(config, list(jobs.values()))
    predictions = {}
    with ray_session(config.ray_address, worker_output=False):
        for number, (name, job) in enumerate(jobs.items(), start=1):
            console.rule(f"{number}/{len(jobs)}: {name}")
            predictions[name] = _train_and_score(config, job, console)
    return _report(config, predictions, console)


def _check(config: AblateConfig, jobs: list[TrainConfig]) -> None:
    """Find what is wrong with any of them before the first is trained."""
    for job in jobs:
        check_task(job)
    index = prepared(read_index(config.crops))
    if not index.filter(pc.equal(index["split"], _TEST)).num_rows:
        raise UserError(f"{config.crops} has no videos in the split {_TEST}, on which variants are compared")


def _train_and_score(config: AblateConfig, job: TrainConfig, console: Console) -> str:
    """Return the folder of the predictions."""
    trained = train(job, console)
    out = storage.join(job.out, _TEST)
    test = ScoreConfig(crops=config.crops, split=_TEST, checkpoint=trained.checkpoint, out=out)
    score(test, console)
    return out


def _report(config: AblateConfig, predictions: dict[str, str], console: Console) -> dict[str, Any]:
    job = EvaluateConfig(
        predictions=tuple(predictions.values()),
        names=tuple(predictions),
        out=storage.join(config.out, "evaluation"),
        split=_TEST,
        overwrite=True,
    )
    runs = {run["name"]: run for run in evaluate(job, Console(file=io.StringIO()))["runs"]}
    variants: dict[str, Any] = {
        variant: by_seed([runs[f"{variant} {seed}"] for seed in config.seeds]) for variant in config.variants
    }
    first = next(iter(runs.values()))
    counts = {name: first[name] for name in ("num_videos", "num_groups")}
    report = {"config": asdict(config), "seeds": list(config.seeds), **counts, "variants": variants}
    table = seeds_table(variants, **counts)
    files = {
        "ablation.json": json.dumps(report, indent=2).encode(),
        "ablation.md": "\n".join(markdown.table_lines(table)).encode(),
        "ablation.png": draw_seeds(variants, chance=first["chance"]["one_in_k"]),
    }
    for name, content in files.items():
        storage.write_atomic(storage.join(config.out, name), content)
    console.print(terminal.rich_table_of(table))
    for name in (*files, "evaluation/report.html"):
        say(console, f"{config.out}/{name}")
    return report
