"""Files of the faces of one video, and batches of faces.

::

    work/faces/<id>_<number>.npz   landmarks and times of all frames, which conversion needs: some kB
                            .npy   aligned faces, which training maps into memory: 0.2 MB a frame
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from dfdm_ray.io.atomic import atomic_stream

Faces = npt.NDArray[np.uint8]
"""Aligned faces, RGB, shape ``(M, S, S, 3)``."""
Landmarks = npt.NDArray[np.float32]
Times = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """The subject of one video in its first ``N`` frames."""

    landmarks: Landmarks
    """Shape ``(N, 5, 2)``, pixels, smoothed over time; NaN in frames without the subject."""
    times_s: Times | None
    """Times of the frames from the start of the stream, shape ``(N,)``; ``None`` in files of earlier
    versions."""

    def to_bytes(self) -> bytes:
        """Return the arrays as an ``npz`` file."""
        out = io.BytesIO()
        np.savez_compressed(out, landmarks=self.landmarks, times_s=np.asarray(self.times_s))
        return out.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Subject":
        """Return what :meth:`to_bytes` returned, without code that it may contain."""
        return read_subject(io.BytesIO(content))

    def scenes(self, length: int) -> list[range]:
        """Return consecutive spans of ``length`` frames with the subject in every frame."""
        seen = np.isfinite(self.landmarks[:, 0, 0])
        spans: list[range] = []
        start = 0
        while start + length <= len(seen):
            gaps = np.flatnonzero(~seen[start : start + length])
            if len(gaps):
                start += int(gaps[-1]) + 1
            else:
                spans.append(range(start, start + length))
                start += length
        return spans


def read_subject(path: str | Path | BinaryIO) -> Subject:
    """Read what :meth:`Subject.to_bytes` returned."""
    with np.load(path, allow_pickle=False) as arrays:
        times = arrays.get("times_s")
        return Subject(landmarks=arrays["landmarks"], times_s=times)


def faces_file(path: str | Path) -> Path:
    """Return the file of faces beside a file of landmarks."""
    return Path(path).with_suffix(".npy")


def read_faces(path: str | Path) -> Faces:
    """Map the faces beside a file of landmarks into memory."""
    faces: Faces = np.load(faces_file(path), mmap_mode="r", allow_pickle=False)
    return faces


def split_faces(path: Path) -> bool:
    """Write the faces in a file of an earlier version, which has all in one, to a file of their own."""
    with np.load(path, allow_pickle=False) as arrays:
        if "faces" not in arrays:
            return False
        with atomic_stream(str(faces_file(path))) as stream:
            np.save(stream, arrays["faces"])
    return True


class FaceWriter:
    """Writes faces one by one as an ``npy`` file, so that they need no memory."""

    def __init__(self, stream: BinaryIO, *, size_px: int) -> None:
        self.count = 0
        self._stream, self._size_px = stream, size_px
        self._write_header()

    def add(self, face: Faces) -> None:
        """Write one face, shape ``(S, S, 3)``."""
        self._stream.write(np.ascontiguousarray(face).data)
        self.count += 1

    def finish(self) -> None:
        """Write the number of faces into the header, which has room for it."""
        self._stream.seek(0)
        self._write_header()
        self._stream.seek(0, io.SEEK_END)

    def _write_header(self) -> None:
        shape = (self.count, self._size_px, self._size_px, 3)
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._stream, header)


class FacePool:
    """The faces of several videos, indexed like one array; only those of a batch are read."""

    def __init__(self, parts: Sequence[Faces]) -> None:
        self._parts = parts
        self._starts = np.cumsum([0, *map(len, parts)])
        self.shape: tuple[int, ...] = (int(self._starts[-1]), *parts[0].shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, numbers: npt.NDArray[np.int64]) -> Faces:
        """Return the faces with these numbers, shape ``(B, S, S, 3)``."""
        parts = np.searchsorted(self._starts, numbers, side="right") - 1
        places = zip(parts, numbers - self._starts[parts], strict=True)
        return np.stack([self._parts[part][place] for part, place in places])
