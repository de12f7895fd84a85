"""Output folders with rows of made-up videos."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from dfdm_ray.engine.folder import RunFolder
from dfdm_ray.schemas import PREDICTIONS

SETTINGS = {"margin": 0.3, "detector": "mobilenet0.25"}


def rows(*video_ids: str) -> pa.Table:
    empty: dict[str, Any] = {"string": "", "int32": 0, "float": 0.0}
    row = {
        field.name: None if field.nullable else [] if pa.types.is_list(field.type) else empty[str(field.type)]
        for field in PREDICTIONS
    }
    return pa.Table.from_pylist([{**row, "video_id": name} for name in video_ids], schema=PREDICTIONS)


def run_folder(root: Path, settings: dict[str, Any] = SETTINGS) -> RunFolder:
    return RunFolder(str(root), job="score", settings=settings, rows="predictions", schema=PREDICTIONS)


def a_run(root: Path, *video_ids: str) -> RunFolder:
    folder = run_folder(root)
    folder.open(overwrite=False)
    folder.write_record({"runs": [*folder.earlier_runs, {"status": "running"}]})
    folder.add(rows(*video_ids))
    folder.flush()
    return folder
