"""Stages of a report: pictures by CPU workers, and answers to covered faces by model workers."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from dfdm_ray.clips.child import Row, only_row, rejection
from dfdm_ray.clips.isolation import Allowance, ChildLostError, Isolated, WorkBugError
from dfdm_ray.clips.stage import worker_name
from dfdm_ray.errors import RejectCode
from dfdm_ray.jobs.report.explain import Explainer
from dfdm_ray.jobs.report.pictures import PICTURES, PictureWork, ThumbnailWork
from dfdm_ray.models.checkpoint import load_checkpoint
from dfdm_ray.schemas import THUMBNAILS

REQUEST = pa.schema([("video_id", pa.string()), ("uri", pa.string()), ("faces", pa.string())])
"""Input of :class:`TakePictures`; ``faces`` is JSON: times, boxes and landmarks of each face."""
TAKEN = pa.schema([*REQUEST, *PICTURES])
MAPS = pa.struct(
    [
        ("logits", pa.list_(pa.float32())),
        ("crops", pa.list_(pa.binary())),  # JPEG files, in order of time
        ("frame", pa.int32()),  # the one with the largest temporal attention
        ("attention", pa.list_(pa.float32())),  # flat square map of that frame; empty: the model has none
        ("occlusion", pa.list_(pa.float32())),  # flat grid: loss of log odds where the cell is covered
    ]
)
EXPLAINED = pa.schema([*(field for field in TAKEN if field.name != "crops"), ("maps", pa.list_(MAPS))])
"""Output of :class:`ExplainFaces`: ``maps`` of each face."""


class _Pictured:
    """Answers of a decoding process, each a row or the reason why there is none."""

    def __init__(self, work: PictureWork, allowance: Allowance, attempts: int) -> None:
        self._isolated, self._schema, self._attempts = Isolated(work, allowance), work.schema, attempts

    @property
    def layers(self) -> list[str]:
        """Layers of the sandbox that hold."""
        return self._isolated.layers

    def row(self, uri: str, faces: Sequence[Row]) -> Row:
        faults: list[str] = []
        lost: Row = {}
        for _ in range(self._attempts):
            try:
                row = only_row(self._isolated(uri, faces), self._schema)
                return {**row, "faults": [*faults, *self._isolated.drain_failures()]}
            except (pa.ArrowException, OSError, ValueError):
                self._isolated.close()  # a file may have taken over the process
                lost = rejection(RejectCode.CRASHED, "the answer of the decoding process is no row")
            except ChildLostError as error:
                lost = rejection(error.code, error.detail)
            except WorkBugError as bug:
                lost = rejection(RejectCode.INTERNAL_ERROR, bug.summary)
            faults.append(f"{lost['reject_code']}: {lost['reject_detail']}")
        empty: Row = {field.name: [] for field in self._schema if pa.types.is_list(field.type)}
        return {**empty, **lost, "faults": faults}


class TakePictures:
    """Ray Data actor: turns :data:`REQUEST` into :data:`TAKEN`, row for row."""

    def __init__(self, *, work: PictureWork, allowance: Allowance, attempts: int) -> None:
        self._pictured = _Pictured(work, allowance, attempts)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Process the videos of ``batch`` in turn."""
        rows = [
            {**row, **self._pictured.row(row["uri"], json.loads(row["faces"]))} for row in batch.to_pylist()
        ]
        return pa.Table.from_pylist(rows, schema=TAKEN)


class TakeThumbnails:
    """Ray Data actor: turns a manifest with ``pts_s`` and ``box_xyxy`` into :data:`schemas.THUMBNAILS`."""

    def __init__(self, *, work: ThumbnailWork, allowance: Allowance, attempts: int) -> None:
        self._pictured = _Pictured(work, allowance, attempts)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Process the videos of ``batch`` in turn."""
        return pa.Table.from_pylist([self._row(row) for row in batch.to_pylist()], schema=THUMBNAILS)

    def _row(self, row: Row) -> Row:
        face = {"pts_s": [row["face_pts_s"]], "boxes_xyxy": [row["face_box"]]}
        found = self._pictured.row(row["uri"], [] if row["face_box"] is None else [face])
        found["num_frames_decoded"] = found.get("num_frames_decoded") or 0
        ids = {"video_id": row["video_id"], "fingerprint": row["fingerprint"]}
        return {
            **ids,
            **found,
            "num_frames_scored": 0,
            "prepared_by": worker_name(),
            "sandbox": self._pictured.layers,
        }


class ExplainFaces:
    """Ray Data actor: turns :data:`TAKEN` into :data:`EXPLAINED`, row for row.

    Args:
        shape: Shape of a clip of a face, (T, S, S, 3).
        cells: Cells on a side of the occlusion; 0: none.
    """

    def __init__(
        self,
        *,
        checkpoint: bytes,
        name: str,
        shape: tuple[int, int, int, int],
        device: str,
        precision: Literal["fp32", "bf16"],
        cells: int,
    ) -> None:
        loaded = load_checkpoint(checkpoint, name=name)
        self._explain = Explainer(loaded, device=device, precision=precision, cells=cells)
        self._shape = shape

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Explain the faces of ``batch`` one by one."""
        rows = [{**row, "maps": [self._maps(crops) for crops in row["crops"]]} for row in batch.to_pylist()]
        return pa.Table.from_pylist(rows, schema=EXPLAINED)

    def _maps(self, content: bytes) -> Mapping[str, Any] | None:
        if not content or len(content) % math.prod(self._shape):
            return None
        return self._explain.maps(np.frombuffer(content, np.uint8).reshape(-1, *self._shape))
