"""The answer of a decoding process for one file: a row as Arrow bytes, with crops or a reject code.

A worker imports this module too, so the decoders are imported where the work starts.
"""

import importlib
import math
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa

from dfdm_ray.clips.isolation import ChildLostError
from dfdm_ray.clips.spec import ClipSpec
from dfdm_ray.config import FaceConfig, LimitsConfig
from dfdm_ray.errors import RejectCode, VideoRejectedError
from dfdm_ray.io.lending import Entry, Files
from dfdm_ray.io.listing import ListingProblem
from dfdm_ray.io.memory import keep_freed_memory
from dfdm_ray.schemas import CLIP_COLUMNS, REJECTED, SCORED

if TYPE_CHECKING:
    from dfdm_ray.clips.cut import ClipFacts, FaceClips

Row = dict[str, Any]

_NO_ROW = "the answer of the decoding process is no row"
_KEPT_BYTES = 2**26
"""A frame of 1920x1080 takes 6 MB as RGB and 25 MB as the float32 input of the detector."""

NO_CLIPS: Row = {
    "num_frames_scored": 0,
    "pts_s": [],
    "boxes_xyxy": [],
    "landmarks": [],
    "face_score": None,
    "faces": [],
    "crops": b"",
}
"""Columns of a rejected video."""

BY_FRAME = ("pts_s", "boxes_xyxy", "landmarks")
"""Columns with one entry per frame, or none for crops from elsewhere."""

NOTHING_KNOWN: Row = {
    "fingerprint": None,
    "num_frames_in_video": 0,
    "num_frames_missing": 0,
    "num_frames_decoded": 0,
    "num_faces": 0,
    "corrections": [],
    "seconds_detect": 0.0,
    "faults": [],
}
"""Facts of a video for which the decoding process gave no answer."""


class ClipWork(ABC):
    """The work of a decoding process, see :class:`dfdm_ray.clips.serve.Work`."""

    def start(self) -> None:
        """Load what :meth:`clips` needs, down to the parts that libraries import at their first use."""
        import cv2

        cv2.setNumThreads(1)  # the workers are the parallelism
        list(ClipWork.answer(self, Files([ListingProblem(uri="", relative="", reason="")])))

    def files(self, uri: str) -> Sequence[Entry]:
        """Return the files of one input; called in the worker."""
        return [uri]

    @abstractmethod
    def clips(self, files: Files, facts: "ClipFacts") -> "Sequence[FaceClips]":
        """Return the clips of each face of one input; fill in ``facts`` on the way.

        Raises:
            VideoRejectedError: If the file has none.
        """

    def answer(self, files: Files) -> Iterable[bytes]:
        """Return the row of one input, :data:`schemas.CLIP_COLUMNS`, as an Arrow stream."""
        from dfdm_ray.clips.cut import ClipFacts

        facts = ClipFacts()
        columns = reject_on_error(lambda: _columns_of(self.clips(files, facts)), empty=NO_CLIPS)
        row = {**vars(facts), **columns, "faults": []}  # the worker knows of those of storage
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, CLIP_COLUMNS) as writer:
            writer.write_table(pa.Table.from_pylist([row], schema=CLIP_COLUMNS))
        return [bytes(sink.getvalue())]


def load_decoders() -> None:
    """Import all parts of PyAV, which imports some for the files that need them."""
    import av

    for module in pkgutil.walk_packages(av.__path__, "av."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


class CutVideos(ClipWork):
    """Plan, decode, detect, track and crop videos."""

    def __init__(
        self, *, faces: FaceConfig, spec: ClipSpec, weights: bytes, max_pixels: int = LimitsConfig.max_pixels
    ) -> None:
        self._faces, self._spec, self._weights, self._max_pixels = faces, spec, weights, max_pixels

    def start(self) -> None:
        """Load the face detector."""
        import numpy as np

        from dfdm_ray.clips.cut import make_detector

        super().start()
        keep_freed_memory(_KEPT_BYTES)
        self._detector = make_detector(self._faces, self._weights)
        self._detector.detect([np.zeros((64, 64, 3), np.uint8)])
        load_decoders()

    def clips(self, files: Files, facts: "ClipFacts") -> "Sequence[FaceClips]":
        """Return the crops of the faces of the video that is lent."""
        from dfdm_ray.clips.cut import prepare_faces

        return prepare_faces(files.open(), self._detector, self._spec, facts, max_pixels=self._max_pixels)


def row_of(answer: bytes, shape: tuple[int, ...], *, most_faces: int = 1) -> Row:
    """Return the row in an answer: columns of :data:`schemas.CLIP_COLUMNS`.

    Args:
        answer: From a decoding process, which a file may have taken over.
        shape: Largest shape of the crops of a face, (C, T, S, S, 3).

    Raises:
        ChildLostError: If it is not the row of a rejected video or of one with such crops.
    """
    try:
        row = only_row(answer, CLIP_COLUMNS)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ChildLostError(RejectCode.CRASHED, _NO_ROW) from error
    if not _is_whole(row, shape, most_faces):
        raise ChildLostError(RejectCode.CRASHED, _NO_ROW)
    return row


def only_row(answer: bytes, schema: pa.Schema) -> Row:
    """Return the row in an answer, which a file may have chosen.

    Raises:
        ValueError: If it is no single row of ``schema``; ``pa.ArrowException`` or ``OSError``: no table.
    """
    stream = pa.ipc.open_stream(answer)
    if not stream.schema.equals(schema):
        raise ValueError("other columns")
    table = stream.read_all()
    table.validate(full=True)
    (row,) = table.cast(schema).to_pylist()  # the cast finds nulls where none may be
    return cast(Row, row)


def _is_whole(row: Row, shape: tuple[int, ...], most_faces: int) -> bool:
    if row["status"] == REJECTED:
        return row["reject_code"] in set(RejectCode) and not row["crops"] and not row["faces"]
    faces = row["faces"]
    num_frames, of_clip = [face["num_frames_scored"] for face in faces], shape[1]
    return (
        row["status"] == SCORED
        and 1 <= len(faces) <= most_faces
        and all(0 < number <= shape[0] * of_clip and number % of_clip == 0 for number in num_frames)
        and all({len(face[name]) for name in BY_FRAME} <= {0, face["num_frames_scored"]} for face in faces)
        and faces[0] == {name: row[name] for name in faces[0]}
        and len(row["crops"]) == sum(num_frames) * math.prod(shape[2:])
    )


def reject_on_error(process: Callable[[], Row], *, empty: Row) -> Row:
    """Return the columns of ``process()``, or ``empty`` and the reason if it rejects the video.

    Only :class:`VideoRejectedError` is caught: anything else is a bug.
    """
    try:
        return {"status": SCORED, "reject_code": None, "reject_detail": None, **process()}
    except VideoRejectedError as rejected:
        return {**empty, **rejection(rejected.code, rejected.detail)}


def rejection(code: RejectCode, detail: str) -> Row:
    """Return the status columns of a rejected video."""
    return {"status": REJECTED, "reject_code": str(code), "reject_detail": detail}


def _columns_of(faces: "Sequence[FaceClips]") -> Row:
    columns = [
        {
            "num_frames_scored": clips.crops.shape[0] * clips.crops.shape[1],
            "pts_s": clips.pts_s.tolist(),
            "boxes_xyxy": clips.boxes_xyxy.tolist(),
            "landmarks": clips.landmarks.tolist(),
            "face_score": clips.face_score,
        }
        for clips in faces
    ]
    return {**columns[0], "faces": columns, "crops": b"".join(clips.crops.tobytes() for clips in faces)}
