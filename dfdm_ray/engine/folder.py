"""The output folder of a run: what is in it, whether it may be continued, and how results get there.

::

    OUT/manifest.parquet      what was planned
        ROWS/part-*.parquet   one row per video, written whole or not at all
        run.json              settings, versions, counts; all videos planned are in the rows

Only the driver writes these, and appends parts; a video is finished when a part names it. A run that
died is continued by the videos no part names, so nothing is lost. No two drivers write a part of the same
name, so a driver that was thought dead harms nothing: what then stands twice is settled by the next run.
"""

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dfdm_ray.clips.crops_dataset import CROPS_FOLDER, INDEX_FOLDER
from dfdm_ray.errors import UserError, writing_to
from dfdm_ray.io import storage
from dfdm_ray.schemas import PREDICTIONS_FOLDER

RECORD = "run.json"
"""Name of the record of a run."""
_ROWS_PER_PART = 1000


class RunFolder:
    """One output folder.

    Args:
        root: Where it is.
        rows: Name of the folder below it that gets the rows.
        schema: Of the rows.
        settings: Those values on which the results depend.
        files: Folders below it that workers fill; they go when the run is made anew.
    """

    def __init__(
        self,
        root: str,
        *,
        rows: str,
        schema: pa.Schema,
        settings: Mapping[str, Any],
        files: Sequence[str] = (),
    ) -> None:
        self.root = root
        self.settings = dict(settings)
        self.schema = schema
        self._owned = [storage.join(root, name) for name in (rows, *files)]
        self.earlier_runs: list[dict[str, Any]] = []
        """What ``run.json`` said of earlier runs into this folder, once it is open."""
        self._next_part = 0
        self._driver = uuid.uuid4().hex[:8]
        self._waiting: list[pa.Table] = []

    @property
    def rows(self) -> str:
        """Folder of the Parquet parts."""
        return self._owned[0]

    @property
    def run_json(self) -> str:
        """The run's record."""
        return storage.join(self.root, RECORD)

    @property
    def manifest(self) -> str:
        """What was planned."""
        return storage.join(self.root, "manifest.parquet")

    def open(self, *, overwrite: bool, again: Callable[[pa.Table], pa.Array] | None = None) -> pa.Table:
        """Make the folder ready and return the rows that an earlier run left there.

        Args:
            overwrite: Whether to delete them instead.
            again: Tells of a table of rows, as a mask, which are to be done again; they are taken out.

        Raises:
            UserError: If the folder holds something else, or a run with other settings.
        """
        if overwrite and storage.exists(self.run_json):
            self._require_own()
            with writing_to(self.root):
                for folder in self._owned:  # nothing else in the folder is ours to delete
                    storage.remove_tree(folder)
            return self.schema.empty_table()
        names = storage.list_names(self.root)
        if not names:
            return self.schema.empty_table()
        if "run.json" not in names:
            found = ", ".join(sorted(names)[:3])
            raise UserError(f"--out {self.root} is not empty and holds no run ({found}); give a new folder")
        self.earlier_runs = earlier_record(self.root, self.settings, kind="run")["runs"]
        self.settle(again)
        return self.read()

    def _require_own(self) -> None:
        names, own = set(storage.list_names(self.root)), {storage.split(uri)[1] for uri in self._owned}
        others = names & {PREDICTIONS_FOLDER, INDEX_FOLDER, CROPS_FOLDER}
        if not names & own and (others or "manifest.parquet" not in names):
            raise another_job(self.root)

    def settle(self, again: Callable[[pa.Table], pa.Array] | None = None) -> None:
        """Take out of the parts what is to be done again, and all but one row of a video.

        Each part is replaced at once, so that a kill in between only leaves some for the next time.
        """
        seen: set[str] = set()
        for uri in (storage.join(self.rows, name) for name in storage.part_names(self.rows)):
            rows = read_part(uri, self.schema)
            kept = rows.filter(pc.invert(again(rows))) if again else rows
            first = [not (name in seen or seen.add(name)) for name in kept["video_id"].to_pylist()]  # type: ignore[func-returns-value]
            kept = kept.filter(pa.array(first, pa.bool_()))
            with writing_to(self.root):
                if not kept.num_rows:
                    storage.remove_file(uri)
                elif kept.num_rows < rows.num_rows:
                    storage.write_parquet(uri, kept)

    def read(self) -> pa.Table:
        """Return all rows on disk."""
        numbers = [int(name.split("-")[1].partition(".")[0]) for name in storage.part_names(self.rows)]
        self._next_part = max(numbers, default=-1) + 1
        return storage.read_parts(self.rows, self.schema)

    def add(self, rows: pa.Table) -> None:
        """Take finished rows; they are on disk after the next :meth:`flush`."""
        self._waiting.append(rows)
        if sum(part.num_rows for part in self._waiting) >= _ROWS_PER_PART:
            self.flush()

    def flush(self) -> None:
        """Write the rows taken since the last part as one part.

        Raises:
            UserError: If that fails; they wait on.
        """
        if not self._waiting:
            return
        name = f"part-{self._next_part:05d}-{self._driver}.parquet"
        with writing_to(self.root):
            storage.write_parquet(storage.join(self.rows, name), pa.concat_tables(self._waiting))
        self._next_part += 1
        self._waiting = []

    def remove_unfinished(self) -> None:
        """Delete what drivers that were killed left half written."""
        for folder in (self.root, self.rows):
            storage.remove_unfinished(folder)

    def write_record(self, record: Mapping[str, Any]) -> None:
        """Write ``run.json``: the settings and ``record``."""
        content = json.dumps({**record, "settings": self.settings}, indent=2, default=str)
        with writing_to(self.root):
            storage.write_atomic(self.run_json, content.encode())


def another_job(root: str) -> UserError:
    """Return the error of a run that would take over the folder of another one's results."""
    return UserError(
        f"--out {root} holds a run of another job, which --overwrite does not replace; give a new --out"
    )


def read_part(uri: str, schema: pa.Schema) -> pa.Table:
    """Return the rows of one part.

    Raises:
        UserError: If it is damaged.
    """
    try:
        return storage.read_parquet(uri, what="part").cast(schema)
    except (UserError, pa.ArrowInvalid, ValueError) as error:
        raise UserError(f"{error}; delete {uri}, and its videos are done again") from error


def earlier_record(
    out: str,
    settings: Mapping[str, Any],
    *,
    kind: str,
    complete: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda before: before,
) -> dict[str, Any]:
    """Return the record in the folder ``out``, after a look at the settings in it.

    Args:
        out: Output folder of the earlier run.
        settings: Those of now, flat.
        kind: What it is a record of, for messages: ``run``, ``training``.
        complete: Given the earlier settings, adds what earlier versions did not write.

    Raises:
        UserError: If the record is damaged or has other settings.
    """
    uri = storage.join(out, RECORD)
    try:
        record: dict[str, Any] = json.loads(storage.read_bytes(uri, what=f"{kind} record"))
        changed = changes(complete(record["settings"]), json.loads(json.dumps(settings)))
        record["runs"] = list(record["runs"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{uri} is damaged; give --overwrite or a new --out") from error
    if changed:
        raise UserError(
            f"--out {out} holds a {kind} with other settings ({'; '.join(changed)}); give the same settings "
            "to continue it, --overwrite to replace it, or a new --out"
        )
    return record


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return one text for each value in which two flat settings differ: ``name: was -> is``."""
    names = sorted(before.keys() | now.keys())
    return [
        f"{name}: {before.get(name)} -> {now.get(name)}"
        for name in names
        if before.get(name) != now.get(name)
    ]


def unfinished(manifest: pa.Table, done: pa.Table) -> pa.Table:
    """Return the rows of ``manifest`` whose video no row of ``done`` names."""
    finished = pc.is_in(manifest["video_id"], value_set=done["video_id"].combine_chunks())
    return manifest.filter(pc.invert(finished))
