"""What ``generate`` takes from a video, in a decoding process: aligned faces, or the frames of a scene.

Both come in pieces, because they may be larger than memory::

    f faces of some frames ... s the subject                                        (faces)
    h time base and rate  p time, height, width and pixels of a frame ...           (a scene)
    ! code and reason, if the video cannot be used
"""

import json
import struct
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import BinaryIO

import cv2
import numpy as np

from dfdm_ray.clips.child import load_decoders
from dfdm_ray.clips.cut import make_detector
from dfdm_ray.clips.isolation import Allowance, ChildLostError, Isolated
from dfdm_ray.config import FaceConfig, LimitsConfig
from dfdm_ray.errors import RejectCode, VideoRejectedError
from dfdm_ray.faces.detector import Frame
from dfdm_ray.io.lending import Entry, Files
from dfdm_ray.jobs.generate.convert import SceneSource, scene_frames
from dfdm_ray.jobs.generate.extract import find_faces
from dfdm_ray.jobs.generate.faces import FaceWriter, Subject, Times
from dfdm_ray.video.decode import VideoReader
from dfdm_ray.video.frames import FrameBatch

_FACES, _SUBJECT, _START, _PICTURE, _REJECTED = b"f", b"s", b"h", b"p", b"!"
_RATES, _FRAME = struct.Struct("<4q"), struct.Struct("<dII")
_ALLOWANCE = Allowance(seconds=LimitsConfig.seconds, memory_bytes=4 * 2**30)
"""Limits for one piece."""
_children: list[Isolated] = []


class FindFaces:
    """Work of a decoding process: the subject of a video and its faces, see :func:`find_faces`."""

    def __init__(
        self, detector: FaceConfig, weights: bytes, *, size_px: int, max_frames: int, smoothing: float
    ) -> None:
        self._config, self._weights = detector, weights
        self._options = {"size_px": size_px, "max_frames": max_frames, "smoothing": smoothing}

    def start(self) -> None:
        """Load the detector."""
        cv2.setNumThreads(1)
        load_decoders()
        self._detector = make_detector(self._config, self._weights)
        self._detector.detect([np.zeros((64, 64, 3), np.uint8)])

    def files(self, uri: str) -> Sequence[Entry]:
        """Return the video."""
        return [uri]

    def answer(self, files: Files) -> Iterator[bytes]:
        """Yield faces, then the subject."""
        try:
            for found in find_faces(files.open(), self._detector, **self._options):  # type: ignore[arg-type]
                yield _SUBJECT + found.to_bytes() if isinstance(found, Subject) else _of_faces(found)
        except VideoRejectedError as rejected:
            yield _reason(rejected)


class ReadScene:
    """Work of a decoding process: the frames of a scene, see :func:`scene_frames`."""

    def start(self) -> None:
        """Load the decoders."""
        cv2.setNumThreads(1)
        load_decoders()

    def files(self, uri: str) -> Sequence[Entry]:
        """Return the video."""
        return [uri]

    def answer(self, files: Files, span: range, times_s: Times | None) -> Iterator[bytes]:
        """Yield the rates, then the frames ``span``."""
        try:
            with VideoReader(files.open()) as reader:
                rates = (*reader.time_base.as_integer_ratio(), *reader.rate.as_integer_ratio())
                yield _START + _RATES.pack(*rates)
                for one in scene_frames(reader, span, times_s):
                    frame = np.ascontiguousarray(one.rgb[0])
                    head = _FRAME.pack(one.pts_s[0], *frame.shape[:2])
                    yield b"".join((_PICTURE, head, frame.data))
        except VideoRejectedError as rejected:
            yield _reason(rejected)


def take_faces(pieces: Iterable[bytes], faces: BinaryIO, *, size_px: int) -> Subject:
    """Write the faces in ``pieces`` to ``faces``, an ``npy`` file, and return the subject.

    Raises:
        VideoRejectedError: If the video cannot be used.
    """
    writer, subject = FaceWriter(faces, size_px=size_px), None
    try:
        for kind, content in _checked(pieces):
            if kind == _SUBJECT:
                subject = Subject.from_bytes(content)
            else:
                for face in np.frombuffer(content, np.uint8).reshape(-1, size_px, size_px, 3):
                    writer.add(face)
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise _nonsense() from error
    if subject is None:
        raise _nonsense()
    writer.finish()
    return subject


def scene_of(pieces: Iterable[bytes]) -> SceneSource:
    """Return the scene in ``pieces``.

    Raises:
        VideoRejectedError: If the video cannot be used; reading the frames may raise it too.
    """
    checked = _checked(pieces)
    try:
        a, b, c, d = _RATES.unpack(next(checked)[1])
        return SceneSource(frames=_frames(checked), time_base=Fraction(a, b), rate=Fraction(c, d))
    except (struct.error, ZeroDivisionError, StopIteration) as error:
        raise _nonsense() from error


def _frames(checked: Iterator[tuple[bytes, bytes]]) -> Iterator[FrameBatch]:
    for _, content in checked:
        try:
            pts_s, height, width = _FRAME.unpack_from(content)
            rgb = np.frombuffer(content, np.uint8, offset=_FRAME.size).reshape(1, height, width, 3)
        except (struct.error, ValueError) as error:
            raise _nonsense() from error
        yield FrameBatch(rgb=rgb, pts_s=np.array([pts_s]))


def _checked(pieces: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and content of each piece; raise the rejection that one contains."""
    for piece in pieces:
        if piece[:1] == _REJECTED:
            try:
                code, detail = json.loads(piece[1:])
                rejected = VideoRejectedError(RejectCode(code), str(detail))
            except (ValueError, TypeError) as error:
                raise _nonsense() from error
            raise rejected
        yield piece[:1], piece[1:]


def _of_faces(faces: Sequence[Frame]) -> bytes:
    return b"".join((_FACES, *(np.ascontiguousarray(face).data for face in faces)))


def _reason(rejected: VideoRejectedError) -> bytes:
    return _REJECTED + json.dumps([rejected.code, rejected.detail]).encode()


def _nonsense() -> ChildLostError:
    return ChildLostError(RejectCode.CRASHED, "the answer of the decoding process is nonsense")


@lru_cache(maxsize=1)
def finder(
    detector: FaceConfig, weights: bytes, *, size_px: int, max_frames: int, smoothing: float
) -> Isolated:
    """Return the decoding process of this worker that finds faces."""
    work = FindFaces(detector, weights, size_px=size_px, max_frames=max_frames, smoothing=smoothing)
    return _started(work)


@lru_cache(maxsize=1)
def scene_reader() -> Isolated:
    """Return the decoding process of this worker that reads scenes."""
    return _started(ReadScene())


def _started(work: FindFaces | ReadScene) -> Isolated:
    _children.append(Isolated(work, _ALLOWANCE))
    return _children[-1]


def end_processes() -> None:
    """End the decoding processes of this worker; the next video starts them again."""
    for child in _children:
        child.close()
