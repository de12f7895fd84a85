"""Ray Data actors that sleep. They import little, for there are many of them."""

import time
from typing import Any

import pyarrow as pa

from dfdm_ray.engine.stage import worker_name
from dfdm_ray.schemas import CLIPS, MANIFEST, PREDICTIONS, SCORED

CROPS_BYTES = 10 * 224 * 224 * 3 // 100
"""A hundredth of what the crops of a video have."""

_MOST_ROWS = 64
_FRAMES = 10
_ROW: dict[str, Any] = {
    **dict.fromkeys(("num_frames_in_video", "num_frames_missing", "num_frames_decoded", "num_faces"), 10),
    **dict.fromkeys(("seconds_decode", "seconds_detect", "seconds_model", "probability", "face_score"), 0.5),
    "status": SCORED,
    "num_frames_scored": _FRAMES,
    "pts_s": [0.1] * _FRAMES,
    "boxes_xyxy": [[1.0, 2.0, 3.0, 4.0]] * _FRAMES,
    "landmarks": [[[1.0, 2.0]] * 5] * _FRAMES,
    "faults": [],
    "detector": "none",
    "crops": bytes(CROPS_BYTES),
    "generator": "iae",
    "probabilities": [0.2] * 5,
    "logits": [0.2] * 5,
    "temporal_attention": [0.1] * _FRAMES,
}


class _Sleeper:
    """Ray Data actor: sleeps, then adds the columns that its stage would add."""

    schema: pa.Schema
    named: str

    def __init__(self, *, video_s: float) -> None:
        self._video_s = video_s
        row = {**_ROW, self.named: worker_name()}
        names = [name for name in self.schema.names if name not in MANIFEST.names]
        schema = pa.schema([self.schema.field(name) for name in names])
        self._rows = pa.Table.from_pylist([row] * _MOST_ROWS, schema=schema)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Sleep for the videos of ``batch``."""
        time.sleep(self._video_s * batch.num_rows)
        made = self._rows.slice(0, batch.num_rows)
        columns = [batch[n] if n in batch.column_names else made[n] for n in self.schema.names]
        return pa.Table.from_arrays(columns, schema=self.schema)


class SleepingPrepareClips(_Sleeper):
    """Stands for ``PrepareClips``. In: :data:`schemas.MANIFEST`. Out: :data:`schemas.CLIPS`."""

    schema, named = CLIPS, "prepared_by"


class SleepingAttributeClips(_Sleeper):
    """Stands for ``AttributeClips``. In: :data:`schemas.CLIPS`. Out: :data:`schemas.PREDICTIONS`."""

    schema, named = PREDICTIONS, "scored_by"
