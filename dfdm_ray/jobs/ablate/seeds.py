"""Variants of a network, each trained with several seeds: mean and spread of accuracy, and a picture."""

import io
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from dfdm_ray.jobs.evaluate.sections import Metrics, Table
from dfdm_ray.jobs.evaluate.wording import count_of, quality

_JITTER = 0.5
"""Width of a variant's cloud of seeds in the picture, of the distance between variants."""


def by_seed(runs: Sequence[Metrics]) -> Metrics:
    """Return mean and spread over the runs of one variant, one run for each seed.

    Args:
        runs: As from :func:`dfdm_ray.jobs.evaluate.summary.summarise`, all on the same videos.

    Returns:
        ``all`` and ``qualities`` (``[{"crf": ..., ...}]``), each with ``mean``, ``sd`` (of a sample, ``None``
        for one seed) and ``values`` in the order of ``runs``; accuracies are 0..1.
    """
    qualities = [row["crf"] for row in runs[0]["qualities"]]
    values = {
        crf: [row["accuracy"] for run in runs for row in run["qualities"] if row["crf"] == crf]
        for crf in qualities
    }
    return {
        "all": _spread([run["accuracy"] for run in runs]),
        "qualities": [{"crf": crf, **_spread(values[crf])} for crf in qualities],
    }


def _spread(values: Sequence[float]) -> Metrics:
    sd = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "sd": sd, "values": list(values)}


def mean_and_spread(spread: Mapping[str, Any]) -> str:
    """Return ``mean ± standard deviation`` in percent, of one seed the value alone."""
    mean, sd = spread["mean"], spread["sd"]
    return f"{mean:.1%}" if sd is None else f"{100 * mean:.1f} ± {100 * sd:.1f}%"


def seeds_table(variants: Mapping[str, Metrics], *, num_videos: int, num_groups: int) -> Table:
    """Return the accuracy of each variant, a row each, by quality and overall.

    Args:
        variants: :func:`by_seed` of each.
        num_videos: On which all were tested.
        num_groups: Of videos that are near copies of each other.
    """
    first = next(iter(variants.values()))
    seeds = len(first["all"]["values"])
    return Table(
        title="Accuracy of the variants",
        headings=("variant", *(quality(row["crf"]) for row in first["qualities"]), "all"),
        rows=[
            (name, *map(mean_and_spread, one["qualities"]), mean_and_spread(one["all"]))
            for name, one in variants.items()
        ],
        remark=f"Mean and standard deviation over {count_of(seeds, 'seed')}, on "
        f"{count_of(num_videos, 'test video')} in {count_of(num_groups, 'group')} of the same target, source "
        "and scene. All seeds share the split: the spread is that of training alone.",
    )


def draw_seeds(variants: Mapping[str, Metrics], *, chance: float) -> bytes:
    """Return a PNG with a dot for each seed's accuracy and a bar for the mean, by variant and quality."""
    qualities = [row["crf"] for row in next(iter(variants.values()))["qualities"]]
    figure = Figure(figsize=(2 + 1.3 * len(variants), 4), layout="constrained")
    axes = figure.subplots()
    for place, crf in enumerate(qualities):
        offset = ((place + 0.5) / len(qualities) - 0.5) * _JITTER
        for column, one in enumerate(variants.values()):
            row = one["qualities"][place]
            x = column + offset
            colour = f"C{place}"
            label = quality(crf) if not column else None
            axes.plot([x] * len(row["values"]), row["values"], "o", color=colour, alpha=0.6, label=label)
            axes.hlines(row["mean"], x - 0.06, x + 0.06, color=colour)
    axes.axhline(chance, color="grey", linestyle="--", linewidth=1, label="chance")
    axes.set_xticks(range(len(variants)), list(variants))
    axes.set(ylabel="accuracy on the test split", ylim=(0, 1))
    axes.grid(axis="y", alpha=0.3)
    axes.legend(loc="lower left")
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110)
    return out.getvalue()
