"""Pictures of a video at the times that a score run looked at, made in a child process.

Crops are cut anew from the boxes and landmarks of the row, so no detector is needed.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from dfdm_ray.clips.child import Row, load_decoders, reject_on_error
from dfdm_ray.errors import RejectCode, VideoRejectedError
from dfdm_ray.faces.crops import crop_aligned, crop_face
from dfdm_ray.faces.turns import as_shown, quarter_turns, turn_back
from dfdm_ray.io.lending import Entry, Files, OpenedFile
from dfdm_ray.io.listing import ListingProblem
from dfdm_ray.jobs.report.file_facts import facts_of, has_c2pa, sha256_of
from dfdm_ray.video.at import Picture, first_frame, frames_at
from dfdm_ray.video.decode import VideoReader
from dfdm_ray.video.source import rejecting

FRAME_PX, THUMBNAIL_PX = 960, 96
"""Longest side of a frame on a page; side of a thumbnail."""
_MOST_FRAMES = 4
"""Frames on a page for each face."""
_THUMBNAIL_MARGIN = 0.8
_STATUS = [("status", pa.string()), ("reject_code", pa.string()), ("reject_detail", pa.string())]
PICTURES = pa.schema(
    [
        ("facts", pa.string()),  # JSON
        (
            "frames",
            pa.list_(
                pa.struct([("pts_s", pa.float64()), ("jpeg", pa.binary()), ("size", pa.list_(pa.int32(), 2))])
            ),
        ),
        ("crops", pa.list_(pa.large_binary())),  # for each face uint8 (C, T, S, S, 3), empty if not found
        *_STATUS,
    ]
)
THUMBNAIL = pa.schema([("thumbnail", pa.binary()), ("num_frames_decoded", pa.int32()), *_STATUS])


class PictureWork:
    """The work of a decoding process for a page, see :class:`dfdm_ray.clips.serve.Work`.

    Args:
        settings: Of the score run: ``crop_size``, ``margin``, ``align``.
    """

    schema = PICTURES

    def __init__(self, *, settings: Mapping[str, Any], max_pixels: int) -> None:
        self._settings, self._max_pixels = dict(settings), max_pixels

    def start(self) -> None:
        """Load what :meth:`answer` needs; the sandbox lets the process load little afterwards."""
        cv2.setNumThreads(1)  # the workers are the parallelism
        load_decoders()
        jpeg(fitted(np.zeros((8, 8, 3), np.uint8), 4))
        list(self.answer(Files([ListingProblem(uri="", relative="", reason="")]), []))

    def files(self, uri: str) -> Sequence[Entry]:
        """Return the files of one input; called in the worker."""
        return [uri]

    def answer(self, files: Files, faces: Sequence[Row]) -> Iterable[bytes]:
        """Return a row of :attr:`schema` as an Arrow stream."""
        row = reject_on_error(lambda: self.row(files, faces), empty={})
        empty: Row = {field.name: [] for field in self.schema if pa.types.is_list(field.type)}
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self.schema) as writer:
            writer.write_table(pa.Table.from_pylist([{**empty, **row}], schema=self.schema))
        return [bytes(sink.getvalue())]

    def row(self, files: Files, faces: Sequence[Row]) -> Row:
        """Return facts, frames and crops; a file that is no video has its hash and the reason."""
        file = files.open()
        with rejecting(RejectCode.UNREADABLE), file.stream:
            facts: dict[str, Any] = {"sha256": sha256_of(file.stream), "has_c2pa": has_c2pa(file)}
        frames: list[Row] = []
        crops: list[bytes] = [b"" for _ in faces]
        try:
            facts |= facts_of(files.open(), max_pixels=self._max_pixels)
            frames, crops = self._pictures(files.open(), faces)
        except VideoRejectedError as rejected:
            facts["remark"] = str(rejected)
        return {"facts": json.dumps(facts), "frames": frames, "crops": crops}

    def _pictures(self, video: OpenedFile, faces: Sequence[Row]) -> tuple[list[Row], list[bytes]]:
        with VideoReader(video, max_pixels=self._max_pixels) as reader:
            shown = frames_at(reader, [time for face in faces for time in face["pts_s"]])
            if not shown and (first := first_frame(reader)) is not None:
                return [_frame(0.0, first)], [b"" for _ in faces]
        wanted = sorted({time for face in faces for time in evenly(face["pts_s"], _MOST_FRAMES)})
        frames = [_frame(time, shown[time]) for time in wanted if time in shown]
        return frames, [crops_of(face, shown, self._settings) for face in faces]


class ThumbnailWork(PictureWork):
    """The work of a decoding process for the index: one small picture."""

    schema = THUMBNAIL

    def row(self, files: Files, faces: Sequence[Row]) -> Row:
        """Return the face in the middle of the first of ``faces``, else the first frame."""
        with VideoReader(files.open(), max_pixels=self._max_pixels) as reader:
            times = faces[0]["pts_s"] if faces else []
            found = frames_at(reader, times)
            picture = found[times[0]] if found else first_frame(reader)
            number = reader.num_frames_decoded
        if picture is None:
            raise reader.failure or VideoRejectedError(RejectCode.DECODE_ERROR, "no whole frame")
        if found:
            box = np.array(faces[0]["boxes_xyxy"][0], np.float32)
            picture = crop_face(picture, box, size=THUMBNAIL_PX, margin=_THUMBNAIL_MARGIN)
        return {"thumbnail": jpeg(fitted(picture, THUMBNAIL_PX), 75), "num_frames_decoded": number}


def evenly(values: Sequence[float], most: int) -> list[float]:
    """Return at most ``most`` of ``values``, evenly spread."""
    at = np.linspace(0, len(values) - 1, min(most, len(values))).round().astype(int)
    return [values[index] for index in at]


def crops_of(face: Row, shown: Mapping[float, Picture], settings: Mapping[str, Any]) -> bytes:
    """Return the crops of a face as the model got them, uint8 ``(C * T, S, S, 3)``, or nothing."""
    if not face["pts_s"] or not {*face["pts_s"]} <= shown.keys():
        return b""
    landmarks = np.array(face["landmarks"], np.float32)
    turns = int(np.bincount([quarter_turns(points) for points in landmarks]).argmax())
    crops = []
    for time, box, points in zip(face["pts_s"], face["boxes_xyxy"], landmarks, strict=True):
        size = shown[time].shape[:2]
        rgb = turn_back(shown[time], turns) if turns else shown[time]
        if settings.get("align", "box") == "generator":
            upright = as_shown(points, -turns % 4, size)
            crops.append(crop_aligned(rgb, upright, size=settings["crop_size"]))
        else:
            corners = as_shown(np.array(box, np.float32).reshape(2, 2), -turns % 4, size)
            flat = np.concatenate([corners.min(axis=0), corners.max(axis=0)])
            crops.append(crop_face(rgb, flat, size=settings["crop_size"], margin=settings["margin"]))
    return np.stack(crops).tobytes()


def fitted(picture: Picture, most_px: int) -> Picture:
    """Return ``picture`` with its longer side at most ``most_px``."""
    scale = most_px / max(picture.shape[:2])
    if scale >= 1:
        return picture
    height, width = (max(1, round(side * scale)) for side in picture.shape[:2])
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def jpeg(picture: Picture, quality: int = 90) -> bytes:
    """Return ``picture`` as a JPEG file."""
    flags = [cv2.IMWRITE_JPEG_QUALITY, quality]
    done, content = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), flags)
    if not done:
        raise RuntimeError("OpenCV could not encode a JPEG")
    return content.tobytes()


def _frame(time: float, picture: Picture) -> Row:
    height, width = picture.shape[:2]
    return {"pts_s": time, "jpeg": jpeg(fitted(picture, FRAME_PX), 85), "size": [width, height]}
