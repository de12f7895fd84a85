"""Train variants of the network on the same crops and compare them on the test split.

::

    for each seed and variant: train -> OUT/<variant>/seed-<n>/, score --split test -> .../test/
    all predictions -> OUT/evaluation/, ablation.md, ablation.json, ablation.png

Finished trainings and predictions are reused.
"""

import io
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import product
from typing import Any

import pyarrow.compute as pc
from matplotlib.figure import Figure
from rich.console import Console

from dfdm_ray.clips.crops_dataset import prepared, read_index
from dfdm_ray.engine.session import ray_session
from dfdm_ray.errors import UserError
from dfdm_ray.io import storage
from dfdm_ray.io.terminal import say
from dfdm_ray.jobs.ablate.config import AblateConfig, variant_config
from dfdm_ray.jobs.evaluate.cases import count_of
from dfdm_ray.jobs.evaluate.config import EvaluateConfig
from dfdm_ray.jobs.evaluate.job import evaluate
from dfdm_ray.jobs.evaluate.report import Table, markdown_table, quality, terminal_table
from dfdm_ray.jobs.evaluate.summary import Metrics
from dfdm_ray.jobs.score.config import ScoreConfig
from dfdm_ray.jobs.score.job import score
from dfdm_ray.jobs.train.inputs import check_task
from dfdm_ray.jobs.train.job import train

_TEST = "test"
_SPREAD = 0.5
"""Width of the dots of one variant in the picture; variants are 1 apart."""


def ablate(config: AblateConfig, console: Console) -> dict[str, Any]:
    """Train and test every variant with every seed; return the content of ``ablation.json``.

    Raises:
        UserError: If an input is wrong for any variant, or a folder below ``config.out`` contains another
            training.
    """
    config = replace(config, crops=storage.absolute(config.crops), out=storage.absolute(config.out))
    jobs = {
        f"{variant} {seed}": variant_config(
            config, variant, seed=seed, out=storage.join(config.out, variant, f"seed-{seed}")
        )
        for seed, variant in product(config.seeds, config.variants)
    }
    for job in jobs.values():
        check_task(job)
    index = prepared(read_index(config.crops))
    if not index.filter(pc.equal(index["split"], _TEST)).num_rows:
        raise UserError(f"{config.crops} has no videos in the split {_TEST}, on which variants are compared")
    predictions = {}
    with ray_session(config.ray_address, worker_output=False):
        for number, (name, job) in enumerate(jobs.items(), start=1):
            console.rule(f"{number}/{len(jobs)}: {name}")
            trained = train(job, console)
            predictions[name] = storage.join(job.out, _TEST)
            test = ScoreConfig(
                crops=config.crops, split=_TEST, checkpoint=trained.checkpoint, out=predictions[name]
            )
            score(test, console)
    return _report(config, predictions, console)


def _report(config: AblateConfig, predictions: Mapping[str, str], console: Console) -> dict[str, Any]:
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
    counts = {name: first[name] for name in ("num_videos", "num_groups", "groups")}
    report = {"config": asdict(config), "seeds": list(config.seeds), **counts, "variants": variants}
    table = seeds_table(variants, **counts)
    files = {
        "ablation.json": json.dumps(report, indent=2).encode(),
        "ablation.md": markdown_table(table).encode(),
        "ablation.png": draw_seeds(variants, chance=first["chance"]["one_in_k"]),
    }
    for name, content in files.items():
        storage.write_atomic(storage.join(config.out, name), content)
    console.print(terminal_table(table))
    for name in (*files, "evaluation/report.html"):
        say(console, f"{config.out}/{name}")
    return report


def by_seed(runs: Sequence[Metrics]) -> Metrics:
    """Return the mean and spread of the accuracies, 0..1, of one variant.

    Returns:
        ``all`` and ``qualities`` (``[{"crf": ..., ...}]``), each with ``mean``, ``sd`` (sample standard
        deviation, ``None`` for one seed) and ``values`` in the order of ``runs``.
    """
    by_crf: dict[int | None, list[float]] = {}
    for row in (row for run in runs for row in run["qualities"]):
        by_crf.setdefault(row["crf"], []).append(row["accuracy"])
    return {
        "all": _spread([run["accuracy"] for run in runs]),
        "qualities": [{"crf": crf, **_spread(values)} for crf, values in by_crf.items()],
    }


def _spread(values: Sequence[float]) -> Metrics:
    sd = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "sd": sd, "values": list(values)}


def mean_and_spread(spread: Mapping[str, Any]) -> str:
    """Return ``mean ± standard deviation`` in percent; for one seed, the value alone."""
    mean, sd = spread["mean"], spread["sd"]
    return f"{mean:.1%}" if sd is None else f"{100 * mean:.1f} ± {100 * sd:.1f}%"


def seeds_table(variants: Mapping[str, Metrics], *, num_videos: int, num_groups: int, groups: str) -> Table:
    """Return the accuracy of each variant by quality and overall."""
    first = next(iter(variants.values()))
    headings = ("variant", *(quality(row["crf"]) for row in first["qualities"]), "all")
    rows = [
        (name, *map(mean_and_spread, one["qualities"]), mean_and_spread(one["all"]))
        for name, one in variants.items()
    ]
    alike = "of one network" if groups == "networks" else "of the same target, source and scene"
    remark = (
        f"Mean and standard deviation over {count_of(len(first['all']['values']), 'seed')}, on "
        f"{count_of(num_videos, 'test video')} in {count_of(num_groups, 'group')} {alike}. All seeds share "
        "the split, so the spread is that of training alone."
    )
    return Table("Accuracy of the variants", headings, rows, remark)


def draw_seeds(variants: Mapping[str, Metrics], *, chance: float) -> bytes:
    """Return a PNG with a dot for each seed's accuracy and a line for the mean, by variant and quality."""
    crfs = [row["crf"] for row in next(iter(variants.values()))["qualities"]]
    figure = Figure(figsize=(2.8 + 1.3 * len(variants), 4), layout="constrained")
    axes = figure.subplots()
    for place, crf in enumerate(crfs):
        offset = ((place + 0.5) / len(crfs) - 0.5) * _SPREAD
        for column, one in enumerate(variants.values()):
            row, x = one["qualities"][place], column + offset
            look: Any = {"color": f"C{place}", "alpha": 0.6, "clip_on": False}
            label = None if column else quality(crf)
            axes.plot([x] * len(row["values"]), row["values"], "o", label=label, **look)
            axes.hlines(row["mean"], x - 0.06, x + 0.06, color=f"C{place}")
    axes.axhline(chance, color="grey", linestyle="--", linewidth=1, label="chance")
    axes.set_xticks(range(len(variants)), list(variants))
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.set(ylabel="accuracy on the test split", ylim=(0, 1), xlim=(-0.5, len(variants) - 0.5))
    axes.grid(axis="y", alpha=0.3)
    figure.legend(loc="outside right upper")
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110)
    return out.getvalue()
