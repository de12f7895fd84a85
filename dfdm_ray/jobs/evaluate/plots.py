"""Plots of the page as inline SVG whose colours are the page's, so that they follow its light or dark scheme.

matplotlib writes fixed colours; four that stand for roles are replaced by CSS variables. Text stays text.
"""

import io
import re
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from dfdm_ray.jobs.evaluate.sections import Metrics
from dfdm_ray.jobs.evaluate.wording import percent, quality

_INK, _MUTED, _ACCENT, _SECOND = "#010203", "#010204", "#010205", "#010206"
_ROLES = {_INK: "var(--ink)", _MUTED: "var(--muted)", _ACCENT: "var(--accent)", _SECOND: "var(--second)"}
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "dfdm-ray",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": _INK,
    "text.parse_math": False,
    "axes.edgecolor": _MUTED,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _MUTED,
    "grid.alpha": 0.35,
    "grid.linewidth": 0.6,
}


def _svg(figure: Figure, *, name: str, label: str) -> str:
    """Return ``figure`` as an ``<svg>`` element; ``name`` keeps its ids apart from other plots' on a page."""
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
    width = re.search(r'width="([\d.]+)pt"', text)
    assert width is not None  # matplotlib always writes it
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    style = f'<svg role="img" aria-label="{label}" style="max-width: {float(width[1]) * 1.35:.0f}px"'
    return text.replace("<svg", style, 1).strip()


def confusion_svg(metrics: Metrics, *, name: str) -> str:
    """Draw the confusion matrix: row shares as shades, with counts."""
    classes = metrics["confusion"]["classes"]
    num_classes = len(classes)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(4.3, 3.8), layout="constrained")
        axes = figure.subplots()
        for row in range(num_classes):
            for column in range(num_classes):
                count = metrics["confusion"]["counts"][row][column]
                share = metrics["confusion"]["row_shares"][row][column]
                shade = Rectangle(
                    (column - 0.48, row - 0.48),
                    0.96,
                    0.96,
                    facecolor=_ACCENT if row == column else _SECOND,
                    alpha=0.04 + 0.56 * (share or 0.0),
                )
                axes.add_patch(shade)
                axes.text(column, row - 0.12, str(count), ha="center", va="center", fontsize=11)
                axes.text(column, row + 0.2, percent(share), ha="center", va="center", fontsize=8)
        axes.set(
            xlim=(-0.5, num_classes - 0.5),
            ylim=(num_classes - 0.5, -0.5),
            xlabel="attributed to",
            ylabel="made by",
            aspect="equal",
        )
        axes.set_xticks(range(num_classes), classes, rotation=30, ha="right")
        axes.set_yticks(range(num_classes), classes)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        return _svg(figure, name=name, label="Confusion matrix")


def recall_svg(metrics: Metrics, *, name: str) -> str:
    """Draw the recall of each generator as bars with intervals."""
    rows = metrics["generators"]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(4.3, 0.5 * len(rows) + 1.1), layout="constrained")
        axes = figure.subplots()
        for at, row in enumerate(rows):
            if row["recall"] is None:
                axes.text(0.01, at, "no videos", va="center", color=_MUTED, fontsize=9)
                continue
            axes.barh(at, row["recall"], height=0.62, color=_ACCENT, alpha=0.6)
            _whisker(axes, row["recall"], row["recall_interval"], at)
        axes.axvline(metrics["chance"]["one_in_k"], color=_SECOND, linestyle="--", linewidth=1.2)
        axes.set_yticks(range(len(rows)), [row["generator"] for row in rows])
        axes.set(xlim=(0, 1), ylim=(len(rows) - 0.5, -0.5), xlabel="recall; dashed: guessing")
        _percent_ticks(axes)
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        return _svg(figure, name=name, label="Recall of each generator")


def quality_svg(metrics: Metrics, *, name: str) -> str:
    """Draw accuracy by quality with intervals."""
    rows = metrics["qualities"]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(4.3, 0.5 * len(rows) + 1.1), layout="constrained")
        axes = figure.subplots()
        for at, row in enumerate(rows):
            _whisker(axes, row["accuracy"], row["accuracy_interval"], at)
            axes.plot(row["accuracy"], at, "o", color=_ACCENT, markersize=8, clip_on=False)
        axes.axvline(metrics["chance"]["one_in_k"], color=_SECOND, linestyle="--", linewidth=1.2)
        labels = [f"{quality(row['crf'])} ({row['num_videos']})" for row in rows]
        axes.set_yticks(range(len(rows)), labels)
        axes.set(xlim=(0, 1), ylim=(len(rows) - 0.5, -0.5), xlabel="accuracy; dashed: guessing")
        _percent_ticks(axes)
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        return _svg(figure, name=name, label="Accuracy by quality")


def reliability_svg(metrics: Metrics, *, name: str) -> str:
    """Draw accuracy against probability in the bins of the calibration error."""
    bins = [one for one in metrics["calibration"]["bins"] if one["num_videos"]]
    total = metrics["num_videos"]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(4.3, 3.8), layout="constrained")
        axes, counts = figure.subplots(2, 1, height_ratios=(4, 1), sharex=True)
        axes.plot((0, 1), (0, 1), color=_MUTED, linestyle="--", linewidth=1.2)
        for one in bins:
            middle, width = (one["low"] + one["high"]) / 2, one["high"] - one["low"]
            axes.bar(middle, one["accuracy"], width * 0.94, color=_ACCENT, alpha=0.35)
            counts.bar(middle, one["num_videos"] / total, width * 0.94, color=_ACCENT, alpha=0.6)
        points = [one["confidence"] for one in bins], [one["accuracy"] for one in bins]
        axes.plot(*points, "o-", color=_ACCENT, linewidth=1.4, markersize=5, clip_on=False)
        axes.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
        most = max(one["num_videos"] for one in bins) / total
        counts.set(xlabel="probability of the attribution; dashed: calibrated", ylabel="videos")
        for one_axes in (axes, counts):
            one_axes.grid()
            one_axes.set_axisbelow(True)
        axes.set_yticks((0, 0.5, 1), ("0%", "50%", "100%"))
        counts.set_yticks((0, most), ("0%", f"{most:.0%}"))
        _percent_ticks(counts)
        return _svg(figure, name=name, label="Reliability diagram")


def _percent_ticks(axes: Axes) -> None:
    axes.set_xticks((0, 0.25, 0.5, 0.75, 1), ("0%", "25%", "50%", "75%", "100%"))


def _whisker(axes: Axes, value: float, interval: list[float] | None, at: float) -> None:
    if interval is not None:
        below, above = max(value - interval[0], 0.0), max(interval[1] - value, 0.0)
        axes.errorbar(
            value,
            at,
            xerr=[[below], [above]],
            color=_INK,
            capsize=4,
            linewidth=1.4,
            fmt="none",
            clip_on=False,
        )
