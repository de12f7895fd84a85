"""Plots of the page as inline SVG in the colours of the page, which has a light and a dark scheme.

matplotlib writes fixed colours; the four used here stand for roles and are replaced by CSS variables. Text
stays text.
"""

import io
import re
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from dfdm_ray.jobs.evaluate.report import percent, quality
from dfdm_ray.jobs.evaluate.summary import Metrics

_INK, _MUTED, _ACCENT, _SECOND = "#010203", "#010204", "#010205", "#010206"
_ROLES = {_INK: "var(--ink)", _MUTED: "var(--muted)", _ACCENT: "var(--accent)", _SECOND: "var(--second)"}
_STYLE = Path(__file__).with_name("plots.mplstyle")
_WIDTH, _HEIGHT = 4.3, 3.8
"""Size of a plot in inches."""


def draw(metrics: Metrics, *, name: str) -> dict[str, str]:
    """Return the plots of one predictions input by title; ``name`` makes their ids unique on a page."""
    chance = metrics["chance"]["one_in_k"]
    generators = [row["generator"] for row in metrics["generators"]]
    qualities = [f"{quality(row['crf'])} ({row['num_videos']})" for row in metrics["qualities"]]
    with mpl.rc_context(fname=_STYLE):
        figures = {
            "Confusion matrix": _confusion(metrics),
            "Reliability": _reliability(metrics),
            "Recall by generator": _bars(generators, metrics["generators"], "recall", chance=chance),
            "Accuracy by quality": _bars(qualities, metrics["qualities"], "accuracy", chance=chance),
        }
        return {
            title: _svg(figure, name=f"{name}-{title.split()[0].lower()}", label=title)
            for title, figure in figures.items()
        }


def _svg(figure: Figure, *, name: str, label: str) -> str:
    out = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(out, format="svg", transparent=True, metadata=nothing)
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r"url\(#", f"url(#{name}-", text).replace('href="#', f'href="#{name}-')
    for colour, role in _ROLES.items():
        text = text.replace(colour, role)
    text = re.sub(r' (width|height)="[^"]*pt"', "", text, count=2)
    style = f'<svg role="img" aria-label="{label}" style="max-width: {figure.get_figwidth()}in"'
    return text.replace("<svg", style, 1).strip()


def _confusion(metrics: Metrics) -> Figure:
    """Draw the shares of each row as shades, with counts."""
    classes, counts, shares = (metrics["confusion"][key] for key in ("classes", "counts", "row_shares"))
    figure = Figure(figsize=(_WIDTH, _HEIGHT), layout="constrained")
    axes = figure.subplots()
    for row, column in product(range(len(classes)), repeat=2):
        share, corner = shares[row][column], (column - 0.48, row - 0.48)
        colour = _ACCENT if row == column else _SECOND
        axes.add_patch(Rectangle(corner, 0.96, 0.96, facecolor=colour, alpha=0.04 + 0.56 * (share or 0)))
        axes.text(column, row - 0.12, counts[row][column], ha="center", va="center", fontsize=11)
        axes.text(column, row + 0.2, percent(share), ha="center", va="center", fontsize=8)
    ends = -0.5, len(classes) - 0.5
    axes.set(xlim=ends, ylim=ends[::-1], xlabel="attributed to", ylabel="made by", aspect="equal")
    axes.set_xticks(range(len(classes)), classes, rotation=30, ha="right")
    axes.set_yticks(range(len(classes)), classes)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def _reliability(metrics: Metrics) -> Figure:
    """Draw accuracy against probability in the bins of the calibration error."""
    bins = [one for one in metrics["calibration"]["bins"] if one["num_videos"]]
    shares = [one["num_videos"] / metrics["num_videos"] for one in bins]
    middles = [(one["low"] + one["high"]) / 2 for one in bins]
    width = 0.94 * (bins[0]["high"] - bins[0]["low"])
    confidence, accuracy = ([one[key] for one in bins] for key in ("confidence", "accuracy"))
    figure = Figure(figsize=(_WIDTH, _HEIGHT), layout="constrained")
    axes, counts = figure.subplots(2, 1, height_ratios=(4, 1), sharex=True)
    axes.plot((0, 1), (0, 1), color=_MUTED, linestyle="--", linewidth=1.2)
    axes.bar(middles, accuracy, width, color=_ACCENT, alpha=0.35)
    axes.plot(confidence, accuracy, "o-", color=_ACCENT, linewidth=1.4, markersize=5, clip_on=False)
    counts.bar(middles, shares, width, color=_ACCENT, alpha=0.6)
    axes.set(ylim=(0, 1), ylabel="accuracy")
    axes.set_yticks((0, 0.5, 1), ("0%", "50%", "100%"))
    axes.grid()
    counts.set_yticks((0, max(shares)), ("0%", f"{max(shares):.0%}"))
    counts.set_ylabel("videos")
    counts.grid()
    _percent_axis(counts, "probability of the attribution; dashed: calibrated")
    return figure


def _bars(names: Sequence[str], rows: Sequence[Metrics], key: str, *, chance: float) -> Figure:
    """Draw ``key`` of each row as a bar with its interval."""
    figure = Figure(figsize=(_WIDTH, 0.5 * len(rows) + 1.1), layout="constrained")
    axes = figure.subplots()
    for at, row in enumerate(rows):
        value, interval = row[key], row[f"{key}_interval"]
        if value is None:
            axes.text(0.01, at, "no videos", va="center", color=_MUTED, fontsize=9)
            continue
        axes.barh(at, value, height=0.62, color=_ACCENT, alpha=0.6)
        if interval is not None:
            error = [[max(value - interval[0], 0)], [max(interval[1] - value, 0)]]
            look: Any = {"fmt": "none", "color": _INK, "capsize": 4, "linewidth": 1.4, "clip_on": False}
            axes.errorbar(value, at, xerr=error, **look)
    axes.axvline(chance, color=_SECOND, linestyle="--", linewidth=1.2)
    axes.set_yticks(range(len(rows)), names)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="x")
    _percent_axis(axes, f"{key}; dashed: guessing")
    return figure


def _percent_axis(axes: Axes, label: str) -> None:
    axes.set(xlim=(0, 1), xlabel=label)
    axes.set_xticks((0, 0.25, 0.5, 0.75, 1), ("0%", "25%", "50%", "75%", "100%"))
