"""The output folder of a run: what is in it, whether it may be continued, and how results get there.

::

    OUT/manifest.parquet           what was planned
        predictions/part-*.parquet one row per video, written whole or not at all
        run.json                   settings, versions, counts: planned == scored + rejected

The driver is the only writer and appends parts; a video is finished when a part names it. A run that
died is continued by the videos no part names, so nothing is lost and nothing stands twice.
"""

import json
from collections.abc import Mapping
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs

from dfdm_ray import storage
from dfdm_ray.errors import UserError
from dfdm_ray.schemas import PREDICTIONS

_ROWS_PER_PART = 1000


class RunFolder:
    """One output folder; ``settings`` are those values on which the results depend."""

    def __init__(self, root: str, *, settings: Mapping[str, Any]) -> None:
        self.root = root
        self.settings = dict(settings)
        self.earlier_runs: list[dict[str, Any]] = []
        """What ``run.json`` said of earlier runs into this folder, once it is open."""
        self._next_part = 0
        self._waiting: list[pa.Table] = []

    @property
    def predictions(self) -> str:
        """Folder of the Parquet parts."""
        return storage.join(self.root, "predictions")

    @property
    def run_json(self) -> str:
        """The run's record."""
        return storage.join(self.root, "run.json")

    @property
    def manifest(self) -> str:
        """What was planned."""
        return storage.join(self.root, "manifest.parquet")

    def open(self, *, overwrite: bool) -> pa.Table:
        """Make the folder ready and return the rows that an earlier run left there.

        Raises:
            UserError: If the folder holds something else, or a run with other settings.
        """
        if overwrite and storage.exists(self.run_json):
            storage.remove_tree(self.predictions)  # nothing else in the folder is ours to delete
            return PREDICTIONS.empty_table()
        names = _names(self.root)
        if not names:
            return PREDICTIONS.empty_table()
        if "run.json" not in names:
            found = ", ".join(sorted(names)[:3])
            raise UserError(f"--out {self.root} is not empty and holds no run ({found}); give a new folder")
        self._require_same_settings()
        return self.read()

    def _require_same_settings(self) -> None:
        try:
            before = json.loads(storage.read_bytes(self.run_json, what="run record"))
            self.earlier_runs = list(before["runs"])
            changed = changes(before["settings"], json.loads(json.dumps(self.settings)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{self.run_json} is damaged; give --overwrite or a new --out") from error
        if changed:
            raise UserError(
                f"--out {self.root} holds a run with other settings ({'; '.join(changed)}); "
                "give the same settings to continue it, --overwrite to replace it, or a new --out"
            )

    def read(self) -> pa.Table:
        """Return all rows on disk, :data:`schemas.PREDICTIONS`."""
        names = sorted(name for name in _names(self.predictions) if name.endswith(".parquet"))
        if names:
            self._next_part = 1 + max(
                int(name.removeprefix("part-").removesuffix(".parquet")) for name in names
            )
        parts = [storage.read_parquet(storage.join(self.predictions, name), what="part") for name in names]
        return pa.concat_tables(parts).cast(PREDICTIONS) if parts else PREDICTIONS.empty_table()

    def add(self, rows: pa.Table) -> None:
        """Take finished rows; they are on disk after the next :meth:`flush`."""
        self._waiting.append(rows)
        if sum(part.num_rows for part in self._waiting) >= _ROWS_PER_PART:
            self.flush()

    def flush(self) -> None:
        """Write the rows taken since the last part as one part."""
        if not self._waiting:
            return
        name = f"part-{self._next_part:05d}.parquet"
        storage.write_parquet(storage.join(self.predictions, name), pa.concat_tables(self._waiting))
        self._next_part += 1
        self._waiting = []

    def write_record(self, record: Mapping[str, Any]) -> None:
        """Write ``run.json``: the settings and ``record``."""
        content = json.dumps({**record, "settings": self.settings}, indent=2, default=str)
        storage.write_atomic(self.run_json, content.encode())


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


def _names(folder: str) -> list[str]:
    filesystem, path = storage.resolve(folder)
    infos = filesystem.get_file_info(pafs.FileSelector(path, allow_not_found=True))
    return [cast(str, info.base_name) for info in infos]
