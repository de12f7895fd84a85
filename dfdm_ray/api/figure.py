"""Figure of an answer: what the model saw, and what it made of it."""

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from dfdm_ray.io.terminal import visible

if TYPE_CHECKING:
    from dfdm_ray.api.answer import Answer

_WIDTH, _BAR, _ROOM = 9.0, 0.28, 0.9
"""Inches: width, height of a bar, room for titles and axes."""
_MOST = 10
"""Crops in a line."""


def draw(answer: "Answer") -> Figure:
    """Return a figure with the crops, the time of each and a bar for the probability of each class."""
    title = "\n".join(map(visible, (answer.row["video_id"], str(answer))))
    if not answer.probabilities:
        figure = Figure(figsize=(_WIDTH, _ROOM), layout="constrained")
        figure.suptitle(title, fontsize=10, parse_math=False)
        return figure
    lines = -(-len(answer.crops) // _MOST)
    heights = (lines * (_WIDTH / _MOST + 0.25), len(answer.classes) * _BAR + 0.4)
    figure = Figure(figsize=(_WIDTH, sum(heights) + _ROOM), layout="constrained")
    figure.suptitle(title, fontsize=10, parse_math=False)
    top, bottom = figure.subfigures(2, 1, height_ratios=heights, squeeze=False).ravel()
    cells = top.subplots(lines, _MOST, squeeze=False).ravel()
    times = answer.row["pts_s"] or [None] * len(answer.crops)
    for cell in cells:
        cell.set_axis_off()
    for cell, crop, time_s in zip(cells, answer.crops, times, strict=False):
        cell.imshow(crop)
        cell.set_title("" if time_s is None else f"{time_s:.2f} s", fontsize=8)
    axes = bottom.subplots()
    names, values = [*answer.probabilities], [*answer.probabilities.values()]
    bars = axes.barh(names, values, color=["C0" if name == answer.generator else "0.7" for name in names])
    axes.bar_label(bars, fmt="%.3f", padding=3, fontsize=8)
    axes.set(xlim=(0, 1), xlabel="probability")
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    return figure
