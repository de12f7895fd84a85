"""The plots of the page of `make bench`, as PNG."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scale_model import MILLION, Node, Storage
from scale_tables import costs_in, predicted
from simulation_tables import simulated

from dfdm_ray.labels import QUALITIES

_INK, _MUTED = "#1c1f24", "#9aa0a8"
_COLOURS = ("#4c78a8", "#f2a541", "#54a06c", "#b5555b", "#8668a5", "#6f7a86")
_STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": _INK,
    "axes.edgecolor": _MUTED,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _MUTED,
    "grid.alpha": 0.35,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "savefig.dpi": 144,
}
_WAYS = {"ideal": "ideal: sum of the steps", "dfdm-ray": "dfdm-ray score", "pool": "pool", "daft": "Daft"}
Content = Mapping[str, Any]


def steps_png(path: Path, floor: Content) -> None:
    """Draw CPU time of a video by step and quality, ours beside the usual way."""
    groups = (
        ("decode", ("open", "decode, to RGB"), ("usual: every frame (OpenCV)",)),
        ("detect", ("detect",), ("usual: detect, full size",)),
        ("crop", ("crop",), ("usual: crop",)),
        ("model", ("model",), ("usual: frame by frame",)),
    )
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 3.6), layout="constrained")
        axes = figure.subplots()
        labels: list[str] = []
        bars = [(crf, way) for crf in QUALITIES for way in (2, 1)]
        for at, (crf, way) in enumerate(bars):
            ms, left = floor["results"][str(crf)]["ms"], 0.0
            place = at + 0.25 * (at // 2)
            for group, colour in zip(groups, _COLOURS, strict=False):
                width = sum(ms[step] for step in group[3 - way]) / 1000
                axes.barh(place, width, 0.72, left=left, color=colour, label=None if at else group[0])
                left += width
            axes.text(left, place, f" {left:.2f} s", va="center", fontsize=9)
            labels.append(f"crf {crf}, {'usual' if way == 1 else 'score'}")
        axes.set_yticks([at + 0.25 * (at // 2) for at in range(len(bars))], labels)
        axes.invert_yaxis()
        axes.margins(x=0.12)
        axes.set(xlabel="CPU seconds of one core for a video")
        axes.legend(ncols=len(groups), loc="lower center", bbox_to_anchor=(0.5, 1.0))
        _save(figure, path, grid="x")


def ways_png(path: Path, figures: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    """Draw videos a second of each way; every repeat is a dot."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 2.4), layout="constrained")
        axes = figure.subplots()
        for at, (way, columns) in enumerate(figures.items()):
            rates = columns["videos/s"]
            middle = statistics.median(rates)
            colour = _MUTED if way == "ideal" else _COLOURS[0] if way == "dfdm-ray" else _COLOURS[5]
            axes.barh(at, middle, 0.66, color=colour, alpha=0.7)
            if len(rates) > 1:
                axes.plot(rates, [at] * len(rates), "o", color=_INK, markersize=4)
            axes.text(max(rates), at, f"  {middle:.2f}", va="center", fontsize=9)
        axes.set_yticks(range(len(figures)), [_WAYS[way] for way in figures])
        axes.invert_yaxis()
        axes.margins(x=0.1)
        axes.set(xlabel="videos a second, without start-up")
        _save(figure, path, grid="x")


def simulated_png(path: Path, scale: Content) -> None:
    """Draw simulated rates over logical nodes, beside what the model says."""
    groups = [one for one in simulated(costs_in(scale), scale) if one.raylets == 1]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 4.2), layout="constrained")
        axes = figure.subplots()
        nodes = sorted({one.nodes for one in groups})
        axes.plot(nodes, [groups[0].ideal / groups[0].nodes * n for n in nodes], "--", color=_MUTED)
        axes.annotate("ideal", (nodes[-1], groups[-1].ideal), (6, 0), textcoords="offset points", va="center")
        for rows, colour in zip(sorted({one.rows for one in groups}), _COLOURS, strict=False):
            own = [one for one in groups if one.rows == rows]
            at, middles = [one.nodes for one in own], [statistics.median(one.rates) for one in own]
            spread = [[m - min(o.rates) for m, o in zip(middles, own, strict=True)]]
            spread.append([max(o.rates) - m for m, o in zip(middles, own, strict=True)])
            label = f"{rows} video{'s' * (rows > 1)} a block"
            axes.errorbar(at, middles, spread, fmt="o-", color=colour, capsize=3, label=label)
            axes.plot(at, [one.predicted for one in own], "x", color=colour, markersize=8)
        axes.plot([], [], "o", color=_MUTED, label="simulated")
        axes.plot([], [], "x", color=_MUTED, label="predicted")
        _doubling(axes, nodes)
        axes.set(xlabel="logical nodes, all on one machine", ylabel="videos a second")
        axes.legend(fontsize=9)
        _save(figure, path, grid="both")


def predicted_png(path: Path, scale: Content) -> None:
    """Draw predicted rates of the kinds of nodes over their number, by storage."""
    costs, storages = costs_in(scale), [Storage(**storage) for storage in scale["storages"]]
    counts = [2**power for power in range(7)]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(9.0, 4.4), layout="constrained")
        for storage, axes in zip(storages, figure.subplots(1, len(storages), sharey=True), strict=True):
            for at, (raw, colour) in enumerate(zip(scale["nodes"], _COLOURS, strict=False)):
                node, size = Node(**raw), 9 - 1.5 * at  # equal ones show behind each other
                ones = [predicted(MILLION, node, count, costs, storage) for count in counts]
                rates = [one.rate for one in ones]
                axes.plot(counts, rates, "o-", color=colour, markersize=size, label=node.name)
            for name in ("driver", "storage"):
                limit = ones[-1].limits[name]
                axes.axhline(limit, color=_MUTED, linestyle="--", linewidth=1.2)
                place = {"xytext": (0, 3), "textcoords": "offset points", "fontsize": 9}
                axes.annotate(f"{name}: {limit:.0f}", (1, limit), **place)
            _doubling(axes, counts)
            axes.set(xlabel="nodes", title=f"videos from {storage.name}")
            axes.label_outer()
        figure.axes[0].set_ylabel("videos a second, predicted")
        axes.legend(fontsize=9, loc="lower right")
        _save(figure, path, grid="both")


def _doubling(axes: Axes, counts: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.yaxis.set_major_formatter("{x:.0f}")


def _save(figure: Figure, path: Path, *, grid: Any) -> None:
    for one in figure.axes:
        one.grid(axis=grid)
        one.set_axisbelow(True)
    figure.savefig(path, facecolor="white")
