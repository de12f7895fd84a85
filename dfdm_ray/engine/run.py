"""One run: the videos that the output folder lacks go through the stages, and their rows are written down.

::

    manifest - rows of earlier runs -> stages -> rows, on disk every few seconds -> run.json
"""

import hashlib
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import pyarrow as pa
import ray.data
from rich.console import Console

from dfdm_ray.clips.cut import load_detector
from dfdm_ray.config import ArchiveConfig, FaceConfig, RunConfig
from dfdm_ray.engine.folder import RunFolder
from dfdm_ray.engine.observe import Observer
from dfdm_ray.engine.progress import Counts, Show, progress
from dfdm_ray.engine.record import now, num_rejected, totals, versions
from dfdm_ray.engine.resume import none_lost, resume
from dfdm_ray.engine.session import ray_session, total, worker_nodes
from dfdm_ray.engine.shares import blocks
from dfdm_ray.engine.stage import Stage, chain
from dfdm_ray.errors import UserError, writing_to
from dfdm_ray.io import storage
from dfdm_ray.io.terminal import say, show_list
from dfdm_ray.manifest.build import build_manifest
from dfdm_ray.schemas import check_manifest

_JUDGED_AFTER = 50
"""Videos before ``max_reject_fraction`` is applied."""

Nodes = Sequence[Mapping[str, float]]
"""What each node of Ray has for workers: ``CPU``, ``GPU``, ``memory``."""
_TOLD = re.compile(rf"{UserError.__module__}\.{UserError.__name__}: (.+)")
_WRAPPED = "\nThe above exception was the direct cause of the following exception:\n"
"""What a traceback says between the error of a worker and that which Ray Data makes of it."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is run over the videos of a manifest."""

    config: RunConfig
    manifest: pa.Table
    """:data:`schemas.MANIFEST`"""
    not_listed: Sequence[str] = ()
    """What the manifest lacks, as it could not be looked into, each with the reason."""
    folder: RunFolder
    stages: Callable[[Nodes], tuple[Sequence[Stage], Mapping[str, Any]]]
    """Gives the stages, and what ``run.json`` should say of their resources. Ray runs when it is called."""
    verb: str
    """What is done with a video that is not rejected: ``scored``."""
    check: Callable[[pa.Table], None] = lambda rows: None
    """Looks at rows before they count as finished."""
    lost: Callable[[pa.Table], pa.Array] = none_lost
    """As of :func:`resume`."""


def read_manifest(config: ArchiveConfig) -> tuple[pa.Table, list[str]]:
    """Return the manifest that ``config`` names or makes of its videos, and :attr:`Job.not_listed`."""
    if config.manifest is not None:
        table = check_manifest(storage.read_parquet(config.manifest, what="manifest"), origin=config.manifest)
        if not table.num_rows:
            raise UserError(f"the manifest {config.manifest} has no rows")
        return table, []
    if config.videos is None:
        raise ValueError("ArchiveConfig lets neither --videos nor --manifest be absent")
    build = build_manifest(config.videos)
    return build.table, [*map(str, build.not_listed)]


def checked_detector(faces: FaceConfig) -> tuple[bytes, dict[str, Any]]:
    """Return the configured detector's weights, after a look at them, and the settings it comes with."""
    detector, weights = load_detector(faces)
    return weights, {
        "detector": detector.name,
        "detector_sha256": hashlib.sha256(weights).hexdigest(),
        "max_side": faces.max_side,
        "score_threshold": faces.score_threshold,
    }


def run(job: Job, console: Console) -> tuple[pa.Table, dict[str, Any]]:
    """Run ``job`` and return all rows in its folder, sorted by ``video_id``, and what ``run.json`` says.

    Raises:
        UserError: If the folder holds something else or cannot be written, or too many videos are rejected.
    """
    folder, config = job.folder, job.config
    resumed = resume(folder, job.manifest, overwrite=config.overwrite, retry=config.retry, lost=job.lost)
    todo, counts = resumed.todo, _count(resumed.todo, resumed.earlier, job.verb)
    this: dict[str, Any] = {"started_at": now(), "command": sys.argv, "status": "running"}
    record: dict[str, Any] = {
        "config": asdict(config),
        "not_listed": {"count": len(job.not_listed), "entries": [*job.not_listed]},
        "runs": [*folder.earlier_runs, this],
    }
    with writing_to(folder.root):
        storage.write_parquet(folder.manifest, resumed.manifest)
    folder.write_record(record)
    show_list(console, "not listed, hence without a row", job.not_listed)
    for remark in resumed.remarks:
        say(console, remark)
    try:
        if todo.num_rows:
            _run(job, todo, counts, console, this)
        folder.flush()
        this["status"] = "complete"
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt | SystemExit)  # Ray turns SIGTERM into SystemExit
        this["status"] = "interrupted" if stopped else f"failed: {error!s:.500}"
        raise
    finally:
        this["finished_at"] = now()
        rows = _close(job, record, planned=counts.planned)
    folder.remove_unfinished()
    return rows.sort_by("video_id"), record


def _close(job: Job, record: dict[str, Any], *, planned: int) -> pa.Table:
    """Write what waits and the counts, these also where the rows cannot be written; return all rows."""
    folder = job.folder
    try:
        folder.flush()
        folder.settle()
    finally:
        rows = folder.read()
        record |= {"versions": versions(), **totals(rows, planned=planned, verb=job.verb)}
        folder.write_record(record)
    return rows


def _run(job: Job, todo: pa.Table, counts: Counts, console: Console, this: dict[str, Any]) -> None:
    """Run the stages over ``todo`` and write into ``this`` what ``run.json`` should say of it."""
    started_s = time.monotonic()
    with progress(counts, console, title="videos") as show:
        show(note="starting Ray workers")
        with ray_session(job.config.ray_address):
            nodes = worker_nodes()
            stages, resources = job.stages(nodes)
            cluster = total(nodes)
            this["resources"] = dict(resources)
            this["cluster"] = {name: cluster[name] for name in ("CPU", "GPU", "memory") if name in cluster}
            this["num_videos"] = todo.num_rows
            observer = Observer()
            counts.started_s = time.monotonic()
            # Small blocks made here: a Parquet read would put a whole manifest into one, hence one worker.
            dataset = chain(blocks(todo, workers=stages[0].num_workers), stages)
            try:
                first_row_s = _consume(dataset, job, counts, observer, show) - started_s
            except ray.exceptions.RayError as error:
                if told := own_words(error):
                    raise told from None
                raise
            finally:
                pools = dict(zip(("decode", "model"), (stage.num_workers for stage in stages), strict=False))
                this["faults_survived"] = observer.survived(pools)
            if bugs := observer.bugs():
                say(console, bugs)
            this["seconds_to_first_row"] = round(first_row_s, 3)
            this["seconds"] = round(time.monotonic() - started_s, 3)


def own_words(error: Exception) -> UserError | None:
    """Return the error that a worker raised for the user, ``None`` if it met a bug.

    Ray Data keeps of it only what a traceback shows.
    """
    text, _, whole = str(error).rpartition(_WRAPPED)
    found = _TOLD.fullmatch((text or whole).rstrip().rpartition("\n")[2])
    return UserError(found[1]) if found else None


def _consume(dataset: ray.data.Dataset, job: Job, counts: Counts, observer: Observer, show: Show) -> float:
    """Write rows as they come; return when the first one came, on the monotonic clock."""
    folder, most = job.folder, job.config.max_reject_fraction
    first_s: float | None = None
    flushed_s = time.monotonic()
    for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        rows = cast(pa.Table, batch).cast(folder.schema)
        first_s = first_s or time.monotonic()
        job.check(rows)
        folder.add(rows)
        observer.rows(rows)
        rejected = num_rejected(rows)
        counts.rejected += rejected
        counts.scored += rows.num_rows - rejected
        show()
        if time.monotonic() - flushed_s > flush_after_s(time.monotonic() - counts.started_s):
            folder.flush()
            flushed_s = time.monotonic()
        if counts.done >= _JUDGED_AFTER and counts.rejected > most * counts.done:
            raise UserError(
                f"{counts.rejected} of {counts.done} videos were rejected, more than --max-reject-fraction "
                f"{most:g}; {observer.most_rejects()}see reject_code in {folder.rows}"
            )
    return first_s or time.monotonic()


def flush_after_s(elapsed_s: float) -> float:
    """Return how long rows may wait in a run of that age: a kill costs a twentieth of it."""
    return min(20.0, max(1.0, 0.05 * elapsed_s))


def _count(todo: pa.Table, earlier: pa.Table, verb: str) -> Counts:
    rejected = num_rejected(earlier)
    done = earlier.num_rows
    return Counts(
        planned=todo.num_rows + done, scored=done - rejected, rejected=rejected, earlier=done, verb=verb
    )
