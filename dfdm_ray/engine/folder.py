"""The output folder of a job: who made it, whether it may be continued, and how results get there.

::

    OUT/run.json              job, settings, versions, counts, one entry per run
        heartbeat-*.json      while a run writes here    (see :mod:`dfdm_ray.engine.heartbeat`)
        manifest.parquet      what was planned           (score, preprocess)
        ROWS/part-*.parquet   one row per video          (score, preprocess)

A folder may be continued by the same job with the same settings; any other content is refused. The record is
written first, so that a folder that has anything has a record.

Only the driver writes rows, and it appends whole parts; a video is finished when a part contains it. A run
that died is continued with the videos that no part contains, so nothing is lost. No two drivers write a part
of the same name, so a driver that was thought dead does no harm: the next run removes duplicate rows.
"""

import json
import sys
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dfdm_ray.engine.heartbeat import heartbeat, is_heartbeat, require_alone
from dfdm_ray.engine.record import changes, now, read_record, status_of, versions
from dfdm_ray.errors import UserError, writing_to
from dfdm_ray.io import storage
from dfdm_ray.io.listing import FileEntry, list_files
from dfdm_ray.schemas import of_schema

RECORD = "run.json"
MANIFEST_FILE = "manifest.parquet"
_ROWS_PER_PART = 1000
_NOT_STORED = {"align": "box", "most_faces": 1}  # by earlier versions, which had these values
_JOB_OF_FILE = {
    "predictions": "score",
    "videos": "crops",
    "crops": "crops",
    "state.pt": "train",
    "dma_sta.pt": "train",
    "history.csv": "train",
    "dataset.json": "generate",
}
"""Files by which a record of a version that did not store its job is recognised."""


class OutputFolder:
    """The output folder of a job that can be continued.

    Args:
        job: Name of the job: ``score``, ``crops``, ``train`` or ``generate``.
        settings: Values on which the results depend, flat.
        owned: Names below ``root`` that the job makes, besides its record; ``--overwrite`` deletes them.
    """

    def __init__(
        self, root: str, *, job: str, settings: Mapping[str, Any], owned: Sequence[str] = ()
    ) -> None:
        self.root = root
        self.job = job
        self.settings: dict[str, Any] = json.loads(json.dumps(settings))
        self._owned = owned
        self._heartbeat = ""

    @property
    def run_json(self) -> str:
        """URI of the record."""
        return storage.join(self.root, RECORD)

    def open_record(
        self,
        *,
        overwrite: bool = False,
        has_overwrite: bool = True,
        defaults: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Check what is in the folder and return its record, ``{"runs": []}`` for a new folder.

        Args:
            overwrite: Delete what an earlier run of this job left.
            has_overwrite: Whether the job has the flag --overwrite, for messages.
            defaults: Settings that earlier versions did not store; those that this job lacks do not count.

        Raises:
            UserError: If it contains something else or other settings, or another run writes there.
        """
        require_alone(self.root)
        names = {*storage.list_names(self.root)}
        names -= {name for name in names if name.endswith(".part") or is_heartbeat(name)}
        if names == {MANIFEST_FILE}:  # earlier versions stored it before their record
            names = set()
        if not names:
            return {"runs": []}
        if RECORD not in names:
            found = ", ".join(sorted(names)[:3])
            raise UserError(f"--out {self.root} contains files but no {RECORD} ({found}); give a new folder")
        if overwrite:
            self._require_job(read_record(self.run_json, lenient=True), names)
            self._remove(names)
            return {"runs": []}
        record = read_record(self.run_json)
        self._require_job(record, names)
        absent = {name: value for name, value in (defaults or {}).items() if name in self.settings}
        changed = changes({**absent, **record["settings"]}, self.settings)
        if changed:
            replace = "give --overwrite to replace it, " if has_overwrite else ""
            raise UserError(
                f"--out {self.root} contains a run with other settings ({'; '.join(changed)}); repeat the "
                f"earlier settings to continue it, {replace}or give a new --out"
            )
        return record

    @contextmanager
    def recorded(self, record: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Add a run to ``record`` and yield its entry; its status is stored before and after the block.

        Raises:
            UserError: If another run writes to the folder.
        """
        run: dict[str, Any] = {"started_at": now(), "command": sys.argv, "status": "running"}
        with heartbeat(self.root) as self._heartbeat:
            record["runs"] = [*record["runs"], run]
            self.write_record(record)
            try:
                yield run
                run["status"] = "complete"
            except BaseException as error:
                run["status"] = status_of(error)
                raise
            finally:
                run["finished_at"] = now()
                record["versions"] = versions()
                self.write_record(record)

    def remove_unfinished(self, *folders: str) -> None:
        """Delete files that killed writers left in ``folders``; while this is the only run that writes."""
        if [self._heartbeat] == [*filter(is_heartbeat, storage.list_names(self.root))]:
            for folder in folders:
                storage.remove_unfinished(folder)

    def write_record(self, record: Mapping[str, Any]) -> None:
        """Write ``run.json``: ``record``, the job and its settings."""
        content = {**record, "job": self.job, "settings": self.settings}
        with writing_to(self.root):
            storage.write_atomic(self.run_json, json.dumps(content, indent=2, default=str).encode())

    def _require_job(self, record: Mapping[str, Any], names: set[str]) -> None:
        """Refuse the folder of another job."""
        job = record.get("job")
        jobs = {job} if job else {_JOB_OF_FILE[name] for name in names & _JOB_OF_FILE.keys()}
        if jobs and self.job not in jobs:
            raise UserError(
                f"--out {self.root} contains a run of another job ({', '.join(sorted(jobs))}), which "
                "--overwrite does not replace; give a new --out"
            )

    def _remove(self, names: set[str]) -> None:
        """Delete what the job made but the record, so that a half deleted folder has one."""
        with writing_to(self.root):
            for name in filter(names.__contains__, self._owned):
                storage.remove(storage.join(self.root, name))


class RunFolder(OutputFolder):
    """The output folder of a job with one row per video.

    Args:
        rows: Name of the folder of the rows.
        files: Name of a folder that workers fill; the rows' column ``file`` names its files.
    """

    def __init__(
        self,
        root: str,
        *,
        job: str,
        settings: Mapping[str, Any],
        rows: str,
        schema: pa.Schema,
        files: str | None = None,
    ) -> None:
        owned = [MANIFEST_FILE, "contact_sheet.png", rows, f"{rows}.csv", f"{rows}.jsonl", files or rows]
        super().__init__(root, job=job, settings=settings, owned=owned)
        self.schema = schema
        self.rows = storage.join(root, rows)
        self.manifest = storage.join(root, MANIFEST_FILE)
        self.files = None if files is None else storage.join(root, files)
        self.earlier_runs: list[dict[str, Any]] = []
        """Entries of earlier runs in ``run.json``, once the folder is open."""
        self._next_part = 0
        self._driver = uuid.uuid4().hex[:8]
        self._waiting: list[pa.Table] = []

    def open(self, *, overwrite: bool) -> pa.Table:
        """Prepare the folder and return the rows that an earlier run left there.

        Raises:
            UserError: As :meth:`open_record`.
        """
        self.earlier_runs = list(self.open_record(overwrite=overwrite, defaults=_NOT_STORED)["runs"])
        return self.read()

    def settle(self, wanted: Iterable[str] | None = None) -> None:
        """Keep one row of each video in the parts, and only of the videos in ``wanted`` (default: all).

        Each part is replaced at once, so a kill in between only leaves some for the next time.
        """
        chosen, seen = None if wanted is None else set(wanted), set[str]()
        for uri in (storage.join(self.rows, name) for name in storage.part_names(self.rows)):
            part = read_part(uri, self.schema)
            mask = []
            for name in part["video_id"].to_pylist():
                mask.append(name not in seen and (chosen is None or name in chosen))
                seen.add(name)
            kept = part.filter(pa.array(mask, pa.bool_()))
            with writing_to(self.root):
                if not kept.num_rows:
                    storage.remove(uri)
                elif kept.num_rows < part.num_rows:
                    storage.write_parquet(uri, kept)

    def lost(self, rows: pa.Table) -> pa.Array:
        """Return a mask of the rows whose file is gone."""
        if self.files is None or not rows.num_rows:
            return pa.repeat(False, rows.num_rows)
        there = pa.array([*self.stored_files()], pa.string())
        return pc.and_(pc.is_valid(rows["file"]), pc.invert(pc.is_in(rows["file"], value_set=there)))

    def stored_files(self) -> dict[str, int]:
        """Return the size in bytes of each file that workers wrote, by its path below the folder."""
        if self.files is None or not storage.exists(self.files):
            return {}
        name = storage.split(self.files)[1]
        found = [entry for entry in list_files(self.files) if isinstance(entry, FileEntry)]
        return {f"{name}/{entry.relative}": entry.size_bytes for entry in found}

    def read(self) -> pa.Table:
        """Return all rows on disk.

        Raises:
            UserError: If a part is damaged.
        """
        names = storage.part_names(self.rows)
        numbers = [int(name.split("-")[1].partition(".")[0]) for name in names]
        self._next_part = max(numbers, default=-1) + 1
        parts = [read_part(storage.join(self.rows, name), self.schema) for name in names]
        return pa.concat_tables([self.schema.empty_table(), *parts])

    def add(self, rows: pa.Table) -> None:
        """Take finished rows; they are on disk after the next :meth:`flush`.

        Raises:
            UserError: If workers wrote the rows' files to disks of their own.
        """
        if self.files is not None and not storage.is_remote(self.root):
            for file in rows["file"].drop_null().to_pylist():
                if not storage.exists(storage.join(self.root, file)):
                    raise UserError(
                        f"a worker wrote {file}, but it is not in {self.root}; give an --out that all "
                        "machines of the cluster share, or s3://"
                    )
        self._waiting.append(rows)
        if sum(part.num_rows for part in self._waiting) >= _ROWS_PER_PART:
            self.flush()

    def flush(self) -> None:
        """Write the rows taken since the last part as one part.

        Raises:
            UserError: If that fails; the rows are kept for the next try.
        """
        if not self._waiting:
            return
        name = f"part-{self._next_part:05d}-{self._driver}.parquet"
        with writing_to(self.root):
            storage.write_parquet(storage.join(self.rows, name), pa.concat_tables(self._waiting))
        self._next_part += 1
        self._waiting = []


def read_part(uri: str, schema: pa.Schema) -> pa.Table:
    """Return the rows of one part.

    Raises:
        UserError: If it is damaged.
    """
    try:
        return of_schema(storage.read_parquet(uri, what="part"), schema)
    except (UserError, pa.ArrowInvalid, ValueError) as error:
        raise UserError(f"{error}; delete {uri}, and its videos are processed again") from error


def unfinished(manifest: pa.Table, done: pa.Table) -> pa.Table:
    """Return the rows of ``manifest`` whose video is not in ``done``."""
    finished = pc.is_in(manifest["video_id"], value_set=done["video_id"].combine_chunks())
    return manifest.filter(pc.invert(finished))
