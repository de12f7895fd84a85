"""What a run shows at its end: tables in the terminal, and crops as a picture to look at."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dfdm_ray.io.images import Image
from dfdm_ray.io.terminal import say
from dfdm_ray.labels import GENERATORS
from dfdm_ray.schemas import REJECTED, SCORED

_LISTED = 40
"""Runs of up to so many videos are listed row by row."""
_BINS = 10
_BAR = 40


def show_scores(predictions: pa.Table, record: dict[str, Any], *, folder: str, console: Console) -> None:
    """Print what a score run found: rows if there are few, generators, confidence, rejects, cost, files."""
    if predictions.num_rows <= _LISTED:
        console.print(predictions_table(predictions))
    scored = predictions.filter(pc.equal(predictions["status"], SCORED))
    if scored.num_rows:
        console.print(generators_table(scored))
        for line in confidence_histogram(scored["probability"].to_numpy(zero_copy_only=False)):
            say(console, line)
    show_rejects(predictions.filter(pc.equal(predictions["status"], REJECTED)), console)
    say(console, cost_line(record))
    counts = f"planned {record['planned']} = scored {record['scored']} + rejected {record['rejected']}"
    say(console, f"{counts}; predictions in {folder}/predictions, record in {folder}/run.json")


def show_crops(index: pa.Table, record: dict[str, Any], *, folder: str, console: Console) -> None:
    """Print what a crops dataset holds: videos by quality, split and generator, rejects, cost, size, files.

    Args:
        index: :data:`schemas.CROPS_INDEX`.
        record: What stands in ``run.json``.
        folder: The dataset.
        console: Where to.
    """
    with_crops = index.filter(pc.equal(index["status"], SCORED))
    if with_crops.num_rows:
        console.print(crops_table(with_crops))
    show_rejects(index.filter(pc.equal(index["status"], REJECTED)), console)
    say(console, cost_line(record, verb="prepared"))
    where = f"in {folder}/crops; see {folder}/contact_sheet.png" if with_crops.num_rows else ""
    say(
        console,
        f"planned {record['planned']} = prepared {record['prepared']} + rejected {record['rejected']}; "
        f"{record['crops_bytes'] / 1e6:.1f} MB of crops {where}".rstrip(),
    )


def crops_table(with_crops: pa.Table) -> Table:
    """Return a table of the number of videos of each quality and split, by generator."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for row in with_crops.select(["crf", "split", "generator"]).to_pylist():
        crf = "unknown" if row["crf"] is None else str(row["crf"])
        counts[crf, row["split"] or "none", row["generator"] or "unknown"] += 1
    found = {generator for _, _, generator in counts}
    columns = [name for name in GENERATORS if name in found] + sorted(found - set(GENERATORS))
    table = Table(title="Videos with crops", box=SIMPLE_HEAD)
    for heading in ("crf", "split", *columns, "total"):
        table.add_column(heading, justify="left" if heading == "split" else "right")
    cells = {(crf, split) for crf, split, _ in counts}
    for crf, split in sorted(cells, key=lambda cell: (cell[0].rjust(8), cell[1])):
        numbers = [counts[crf, split, name] for name in columns]
        table.add_row(crf, split, *map(str, numbers), str(sum(numbers)))
    return table


def show_rejects(rejected: pa.Table, console: Console) -> None:
    """Print how many videos each code rejects, with one video and its reason as an example."""
    groups = rejected.group_by("reject_code", use_threads=False).aggregate(
        [("video_id", "count"), ("video_id", "first"), ("reject_detail", "first")]
    )
    for row in groups.sort_by([("video_id_count", "descending")]).to_pylist():
        example = f"{row['video_id_first']}: {row['reject_detail_first']}"
        text = f"rejected: {row['video_id_count']} {row['reject_code']}, such as {example}"
        say(console, text)


def predictions_table(predictions: pa.Table) -> Table:
    """Return a table with a row for every video."""
    table = Table(title="Predictions", box=SIMPLE_HEAD)
    table.add_column("video", overflow="fold")
    table.add_column("attribution", no_wrap=True)
    table.add_column("probability", justify="right", no_wrap=True)
    table.add_column("frames\nused/decoded", justify="right", no_wrap=True)
    for row in predictions.sort_by("video_id").to_pylist():
        rejected = row["status"] == REJECTED
        answer = f"rejected: {row['reject_code']}" if rejected else row["generator"]
        probability = "" if rejected else f"{row['probability']:.3f}"
        frames = f"{row['num_frames_scored']}/{row['num_frames_decoded']}"
        table.add_row(escape(row["video_id"]), escape(answer), probability, frames)
    return table


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


def cost_line(record: dict[str, Any], *, verb: str = "scored") -> str:
    """Say what the last run cost: rate, start-up and the decode ratio over ``verb`` videos."""
    run = record["runs"][-1]
    parts = []
    if "seconds" in run:
        rate = run["num_videos"] / run["seconds"]
        parts.append(f"{run['num_videos']} videos in {run['seconds']:.1f} s ({rate:.2f} videos/s)")
        parts.append(f"first row after {run['seconds_to_first_row']:.1f} s")
    else:
        parts.append("nothing was left to do")
    if record["frames_decoded_per_used"]:
        parts.append(
            f"frames decoded / frames used = {record['frames_decoded_per_used']:.2f} over {verb} videos"
        )
    if survived := run.get("faults_survived"):
        parts.append("survived " + ", ".join(f"{count} {code}" for code, count in survived.items()))
    return "; ".join(parts)


def contact_sheet(rows: Sequence[tuple[str, Image | str]], *, cell_px: int = 112) -> Image:
    """Draw a line for each video: its name, then its crops in order of time or why there are none.

    Args:
        rows: Name and crops ``(N, S, S, 3)``, or name and reason.
        cell_px: Side of a crop on the sheet.

    Returns:
        RGB, shape ``(H, W, 3)``.
    """
    columns = max((len(crops) for _, crops in rows if not isinstance(crops, str)), default=1)
    label_px = 18
    sheet = np.full((len(rows) * (cell_px + label_px), max(columns * cell_px, 640), 3), 255, np.uint8)
    for line, (name, crops) in enumerate(rows):
        top = line * (cell_px + label_px)
        text = f"{name}: {crops}" if isinstance(crops, str) else name
        at = (4, top + label_px - 5)
        cv2.putText(sheet, _ascii(text), at, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
        if isinstance(crops, str):
            continue
        for column, crop in enumerate(crops):
            cell = cv2.resize(crop, (cell_px, cell_px), interpolation=cv2.INTER_AREA)
            left = column * cell_px
            sheet[top + label_px : top + label_px + cell_px, left : left + cell_px] = cell
    return sheet


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode()


def draw_losses(losses: Sequence[float], *, size: tuple[int, int] = (640, 320)) -> Image:
    """Draw a loss curve, its running mean in bold, as RGB of ``size`` (width, height)."""
    width, height = size
    picture = np.full((height, width, 3), 255, np.uint8)
    values = np.asarray(losses, np.float64)
    window = max(1, len(values) // 50)
    smooth = np.convolve(values, np.ones(window) / window, mode="valid")
    top = max(float(values.max()), 1e-9)
    for curve, colour, thickness in ((values, (200, 215, 235), 1), (smooth, (30, 80, 160), 2)):
        x = np.linspace(40, width - 10, len(curve))
        y = height - 25 - curve / top * (height - 45)
        points = np.stack([x, y], axis=1).round().astype(np.int32)
        cv2.polylines(picture, [points], False, colour, thickness, cv2.LINE_AA)
    for text, at in (
        (f"{top:.3f}", (2, 16)),
        ("0", (2, height - 22)),
        (f"{len(values)} iterations", (width - 140, height - 6)),
    ):
        cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    return picture
