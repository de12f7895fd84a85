"""Plots of the page that `make bench` writes, as PNG."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

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
    """Draw the CPU time of a video by step and quality, for `score` and the usual way."""
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
        axes.set(xlabel="CPU seconds per video, one core")
        axes.legend(ncols=len(groups), loc="lower center", bbox_to_anchor=(0.5, 1.0))
        _save(figure, path, grid="x")


def ways_png(path: Path, figures: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    """Draw the videos per second of each way; every repeat is a dot."""
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
        axes.set(xlabel="videos per second, without start-up")
        _save(figure, path, grid="x")


def _save(figure: Figure, path: Path, *, grid: Any) -> None:
    for one in figure.axes:
        one.grid(axis=grid)
        one.set_axisbelow(True)
    figure.savefig(path, facecolor="white")
