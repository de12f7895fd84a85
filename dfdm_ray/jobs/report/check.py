"""Score videos again and compare the answers with those of the run."""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console

from dfdm_ray.engine.folder import RECORD
from dfdm_ray.engine.record import changes, read_record
from dfdm_ray.errors import UserError
from dfdm_ray.io import storage
from dfdm_ray.io.terminal import say
from dfdm_ray.jobs.report.config import ReportConfig
from dfdm_ray.jobs.report.file_facts import sha256_of
from dfdm_ray.jobs.report.page import name_of
from dfdm_ray.jobs.report.scored import Row, ScoredRun, faces_of, file_remarks, verdict_of
from dfdm_ray.jobs.score.config import ScoreConfig
from dfdm_ray.jobs.score.job import score

_BOX_PX = 0.5
"""Largest difference of a box; it moves less than the crop then."""
_SETTINGS = ("plan", "faces")


def check(
    config: ReportConfig,
    run: ScoredRun,
    chosen: Sequence[Row],
    *,
    checkpoint: str,
    tolerance: float,
    pages: str,
    console: Console,
) -> bool:
    """Print a line for each of the ``chosen`` rows and return whether all are equal.

    Args:
        pages: Folder of the pages, whose JSON contains the SHA-256 of the whole file.

    Raises:
        UserError: If the run was not made from videos.
    """
    changed = file_remarks(run, chosen)
    for row in chosen:
        name, page = row["video_id"], storage.join(pages, f"{name_of(row['video_id'])}.json")
        if name not in changed and (remark := _other_content(row["uri"], page)):
            changed[name] = remark
    same_files = [row for row in chosen if row["video_id"] not in changed]
    found: dict[str, Row] = {}
    if same_files:
        found, settings = _scored_again(config, run, same_files, checkpoint, console)
        for change in changes(run.settings, settings):
            say(console, f"warning: this version or this machine has other settings ({change})", "yellow")
    num_equal = 0
    for row in chosen:
        name = row["video_id"]
        wrong = [changed[name]] if name in changed else [*differences(row, found[name], tolerance=tolerance)]
        num_equal += not wrong
        most = "" if wrong or not faces_of(row) else f"; {_logits_text(row, found[name], tolerance)}"
        say(console, f"different: {name}: {'; '.join(wrong)}" if wrong else f"equal: {name}{most}")
    say(console, f"{num_equal} of {len(chosen)} equal")
    return num_equal == len(chosen)


def differences(before: Row, now: Row, *, tolerance: float) -> Iterator[str]:
    """Yield a clause for each way in which two rows of one video differ.

    Args:
        tolerance: Largest difference of a logit.
    """
    for what, get in (("verdict", verdict_of), ("reject code", lambda row: row["reject_code"])):
        if get(before) != get(now):
            yield f"the {what} was {get(before)} and is {get(now)}"
    faces = faces_of(before), faces_of(now)
    if len(faces[0]) != len(faces[1]):
        yield f"{len(faces[0])} faces were examined, {len(faces[1])} now"
        return
    for number, (was, face) in enumerate(zip(*faces, strict=True), 1):
        of = f" of face {number}" if len(faces[0]) > 1 else ""
        for name in ("generator", "prediction_set"):
            if was[name] != face[name]:
                yield f"the {name}{of} was {was[name]} and is {face[name]}"
        if was["pts_s"] != face["pts_s"]:
            yield f"other frames{of} were used"
        elif (px := _most(was, face, "boxes_xyxy")) > _BOX_PX:
            yield f"a box{of} differs by {px:.1f} pixels"
        if not (logit := _most(was, face, "logits")) <= tolerance:
            yield f"a logit{of} differs by {logit:.2g}, more than {tolerance:g}"


def _most(before: Row, now: Row, name: str) -> float:
    """Return the largest difference of two lists of numbers, infinite if their lengths differ."""
    was, found = (np.array(row[name], np.float64) for row in (before, now))
    return float(np.abs(was - found).max(initial=0)) if was.shape == found.shape else float("inf")


def _logits_text(before: Row, now: Row, tolerance: float) -> str:
    most = max(_most(*pair, "logits") for pair in zip(faces_of(before), faces_of(now), strict=True))
    return f"largest difference of a logit {most:.1g}, tolerance {tolerance:g}"


def _other_content(uri: str, page: str) -> str | None:
    """Return a clause if the file is not the one whose hash is on its page, ``None`` also without a page."""
    if not storage.exists(page):
        return None
    known = json.loads(storage.read_bytes(page, what="content of the page"))["file"].get("sha256")
    try:
        with storage.open_input(uri) as stream:
            found = sha256_of(stream)
    except OSError as error:
        return f"the file cannot be read: {error.strerror or error}"
    if known in (None, found):
        return None
    return f"the file has changed: its SHA-256 begins with {found[:12]}, on its page with {known[:12]}"


def _scored_again(
    config: ReportConfig, run: ScoredRun, rows: Sequence[Row], checkpoint: str, console: Console
) -> tuple[dict[str, Row], dict[str, Any]]:
    """Return the new row of each video, and the settings they depend on."""
    before: Mapping[str, Any] = run.record.get("config", {})
    if before.get("crops"):
        raise UserError(
            f"{run.out} was made from the crops {before['crops']}, not from videos; score them again"
        )
    parts: dict[str, Any] = {}
    for field in (field for field in fields(ScoreConfig) if field.name in _SETTINGS):
        kind: Any = field.default_factory
        # Earlier versions examined one face, and had no setting for it.
        given = {**({"most": 1} if field.name == "faces" else {}), **before.get(field.name, {})}
        parts[field.name] = kind(**{one.name: given[one.name] for one in fields(kind) if one.name in given})
    names = pa.array([row["video_id"] for row in rows], pa.string())
    with tempfile.TemporaryDirectory(prefix="dfdm-ray-check-") as folder:
        manifest = str(Path(folder, "manifest.parquet"))
        storage.write_parquet(
            manifest, run.manifest.filter(pc.is_in(run.manifest["video_id"], value_set=names))
        )
        again = ScoreConfig(
            manifest=manifest,
            checkpoint=checkpoint,
            out=str(Path(folder, "out")),
            precision=run.settings.get("precision", "fp32"),
            features=bool(run.settings.get("features")),
            ray_address=config.ray_address,
            limits=config.limits,
            resources=config.resources,
            **parts,
        )
        result = score(again, console)
        settings: dict[str, Any] = read_record(storage.join(again.out, RECORD))["settings"]
    return {row["video_id"]: row for row in result.predictions.to_pylist()}, settings
