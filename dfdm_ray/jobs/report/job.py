"""Show the answers of a score run to a person.

::

    OUT of score -> chosen rows -> TakePictures (CPU workers): the frames again, crops from stored boxes
                                -> ExplainFaces (GPU workers, else CPU): what the answer depends on
                                -> OUT/report/videos/<name>.html, .json, .case.jsonld
    all rows -> TakeThumbnails (CPU workers) -> OUT/report/index.html, data/
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
from rich.console import Console

from dfdm_ray.engine.progress import Work, progress
from dfdm_ray.errors import UserError, writing_to
from dfdm_ray.io import storage
from dfdm_ray.io.terminal import say
from dfdm_ray.jobs.report.case import case_of
from dfdm_ray.jobs.report.check import check
from dfdm_ray.jobs.report.config import ReportConfig
from dfdm_ray.jobs.report.content import Subject, content_of
from dfdm_ray.jobs.report.page import html, name_of, pictures_of
from dfdm_ray.jobs.report.pictures import PictureWork
from dfdm_ray.jobs.report.scored import Row, ScoredRun, choose, faces_of, file_remarks, load_model, read_run
from dfdm_ray.jobs.report.stages import REQUEST, ExplainFaces, TakePictures
from dfdm_ray.jobs.report.triage import make_index
from dfdm_ray.jobs.report.workers import Step, through

_TOLERANCE = {"fp32": 1e-3, "bf16": 0.1}
"""Largest difference of a logit: batches and devices of another kind move the fourth digit."""
PAGES = "videos"


def report(config: ReportConfig, console: Console) -> bool:
    """Write the pages and return whether all is in order.

    Raises:
        UserError: If the run is not complete, its checkpoint is missing or another one, a video is not in it,
            or the files of all chosen videos are gone or changed.
    """
    run = read_run(config.out)
    chosen = choose(run, config)
    content, model, checkpoint = load_model(run, config)
    precision = run.settings.get("precision", "fp32")
    subject = Subject(
        run=run,
        model=model,
        checkpoint=checkpoint,
        tolerance=_TOLERANCE[precision] if config.tolerance is None else config.tolerance,
        occlusion=config.occlusion,
    )
    folder = config.to or storage.join(config.out, "report")
    if config.check:
        places = {"checkpoint": checkpoint, "pages": storage.join(folder, PAGES)}
        return check(config, run, chosen, tolerance=subject.tolerance, console=console, **places)
    remarks = _checked_files(run, chosen, console)
    write_pages(config, subject, content, chosen, remarks, folder, console)
    if not config.videos:
        make_index(config, run, folder, storage.list_names(storage.join(folder, PAGES)), console)
    return True


def _checked_files(run: ScoredRun, chosen: Sequence[Row], console: Console) -> dict[str, str]:
    remarks = file_remarks(run, chosen)
    if chosen and len(remarks) == len(chosen):
        name, remark = next(iter(remarks.items()))
        others = f", and {len(remarks) - 1} others moved or changed too" if len(remarks) > 1 else ""
        raise UserError(f"{name}: {remark}{others}; put the scored files back, or score again")
    for name, remark in remarks.items():
        say(console, f"{name}: {remark}; its page has no pictures", "yellow")
    return remarks


def write_pages(
    config: ReportConfig,
    subject: Subject,
    checkpoint: bytes,
    chosen: Sequence[Row],
    remarks: Mapping[str, str],
    folder: str,
    console: Console,
) -> None:
    """Write the page of each of the ``chosen`` rows below ``folder``."""
    planned = {row["video_id"]: row for row in subject.run.manifest.to_pylist()}
    by_name = {row["video_id"]: row for row in chosen}
    count = Work(planned=len(chosen), unit="pages")
    with progress(count, console, title="pages") as show, writing_to(folder):
        for name, seen in _seen(config, subject, checkpoint, chosen, remarks):
            facts = json.loads(seen.get("facts") or "{}")
            if seen.get("reject_code"):
                facts["remark"] = f"no pictures: {seen['reject_code']}: {seen['reject_detail']}"
            content = content_of(subject, by_name[name], planned[name], seen, facts, remarks.get(name))
            write_page(storage.join(folder, PAGES), name, content, seen)
            count.done += 1
            show()
    if len(chosen) == 1:
        say(console, storage.join(folder, PAGES, f"{name_of(chosen[0]['video_id'])}.html"))
    else:
        say(console, f"{len(chosen)} pages in {storage.join(folder, PAGES)}")


def write_page(folder: str, name: str, content: Mapping[str, Any], seen: Mapping[str, Any]) -> None:
    """Write the files of one page."""
    files = {
        "json": json.dumps(content, indent=2, allow_nan=False),
        "case.jsonld": json.dumps(case_of(content), indent=2, allow_nan=False),
        "html": html(content, pictures_of(content, seen)),
    }
    for extension, text in files.items():
        storage.write_atomic(storage.join(folder, f"{name_of(name)}.{extension}"), text.encode())


def _seen(
    config: ReportConfig,
    subject: Subject,
    checkpoint: bytes,
    chosen: Sequence[Row],
    remarks: Mapping[str, str],
) -> Iterator[tuple[str, Row]]:
    """Yield each video with what is seen in its file, nothing for files that are gone or changed."""
    yield from ((name, {}) for name in remarks)
    requests = [
        {"video_id": row["video_id"], "uri": row["uri"], "faces": json.dumps(_places(row))}
        for row in chosen
        if row["video_id"] not in remarks
    ]
    settings = subject.run.settings
    sides = [settings["crop_size"]] * 2
    explain: Row = {
        "checkpoint": checkpoint,
        "name": subject.checkpoint,
        "shape": (settings["num_frames"], *sides, 3),
        "precision": settings.get("precision", "fp32"),
        "cells": config.occlusion,
    }
    work = PictureWork(settings=settings, max_pixels=config.limits.max_pixels)
    steps = [
        Step(
            fn=TakePictures,
            kwargs={"work": work},
            out_bytes=settings["num_clips"] * math.prod(explain["shape"]),
        ),
        Step(fn=ExplainFaces, kwargs=explain, on_device=True),
    ]
    for table in through(steps, pa.Table.from_pylist(requests, schema=REQUEST), config):
        for row in table.to_pylist():
            yield row["video_id"], row


def _places(row: Row) -> list[Row]:
    return [{name: face[name] for name in ("pts_s", "boxes_xyxy", "landmarks")} for face in faces_of(row)]
