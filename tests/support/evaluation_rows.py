"""Predictions made by hand, for the tests of evaluation."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dfdm_ray.labels import GENERATORS
from dfdm_ray.schemas import PREDICTIONS, SCORED

Row = dict[str, Any]

_ZERO: Row = {"string": "", "int32": 0, "int64": 0, "float": 0.0}
_BASE: Row = {
    field.name: None if field.nullable else [] if pa.types.is_list(field.type) else _ZERO[str(field.type)]
    for field in PREDICTIONS
}


def scored(video_id: str, true: str | None, attributed: str, probability: float = 0.6, **facts: Any) -> Row:
    """Return a scored row; the other generators share what is left of the probability."""
    rest = (1 - probability) / (len(GENERATORS) - 1)
    return {
        **_BASE,
        "video_id": video_id,
        "true_generator": true,
        "split": "test",
        "crf": 0,
        "target_identity": "id0",
        "source_identity": "id1",
        "scene": "0",
        "status": SCORED,
        "generator": attributed,
        "probability": probability,
        "probabilities": [probability if name == attributed else rest for name in GENERATORS],
        **facts,
    }


def rejected(video_id: str, true: str | None, code: str = "no_face", **facts: Any) -> Row:
    row = scored(video_id, true, GENERATORS[0])
    nothing = {"generator": None, "probability": None, "probabilities": []}
    return {**row, **nothing, "status": "rejected", "reject_code": code, "reject_detail": "none", **facts}


def table(rows: Sequence[Row]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=PREDICTIONS)


def run_folder(root: Path, rows: Sequence[Row], **record: Any) -> str:
    """Write a folder as `score` leaves it."""
    (root / "predictions").mkdir(parents=True)
    pq.write_table(table(rows), root / "predictions" / "part-00000.parquet")
    content = {"planned": len(rows), "settings": {"classes": list(GENERATORS)}, "runs": [], **record}
    (root / "run.json").write_text(json.dumps(content))
    return str(root)
