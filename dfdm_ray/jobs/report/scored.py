"""A finished score run, and the videos of it that get a page."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dfdm_ray.engine.folder import MANIFEST_FILE, RECORD
from dfdm_ray.engine.record import read_record
from dfdm_ray.errors import UserError
from dfdm_ray.io import storage
from dfdm_ray.io.identity import FileIdentity, compare, look_at
from dfdm_ray.jobs.report.config import ReportConfig
from dfdm_ray.labels import REAL
from dfdm_ray.models.checkpoint import LoadedModel, load_checkpoint
from dfdm_ray.schemas import PREDICTIONS, PREDICTIONS_FOLDER, REJECTED, SCORED, check_manifest

Row = dict[str, Any]

SHORT = (
    *("video_id", "uri", "status", "reject_code", "reject_detail", "verdict", "generator", "probability"),
    *("log10_lr", "unknown_score", "crf", "verdict_reason"),
)
"""Columns that the index needs; whole rows of a large archive would take gigabytes as Python objects."""

_TURN = {"attributed": 0, "one_of": 0, "unknown": 1, "inconclusive": 2, REAL: 3, REJECTED: 4}


@dataclass(frozen=True, kw_only=True)
class ScoredRun:
    """What a score run left in its folder."""

    out: str
    record: Mapping[str, Any]
    manifest: pa.Table
    """:data:`schemas.MANIFEST`"""
    table: pa.Table
    """:data:`schemas.PREDICTIONS`"""
    rows: tuple[Row, ...]
    """The columns :data:`SHORT` of all rows, in order of :func:`order`."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """Values on which the answers depend."""
        found: Mapping[str, Any] = self.record["settings"]
        return found


def read_run(out: str) -> ScoredRun:
    """Return the run in ``out``.

    Raises:
        UserError: If it is no output folder of `score`, or not complete.
    """
    names = storage.list_names(out)
    if not {RECORD, MANIFEST_FILE} <= {*names}:
        raise UserError(
            f"{out} is no output folder of `dfdm-ray score`: it lacks {RECORD} or {MANIFEST_FILE}"
        )
    record = read_record(storage.join(out, RECORD))
    if record.get("job", "score") != "score" or "checkpoint_sha256" not in record["settings"]:
        raise UserError(
            f"{out} contains a run of another job ({record.get('job')}); give a folder of `score`"
        )
    uri = storage.join(out, MANIFEST_FILE)
    manifest = check_manifest(storage.read_parquet(uri, what="manifest of the run"), origin=uri)
    table = storage.read_parts(storage.join(out, PREDICTIONS_FOLDER), PREDICTIONS)
    status = str((record["runs"] or [{}])[-1].get("status"))
    if status != "complete" or table.num_rows < manifest.num_rows:
        raise UserError(
            f"{out} is not complete: {table.num_rows} of {manifest.num_rows} videos have a row, and its last "
            f"run is {status!r}; run the same score command again"
        )
    rows = sorted(table.select(SHORT).to_pylist(), key=lambda row: (order(row), row["video_id"]))
    return ScoredRun(out=out, record=record, manifest=manifest, table=table, rows=tuple(rows))


def strength(row: Mapping[str, Any]) -> float | None:
    """Return the strength of the evidence for a swap: log10 likelihood ratio, negative for real videos.

    ``None`` if there is none, or the face is like no known class, as the ratio compares these only.
    """
    ratio: float | None = row["log10_lr"]
    if ratio is None or verdict_of(row) == "unknown":
        return None
    return -ratio if row["generator"] == REAL else ratio


def order(row: Mapping[str, Any]) -> tuple[float, float, float]:
    """Return the key that sorts rows: the least innocent verdict first, then the strongest evidence."""
    verdict = verdict_of(row)
    if verdict == "unknown":
        return (_TURN[verdict], -row["unknown_score"], 0)
    sign = -1 if row["generator"] == REAL else 1
    return (_TURN[verdict], -(strength(row) or 0), -sign * (row["probability"] or 0))


def verdict_of(row: Mapping[str, Any]) -> str:
    """Return the verdict, ``rejected`` if there is none; rows of earlier versions are inconclusive."""
    return REJECTED if row["status"] == REJECTED else row["verdict"] or "inconclusive"


def choose(run: ScoredRun, config: ReportConfig) -> list[Row]:
    """Return the whole rows that get a page, strongest first.

    Raises:
        UserError: If ``--videos`` names one that is not in the run.
    """
    names = [row["video_id"] for row in run.rows if verdict_of(row) in config.verdict][: config.top]
    if config.videos:
        names = [*dict.fromkeys(config.videos)]
    places = pc.index_in(pa.array(names, pa.string()), value_set=run.table["video_id"].combine_chunks())
    if places.null_count:
        missing = names[places.to_pylist().index(None)]
        raise UserError(f"{run.out} has no row of the video {missing}; its predictions list each video_id")
    return list(run.table.take(places).to_pylist())


def faces_of(row: Mapping[str, Any]) -> list[Row]:
    """Return the attributed faces of a row, each with the columns of an answer; none if it is rejected.

    A row without the column ``faces`` has one face, with the columns of the row.
    """
    if row["status"] != SCORED:
        return []
    return [{**row, "faces": None, **face} for face in row.get("faces") or [{}]]


def load_model(run: ScoredRun, config: ReportConfig) -> tuple[bytes, LoadedModel, str]:
    """Return the checkpoint of the run, its content, and its place.

    Raises:
        UserError: If it cannot be read or is another one.
    """
    uri = config.checkpoint or str(run.record.get("config", {}).get("checkpoint"))
    try:
        content = storage.read_bytes(uri, what="checkpoint")
    except UserError as error:
        raise UserError(f"{error}; give its place now with --checkpoint") from error
    if (found := hashlib.sha256(content).hexdigest()) != run.settings["checkpoint_sha256"]:
        raise UserError(
            f"{uri} is not the checkpoint of the run: its SHA-256 begins with {found[:12]}, that of the run "
            f"with {run.settings['checkpoint_sha256'][:12]}; give the right one with --checkpoint"
        )
    return content, load_checkpoint(content, name=uri), uri


def file_remarks(run: ScoredRun, rows: Sequence[Row]) -> dict[str, str]:
    """Return, by ``video_id``, one clause for each file that moved or changed since it was scored."""
    before = {row["video_id"]: row for row in run.manifest.to_pylist()}
    pairs, names, remarks = [], [], {}
    for row, now in zip(rows, look_at([row["uri"] for row in rows]), strict=True):
        planned = before[row["video_id"]]
        if now is None:
            if row["reject_code"] != "unreadable":
                remarks[row["video_id"]] = f"the file is no longer at {row['uri']}"
            continue
        was = FileIdentity(
            uri=row["uri"],
            size_bytes=planned["size_bytes"],
            modified_ns=planned["modified_ns"],
            fingerprint=row["fingerprint"],
        )
        pairs.append((was, now))
        names.append(row["video_id"])
    for name, (was, now), verdict in zip(names, pairs, compare(pairs, read=True), strict=True):
        if verdict == "replaced":
            sizes = f"{was.size_bytes:,} bytes then, {now.size_bytes:,} now"
            how = "same size, other content" if was.size_bytes == now.size_bytes else sizes
            remarks[name] = f"the file has changed since it was scored ({how})"
    return remarks
