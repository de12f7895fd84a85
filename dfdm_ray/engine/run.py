"""One run: the videos that the output folder lacks go through the stages, and their rows are stored.

::

    manifest - rows of earlier runs -> stages -> rows, on disk every few seconds -> run.json
"""

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import ray
from rich.console import Console

from dfdm_ray.clips.cut import load_detector
from dfdm_ray.config import ArchiveConfig, FaceConfig, RunConfig
from dfdm_ray.engine.folder import RunFolder, unfinished
from dfdm_ray.engine.observe import Observer, unconfined
from dfdm_ray.engine.pools import Pools, Sizes, following
from dfdm_ray.engine.progress import Counts, Show, progress
from dfdm_ray.engine.record import num_rejected, totals
from dfdm_ray.engine.resume import Resumed, resume
from dfdm_ray.engine.shares import blocks, largest_first, total
from dfdm_ray.engine.stage import Stage, chain, executing, own_words
from dfdm_ray.errors import IncompleteError, UserError, writing_to
from dfdm_ray.io import storage
from dfdm_ray.io.terminal import say, show_list
from dfdm_ray.manifest.build import build_manifest
from dfdm_ray.manifest.read import load_manifest
from dfdm_ray.manifest.sources import located
from dfdm_ray.manifest.summary import show_oddities
from dfdm_ray.schemas import with_values

_JUDGED_AFTER = 50
"""Videos before ``max_reject_fraction`` is applied."""
_EXITED, _ALONE = "INTENDED_USER_EXIT", 1000
"""What Ray calls a worker that exits with code 0; a number of workers for which a block has one video."""


def read_manifest(config: ArchiveConfig, console: Console) -> tuple[pa.Table, list[str]]:
    """Return the manifest that ``config`` names or that lists its videos, and what could not be listed.

    Relative URIs in a manifest are below its folder, as in a list file. Files beside the videos are counted
    in one line.
    """
    if config.manifest is not None:
        table = load_manifest(config.manifest)
        if not table.num_rows:
            raise UserError(f"the manifest {config.manifest} has no rows")
        return _absolute(table, storage.split(storage.absolute(config.manifest))[0]), []
    if config.videos is None:
        raise ValueError("ArchiveConfig requires --videos or --manifest")
    build = build_manifest(config.videos)
    for remark in (build.original_note, build.left_out):
        if remark:
            say(console, remark)
    return build.table, [*map(str, build.not_listed)]


def _absolute(manifest: pa.Table, folder: str) -> pa.Table:
    """Return ``manifest`` with relative URIs below ``folder``: workers have another working directory."""
    return with_values(manifest, "uri", [located(uri, folder) for uri in manifest["uri"].to_pylist()])


def checked_detector(faces: FaceConfig) -> tuple[bytes, dict[str, Any]]:
    """Return the weights of the face detector, after a trial load, and the settings that depend on it."""
    detector, weights = load_detector(faces)
    return weights, {
        "detector": detector.name,
        "detector_sha256": hashlib.sha256(weights).hexdigest(),
        "max_side": faces.max_side,
        "score_threshold": faces.score_threshold,
    }


class Run:
    """A run into an open folder; :func:`open_run` makes one."""

    def __init__(
        self,
        config: RunConfig,
        folder: RunFolder,
        resumed: Resumed,
        console: Console,
        *,
        verb: str,
        record: dict[str, Any],
    ) -> None:
        earlier = resumed.earlier
        rejected = num_rejected(earlier)
        self.todo = resumed.todo
        """Rows of the manifest without a result."""
        self.rows = earlier
        """All rows in the folder, sorted by ``video_id``, once the run is over."""
        self.record = record
        """Content of ``run.json``."""
        self.this: dict[str, Any] = record["runs"][-1]
        """Entry of this run in the record."""
        self._config, self._folder, self._console, self._verb = config, folder, console, verb
        self._started_s = time.monotonic()
        self._first_row_s: float | None = None
        self._counts = Counts(
            planned=resumed.todo.num_rows + earlier.num_rows,
            scored=earlier.num_rows - rejected,
            rejected=rejected,
            earlier=earlier.num_rows,
            verb=verb,
        )

    def through(
        self,
        stages: Sequence[Stage],
        nodes: Sequence[Mapping[str, float]],
        resources: Mapping[str, Any],
        sizes: Sizes,
    ) -> None:
        """Run the stages over :attr:`todo` on the Ray that is joined.

        Args:
            nodes: Resources of each node.
            resources: What the record stores about the workers.
            sizes: Number of workers of each stage, on nodes that join or go later.

        Raises:
            UserError: If the folder cannot be written, or too many videos are rejected.
        """
        cluster = total(nodes)
        self.this["resources"] = dict(resources)
        self.this["cluster"] = {name: cluster[name] for name in ("CPU", "GPU", "memory") if name in cluster}
        self.this["num_videos"] = self.todo.num_rows
        observer = Observer()
        pools = Pools(stages=stages, sizes=sizes, console=self._console)
        with progress(self._counts, self._console, title="videos") as show:
            show(note="starting workers")
            try:
                self._all_through(pools, observer, show)
            except ray.exceptions.RayError as error:
                if own := own_words(error):
                    raise own from None
                raise
            finally:
                largest = dict(zip(("decode", "model"), pools.largest, strict=False))
                self.this["faults_survived"] = observer.survived(largest)
                self.this["largest_pools"] = largest
                self.this["sandbox"] = observer.sandboxes()
        for remark in (observer.bugs(), unconfined(self.this["sandbox"])):
            if remark:
                say(self._console, remark)
        first_row_s = self._first_row_s or time.monotonic()
        self.this["seconds_to_first_row"] = round(first_row_s - self._started_s, 3)
        self.this["seconds"] = round(time.monotonic() - self._started_s, 3)

    def _all_through(self, pools: Pools, observer: Observer, show: Show) -> None:
        """Store the rows of all videos.

        Ray Data replaces a worker that dies, but gives up if a busy one exits with code 0. The rest then
        starts anew from its other end, one video at a time, because the next one may be the reason.
        """
        todo, workers = largest_first(self.todo), pools.stages[0].num_workers
        while True:
            # Small blocks made here: a Parquet read would put the whole manifest into one, on one worker.
            made = blocks(todo, workers=workers)
            pools.rows = max(block.num_rows for block in made)
            dataset = chain(made, pools.stages)
            try:
                with following(dataset, pools), executing(dataset) as batches:
                    return self.consume(batches, observer, show)
            except ray.exceptions.RayActorError as error:
                if _EXITED not in str(error):
                    raise
                todo, workers = self._left_of(todo), _ALONE
                say(
                    self._console, f"a worker has exited; the {todo.num_rows} videos without a row start anew"
                )

    def _left_of(self, todo: pa.Table) -> pa.Table:
        """Return the videos of ``todo`` that have no row, in reverse order.

        Raises:
            IncompleteError: If that is all of them.
        """
        self._folder.flush()
        left = unfinished(todo, self._folder.read())
        if left.num_rows == todo.num_rows:
            raise IncompleteError(
                f"{left.num_rows} of {self._counts.planned} videos have no row in {self._folder.root}, as "
                f"{left['video_id'][0]}: their workers exit; run the same command again, or leave them out"
            )
        return left.take([*reversed(range(left.num_rows))])

    def consume(self, batches: Iterable[pa.Table], observer: Observer, show: Show) -> None:
        """Store rows as they come."""
        counts, folder = self._counts, self._folder
        counts.started_s = flushed_s = time.monotonic()
        for batch in batches:
            rows = batch.cast(folder.schema)
            self._first_row_s = self._first_row_s or time.monotonic()
            folder.add(rows)
            observer.rows(rows)
            rejected = num_rejected(rows)
            counts.rejected += rejected
            counts.scored += rows.num_rows - rejected
            show()
            if time.monotonic() - flushed_s > flush_after_s(time.monotonic() - counts.started_s):
                folder.flush()
                flushed_s = time.monotonic()
            self._judge(observer)

    def _judge(self, observer: Observer) -> None:
        counts, most = self._counts, self._config.max_reject_fraction
        if counts.done >= _JUDGED_AFTER and counts.rejected > most * counts.done:
            raise UserError(
                f"{counts.rejected} of {counts.done} videos were rejected, more than --max-reject-fraction "
                f"{most:g}; {observer.most_rejects()}see reject_code in {self._folder.rows}"
            )

    def require_complete(self) -> None:
        """Raise :class:`IncompleteError` if a planned video has no row."""
        missing = self._counts.planned - self.rows.num_rows
        if missing > 0:
            raise IncompleteError(
                f"{missing} of {self._counts.planned} videos have no row in {self._folder.root}; "
                "run the same command again"
            )

    def close(self) -> None:
        """Store waiting rows and count all, also where the rows cannot be stored."""
        folder = self._folder
        try:
            folder.flush()
            folder.settle()
        finally:
            self.rows = folder.read().sort_by("video_id")
            self.record |= totals(self.rows, planned=self._counts.planned, verb=self._verb)


@contextmanager
def open_run(
    config: RunConfig,
    folder: RunFolder,
    manifest: pa.Table,
    console: Console,
    *,
    verb: str,
    not_listed: Sequence[str] = (),
) -> Iterator[Run]:
    """Open ``folder`` for a run over ``manifest``; when the block ends, all is stored.

    Args:
        verb: Word for a video that is not rejected: ``scored``.
        not_listed: Places that could not be listed, each with the reason.

    Raises:
        UserError: If the folder contains something else or cannot be written.
        IncompleteError: If the block ended without an error and a planned video has no row.
    """
    look = isinstance(config, ArchiveConfig) and config.manifest is not None  # it may be old
    resumed = resume(folder, manifest, overwrite=config.overwrite, retry=config.retry, look=look)
    record = {
        "config": asdict(config),
        "not_listed": {"count": len(not_listed), "entries": [*not_listed]},
        "runs": folder.earlier_runs,
    }
    with folder.recorded(record):
        with writing_to(folder.root):
            storage.write_parquet(folder.manifest, resumed.manifest)
        show_list(console, "not listed, hence without a row", not_listed)
        show_oddities(manifest, console)
        for remark in resumed.remarks:
            say(console, remark)
        run = Run(config, folder, resumed, console, verb=verb, record=record)
        try:
            yield run
        finally:
            run.close()
        run.require_complete()
        folder.remove_unfinished(folder.root, folder.rows)


def flush_after_s(elapsed_s: float) -> float:
    """Return how long rows may wait in a run of that age: a kill costs at most a twentieth of it."""
    return min(20.0, max(1.0, 0.05 * elapsed_s))
