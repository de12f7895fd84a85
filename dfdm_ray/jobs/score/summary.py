"""Summary of a score run on the terminal."""

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dfdm_ray.engine.record import cost_line, show_rejects
from dfdm_ray.io.terminal import say
from dfdm_ray.schemas import REJECTED, SCORED

_LISTED = 40
"""Runs of up to this many videos are listed row by row."""
_BINS = 10
_BAR = 40


def show_scores(predictions: pa.Table, record: dict[str, Any], *, folder: str, console: Console) -> None:
    """Print what a score run found: rows if there are few, generators, confidence, rejects, cost, files."""
    if predictions.num_rows <= _LISTED:
        console.print(predictions_table(predictions))
    scored = predictions.filter(pc.equal(predictions["status"], SCORED))
    if scored.num_rows:
        console.print(verdicts_table(scored))
        console.print(generators_table(scored))
        for line in confidence_histogram(scored["probability"].to_numpy(zero_copy_only=False)):
            say(console, line)
        if several := several_faces(scored):
            say(console, several)
    show_rejects(predictions.filter(pc.equal(predictions["status"], REJECTED)), console)
    say(console, cost_line(record))
    counts = f"planned {record['planned']} = scored {record['scored']} + rejected {record['rejected']}"
    say(console, f"{counts}; predictions in {folder}/predictions, record in {folder}/run.json")


def predictions_table(predictions: pa.Table) -> Table:
    """Return a table with a row for every video."""
    table = Table(title="Predictions", box=SIMPLE_HEAD)
    table.add_column("video", overflow="fold")
    table.add_column("verdict", no_wrap=True)
    table.add_column("attribution", no_wrap=True)
    table.add_column("probability", justify="right", no_wrap=True)
    table.add_column("frames\nused", justify="right", no_wrap=True)
    for row in predictions.sort_by("video_id").to_pylist():
        rejected = row["status"] == REJECTED
        answer = row["reject_code"] if rejected else row["generator"]
        verdict = "rejected" if rejected else row["verdict"] or ""
        probability = "" if rejected else f"{row['probability']:.3f}"
        frames = f"{row['num_frames_scored']} of {row['num_frames_decoded']}"
        table.add_row(escape(row["video_id"]), escape(verdict), escape(answer), probability, frames)
    return table


def verdicts_table(scored: pa.Table) -> Table:
    """Return a table of how many videos have each verdict, with the classes of the prediction sets."""
    table = Table(title="Verdicts", box=SIMPLE_HEAD)
    for heading in ("verdict", "classes that fit", "videos"):
        table.add_column(heading, justify="right" if heading == "videos" else "left")
    counts: Counter[tuple[str, str]] = Counter()
    for row in scored.select(["verdict", "verdict_reason", "prediction_set"]).to_pylist():
        classes = ", ".join(row["prediction_set"] or ())
        counts[row["verdict"] or "none: an earlier version", classes or row["verdict_reason"] or ""] += 1
    for (verdict, classes), number in sorted(counts.items(), key=lambda one: (one[0][0], -one[1])):
        table.add_row(verdict, escape(classes), str(number))
    return table


def several_faces(predictions: pa.Table) -> str | None:
    """Return a line about the videos with several attributed faces, ``None`` if there are none."""
    number = pc.sum(pc.greater(pc.list_value_length(predictions["faces"]), 1)).as_py()
    if not number:
        return None
    others = pc.sum(pc.greater(predictions["deciding_face"], 0)).as_py()
    text = "1 video has" if number == 1 else f"{number} videos have"
    which = f", in {others} not the most prominent" if others else ""
    return f"{text} several attributed faces; the least innocent decides{which}"


def generators_table(scored: pa.Table) -> Table:
    """Return a table of how many videos are attributed to each generator, and how surely."""
    table = Table(title="Attributions", box=SIMPLE_HEAD)
    for heading in ("generator", "videos", "share", "mean probability"):
        table.add_column(heading, justify="left" if heading == "generator" else "right")
    groups = scored.group_by("generator").aggregate([("probability", "count"), ("probability", "mean")])
    for row in groups.sort_by([("probability_count", "descending")]).to_pylist():
        count = row["probability_count"]
        share = f"{count / scored.num_rows:.0%}"
        table.add_row(row["generator"], str(count), share, f"{row['probability_mean']:.3f}")
    return table


def confidence_histogram(probabilities: npt.NDArray[np.float32]) -> list[str]:
    """Draw how many videos have which probability, as lines of text."""
    counts, edges = np.histogram(probabilities, bins=_BINS, range=(0, 1))
    widest = max(int(counts.max()), 1)
    lines = ["probability of the attribution"]
    for count, low, high in zip(counts.tolist(), edges[:-1], edges[1:], strict=True):
        bar = "#" * -(-count * _BAR // widest)
        lines.append(f"{low:.1f}-{high:.1f} {bar} {count if count else ''}".rstrip())
    return lines
