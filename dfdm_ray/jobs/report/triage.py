"""The index of all videos of a run: a page and data files that a browser opens from disk, without a server.

::

    index.html             the page, with its script
    data/index.js          what is sorted and filtered, column by column
         00000.js, ...     thumbnails and details of PER_SHARD rows each, loaded when they come into view
    thumbnails/            one row per video, so that a stopped run continues

A page from disk may load scripts, but no other files: the data files call functions of the page.
"""

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console

from dfdm_ray.config import RunConfig
from dfdm_ray.engine.folder import RunFolder
from dfdm_ray.engine.progress import Work, progress
from dfdm_ray.engine.run import open_run
from dfdm_ray.errors import writing_to
from dfdm_ray.io import storage
from dfdm_ray.io.terminal import say, visible
from dfdm_ray.jobs.report.config import ReportConfig
from dfdm_ray.jobs.report.page import name_of, render
from dfdm_ray.jobs.report.pictures import THUMBNAIL_PX, ThumbnailWork
from dfdm_ray.jobs.report.scored import Row, ScoredRun, strength, verdict_of
from dfdm_ray.jobs.report.stages import TakeThumbnails
from dfdm_ray.jobs.report.workers import Step, here, on_ray, runs_here
from dfdm_ray.labels import class_order
from dfdm_ray.schemas import THUMBNAILS

PER_SHARD = 100
"""Rows of one data file, about 400 kB."""
VERDICTS = ("attributed", "one_of", "unknown", "inconclusive", "real", "rejected")
_FOLDER, _ROWS = "thumbnails", "rows"


def make_index(
    config: ReportConfig, run: ScoredRun, folder: str, pages: Sequence[str], console: Console
) -> None:
    """Write the index of ``run`` to ``folder``.

    Args:
        pages: Names of the files of pages, with extension.
    """
    thumbnails = make_thumbnails(config, run, folder, console)
    with writing_to(folder):
        write_index(run, thumbnails, folder, pages)
    say(console, f"{len(run.rows)} videos in {storage.join(folder, 'index.html')}")


def write_index(run: ScoredRun, thumbnails: pa.Table, folder: str, pages: Sequence[str]) -> None:
    """Write page and data files.

    Args:
        thumbnails: :data:`schemas.THUMBNAILS`; videos may be missing.
    """
    title = f"Videos of {visible(run.out)}"
    storage.write_atomic(storage.join(folder, "index.html"), render("triage.html.j2", title=title).encode())
    data = storage.join(folder, "data")
    for number, rows in enumerate(shards(run.rows, thumbnails)):
        storage.write_atomic(storage.join(data, f"{number:05d}.js"), script("shard", number, rows))
    storage.write_atomic(storage.join(data, "index.js"), script("open", columns(run, pages)))


def script(function: str, *arguments: Any) -> bytes:
    """Return a call of a function of the page; JSON in ASCII is JavaScript, whatever names contain."""
    texts = (json.dumps(argument, separators=(",", ":"), allow_nan=False) for argument in arguments)
    return f"triage.{function}({','.join(texts)});\n".encode()


def columns(run: ScoredRun, pages: Sequence[str]) -> dict[str, Any]:
    """Return what the page sorts and filters by, for the rows in order; a browser reads it whole."""
    rows, there = run.rows, {*pages}
    names = [row["video_id"].rpartition("/") for row in rows]
    files = [name_of(row["video_id"]) for row in rows]
    crfs = sorted({row["crf"] for row in rows} - {None})
    qualities = [None if row["crf"] is None else f"crf {row['crf']}" for row in rows]
    generators = class_order(row["generator"] for row in rows if row["generator"])
    codes = [row["reject_code"] for row in rows]
    return {
        "run": hashlib.sha256(f"{run.out} {run.settings['checkpoint_sha256']}".encode()).hexdigest()[:16],
        "out": run.out,
        "per_shard": PER_SHARD,
        "filters": {
            "verdict": _coded([verdict_of(row) for row in rows], VERDICTS),
            "generator": _coded([row["generator"] for row in rows], generators),
            "quality": _coded(qualities, [f"crf {crf}" for crf in crfs]),
            "folder": _coded([folder for folder, _, _ in names], sorted({folder for folder, _, _ in names})),
            "reject": _coded(codes, sorted({*codes} - {None})),
        },
        "strength": [_rounded(strength(row)) for row in rows],
        "probability": [_rounded(row["probability"]) for row in rows],
        "name": [name for _, _, name in names],
        "pages": {number: file for number, file in enumerate(files) if f"{file}.html" in there},
    }


def _coded(values: Sequence[str | None], known: Sequence[str]) -> dict[str, Any]:
    """Return a column as positions in its different values, -1 for none."""
    code: dict[str | None, int] = {value: number for number, value in enumerate(known)}
    return {"values": [*known], "codes": [code.get(value, -1) for value in values]}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def shards(rows: Sequence[Row], thumbnails: pa.Table) -> Iterator[list[list[str]]]:
    """Yield thumbnail (base64) and details of the rows, :data:`PER_SHARD` at a time."""
    names = pa.array([row["video_id"] for row in rows], pa.string())
    places = pc.index_in(names, value_set=thumbnails["video_id"].combine_chunks())
    for start in range(0, len(rows), PER_SHARD):
        part = rows[start : start + PER_SHARD]
        found = thumbnails["thumbnail"].take(places.slice(start, PER_SHARD)).to_pylist()
        yield [
            [base64.b64encode(jpeg or b"").decode(), _details(row)]
            for row, jpeg in zip(part, found, strict=True)
        ]


def _details(row: Mapping[str, Any]) -> str:
    return str(row["reject_detail"] or row["verdict_reason"] or "")


def make_thumbnails(config: ReportConfig, run: ScoredRun, folder: str, console: Console) -> pa.Table:
    """Bring the thumbnails of all videos into ``folder`` and return them, :data:`schemas.THUMBNAILS`."""
    out = RunFolder(
        storage.absolute(storage.join(folder, _FOLDER)),
        job="report",
        settings={"thumbnail_px": THUMBNAIL_PX},
        rows=_ROWS,
        schema=THUMBNAILS,
    )
    again = RunConfig(retry=("changed",), ray_address=config.ray_address, limits=config.limits)
    step = Step(
        fn=TakeThumbnails, kwargs={"work": ThumbnailWork(settings={}, max_pixels=config.limits.max_pixels)}
    )
    with open_run(again, out, with_places(run), console, verb="drawn") as drawing:
        todo = drawing.todo
        if runs_here(todo["uri"].to_pylist(), config):
            count = Work(planned=todo.num_rows, unit="thumbnails")
            with progress(count, console, title="thumbnails") as show:
                for table in here([step], todo, config):
                    out.add(table)
                    count.done += 1
                    show()
        else:
            on_ray(drawing, [step], config)
    return drawing.rows


def with_places(run: ScoredRun) -> pa.Table:
    """Return the manifest with the face in the middle of each row, and its fingerprint."""
    table = run.table.select(["video_id", "pts_s", "boxes_xyxy", "fingerprint"])
    places = pc.index_in(
        run.manifest["video_id"].combine_chunks(), value_set=table["video_id"].combine_chunks()
    )
    table = table.take(places)
    manifest = run.manifest
    for name, column in (
        ("face_pts_s", middles(table["pts_s"])),
        ("face_box", middles(table["boxes_xyxy"])),
        ("fingerprint", table["fingerprint"]),
    ):
        manifest = manifest.append_column(name, column)
    return manifest


def middles(column: pa.ChunkedArray) -> pa.Array:
    """Return the middle entry of each list, null for empty ones."""
    lists = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    starts = np.cumsum(lengths) - lengths
    return lists.flatten().take(pa.array(starts + lengths // 2, mask=lengths == 0))
