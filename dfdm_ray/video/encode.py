"""H.264 encoding with libx264 through PyAV: one source, one file per quality."""

import os
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from dfdm_ray.errors import writing
from dfdm_ray.io.atomic import unfinished_name

KEY_FRAME_INTERVAL = 250
"""Largest number of frames from one key frame to the next; the default of x264."""

_OPTIONS = {"preset": "medium", "g": str(KEY_FRAME_INTERVAL), "threads": "1"}
"""One thread, because files depend on the number of x264's threads and workers run in parallel."""


@dataclass(frozen=True)
class QualityWriter:
    """Writer of the same frames to several mp4 files, one for each constant rate factor.

    The format is ``yuv420p``, preset medium, with the times of the frames. crf 0 is lossless after the
    conversion to 4:2:0, in profile High 4:4:4 Predictive. Files get their names when the block ends without
    an error. The same frames give the same bytes.
    """

    paths: Mapping[int, Path]
    """By crf."""
    size: tuple[int, int]
    """Width and height in pixels; an odd row or column is cut off."""
    time_base: Fraction
    """Unit of the ``pts`` of frames, seconds."""
    rate: Fraction
    metadata: Mapping[str, str]
    _parts: dict[int, str] = field(default_factory=dict, init=False)
    _stack: ExitStack = field(default_factory=ExitStack, init=False)
    _open: list[tuple[OutputContainer, VideoStream]] = field(default_factory=list, init=False)

    def __enter__(self) -> "QualityWriter":
        for crf, path in self.paths.items():
            with writing(str(path)):
                path.parent.mkdir(parents=True, exist_ok=True)
                self._parts[crf] = unfinished_name(str(path))
                container = self._stack.enter_context(av.open(self._parts[crf], "w", format="mp4"))
            container.metadata.update(self.metadata)
            stream = container.add_stream("libx264", rate=self.rate)
            stream.width, stream.height = (side // 2 * 2 for side in self.size)
            stream.pix_fmt = "yuv420p"
            stream.time_base = stream.codec_context.time_base = self.time_base
            stream.options = {"crf": str(crf), **_OPTIONS, **_steady()}
            self._open.append((container, stream))
        return self

    def write(self, frame: VideoFrame) -> None:
        """Encode ``frame``; its ``pts`` is in the time base of the writer."""
        plain = _cut(frame.reformat(format="yuv420p"), (self.size[0] // 2 * 2, self.size[1] // 2 * 2))
        for container, stream in self._open:
            plain.pts, plain.time_base = frame.pts, self.time_base
            with writing(container.name):
                container.mux(stream.encode(plain))

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                for container, stream in self._open:
                    with writing(container.name):
                        container.mux(stream.encode(None))
                        container.close()
                for crf, part in self._parts.items():
                    os.replace(part, self.paths[crf])
        finally:
            with suppress(OSError):  # the end of a file that could not be written
                self._stack.close()
            for part in self._parts.values():
                Path(part).unlink(missing_ok=True)


def _steady() -> dict[str, str]:
    """Return options with which x264 always makes the same file from the same frames.

    Its AVX-512 code for macroblock-tree rate control reads uninitialised memory if the width is not a
    multiple of 256 pixels. Measured with build 165: the file changes with ``MALLOC_PERTURB_=1``, but not with
    ``mbtree=0`` or ``asm=avx2``; ``asm=avx2`` and ``asm=sse4.2`` write the file that AVX-512 writes without
    the bug.
    """
    return {"x264-params": "asm=avx2"} if pa.runtime_info().detected_simd_level == "avx512" else {}


def _cut(frame: VideoFrame, size: tuple[int, int]) -> VideoFrame:
    """Return the upper left ``size`` (width, height, even) of a ``yuv420p`` frame; no pixel is resampled."""
    if (frame.width, frame.height) == size:
        return frame
    if (frame.width // 2 * 2, frame.height // 2 * 2) != size:
        raise ValueError(f"a frame of {frame.width}x{frame.height} in a video of {size[0]}x{size[1]}")
    cut = VideoFrame(size[0], size[1], "yuv420p")
    for plane, smaller in zip(frame.planes, cut.planes, strict=True):
        rows = np.frombuffer(bytes(plane), np.uint8).reshape(plane.height, plane.line_size)
        kept = np.zeros((smaller.height, smaller.line_size), np.uint8)
        kept[:, : smaller.width] = rows[: smaller.height, : smaller.width]
        smaller.update(kept.tobytes())
    return cut
