"""What a decoding process does: a file's URI to its row, as Arrow bytes, with crops or the reason why not.

A worker imports this module too, so the decoders are imported where the work begins.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa

from dfdm_ray.clips.isolation import ChildLostError, Work
from dfdm_ray.clips.spec import ClipSpec
from dfdm_ray.config import FaceConfig
from dfdm_ray.errors import RejectCode, VideoRejectedError
from dfdm_ray.io.memory import keep_freed_memory
from dfdm_ray.io.retry import drain_failures
from dfdm_ray.schemas import CLIP_COLUMNS, REJECTED, SCORED

if TYPE_CHECKING:
    from dfdm_ray.clips.cut import ClipFacts, FaceClips

Row = dict[str, Any]

_NO_ROW = "the decoding process answered what is no row"

_KEPT_BYTES = 2**26
"""A frame of 1920x1080 has 6 MB as RGB, and 25 MB as the float32 of which faces are found."""

NO_CLIPS: Row = {
    "num_frames_scored": 0,
    "pts_s": [],
    "boxes_xyxy": [],
    "landmarks": [],
    "face_score": None,
    "crops": b"",
}
"""Columns of a rejected video."""

BY_FRAME = ("pts_s", "boxes_xyxy", "landmarks")
"""Columns with an entry for each frame, or none where nothing is known of frames."""

NOTHING_KNOWN: Row = {
    "num_frames_in_video": 0,
    "num_frames_missing": 0,
    "num_frames_decoded": 0,
    "num_faces": 0,
    "seconds_detect": 0.0,
    "faults": [],
}
"""Facts of a video of which the decoding process died."""


def video_work(faces: FaceConfig, spec: ClipSpec, weights: bytes, max_pixels: int) -> Work:
    """Return what prepares the clips of videos.

    Args:
        faces: Which detector, and how.
        spec: Frames and crops.
        weights: Of the detector.
        max_pixels: A frame may have.
    """
    from dfdm_ray.clips.cut import make_detector, prepare_clips

    keep_freed_memory(_KEPT_BYTES)
    detector = make_detector(faces, weights)
    make = partial(prepare_clips, detector=detector, spec=spec, max_pixels=max_pixels)
    return partial(_answer, lambda uri, facts: make(uri, facts=facts))


def png_work(num_frames: int, size: int) -> Work:
    """Return what reads folders of ``num_frames`` PNG files of ``size`` x ``size`` pixels."""
    from dfdm_ray.jobs.png_tree.read import read_clip

    return partial(_answer, partial(read_clip, num_frames=num_frames, size=size))


def _answer(make: "Callable[[str, ClipFacts], FaceClips]", uri: str) -> bytes:
    import cv2

    from dfdm_ray.clips.cut import ClipFacts

    cv2.setNumThreads(1)  # the workers are the parallelism
    facts = ClipFacts()
    drain_failures()
    columns = reject_on_error(lambda: _columns_of(make(uri, facts)), empty=NO_CLIPS)
    row = {**vars(facts), **columns, "faults": drain_failures()}
    table = pa.Table.from_pylist([row], schema=CLIP_COLUMNS)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, CLIP_COLUMNS) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def row_of(answer: bytes, shape: tuple[int, ...]) -> Row:
    """Return the row in an answer, whoever gave it: columns of :data:`schemas.CLIP_COLUMNS`.

    Args:
        answer: Of a decoding process, which a file may have taken over.
        shape: Of a video's crops, (C, T, S, S, 3).

    Raises:
        ChildLostError: If it is no row of a video that has such crops or was rejected.
    """
    try:
        row = _only_row(answer)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ChildLostError(RejectCode.CRASHED, _NO_ROW) from error
    if not _is_whole(row, shape):
        raise ChildLostError(RejectCode.CRASHED, _NO_ROW)
    return row


def _only_row(answer: bytes) -> Row:
    stream = pa.ipc.open_stream(answer)
    if not stream.schema.equals(CLIP_COLUMNS):
        raise ValueError("other columns")
    table = stream.read_all()
    table.validate(full=True)
    (row,) = table.cast(CLIP_COLUMNS).to_pylist()  # which finds nulls where none may be
    return cast(Row, row)


def _is_whole(row: Row, shape: tuple[int, ...]) -> bool:
    if row["status"] == REJECTED:
        return row["reject_code"] in set(RejectCode) and not row["crops"]
    num_frames, lengths = math.prod(shape[:2]), {len(row[name]) for name in BY_FRAME}
    return (
        row["status"] == SCORED
        and row["num_frames_scored"] == num_frames
        and len(row["crops"]) == math.prod(shape)
        and lengths <= {0, num_frames}
    )


def reject_on_error(process: Callable[[], Row], *, empty: Row) -> Row:
    """Return the columns of ``process()``, or ``empty`` and the reason if the video is rejected.

    Only :class:`VideoRejectedError` is caught: anything else is a bug.
    """
    try:
        return {"status": SCORED, "reject_code": None, "reject_detail": None, **process()}
    except VideoRejectedError as rejected:
        return {**empty, **rejection(rejected.code, rejected.detail)}


def rejection(code: RejectCode, detail: str) -> Row:
    """Return the status columns of a rejected video."""
    return {"status": REJECTED, "reject_code": str(code), "reject_detail": detail}


def _columns_of(clips: "FaceClips") -> Row:
    return {
        "num_frames_scored": clips.crops.shape[0] * clips.crops.shape[1],
        "pts_s": clips.pts_s.tolist(),
        "boxes_xyxy": clips.boxes_xyxy.tolist(),
        "landmarks": clips.landmarks.tolist(),
        "face_score": clips.face_score,
        "crops": clips.crops.tobytes(),
    }
