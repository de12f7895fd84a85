"""From decoded frames to pictures as a viewer sees them: progressive, square pixels, BT.709, upright.

Frames of ordinary videos are only converted to RGB.
"""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from av.filter import Graph
from av.sidedata.sidedata import SideDataContainer
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream

from dfdm_ray.errors import RejectCode, VideoRejectedError
from dfdm_ray.video.colour import colour_name, to_bt709
from dfdm_ray.video.frames import square_size, upright

_side_data_of = cast(Any, SideDataContainer)  # its stubs lack its argument and its keys
_UNSPECIFIED = 2
"""Of transfer characteristics and of primaries (ITU-T H.273)."""


class Display:
    """Conversion of the frames of one video; pictures of more than ``max_pixels`` are rejected."""

    def __init__(self, stream: VideoStream, *, max_pixels: int) -> None:
        context, ratio = stream.codec_context, stream.sample_aspect_ratio
        self._max_pixels = max_pixels
        self._ratio = None if ratio == context.sample_aspect_ratio else ratio
        """Pixel aspect ratio in the container, if it differs from that in the stream, which may change."""
        self._colour = context.color_trc, context.color_primaries
        self._fields_apart = context.name == "hevc"
        """Whether a decoded interlaced frame is one field: HEVC stores fields as pictures of their own."""
        self._reformatter = VideoReformatter()
        self._layout: tuple[int, int, str] | None = None
        self.corrections: set[str] = set()
        """Changes that frames needed, see ``corrections`` in :data:`dfdm_ray.schemas.CLIPS`."""

    def rgb(self, frame: VideoFrame, coded_ratio: Fraction | None) -> npt.NDArray[np.uint8]:
        """Return ``frame`` as RGB, shape ``(H, W, 3)``.

        Args:
            coded_ratio: Pixel aspect ratio in the stream.

        Raises:
            VideoRejectedError: If it has too many square pixels.
        """
        colour = zip((frame.color_trc, frame.color_primaries), self._colour, strict=True)
        transfer, primaries = (own if own != _UNSPECIFIED else given for own, given in colour)
        scaling = self._scaling(frame, self._ratio or coded_ratio)
        if frame.interlaced_frame:
            self.corrections.add("deinterlaced")
            frame = frame if self._fields_apart else self._upper_field(frame)
        if name := colour_name(transfer, primaries):
            self.corrections.add(f"bt709_from_{name}")
            deep = self._converted(frame, "rgb48le", scaling).astype(np.uint16, copy=False)
            rgb = to_bt709(deep, transfer=transfer, primaries=primaries)
        else:
            rgb = self._converted(frame, "rgb24", scaling).astype(np.uint8, copy=False)
        return upright(rgb, _display_matrix(frame))

    def _converted(self, frame: VideoFrame, format: str, scaling: Mapping[str, Any]) -> npt.NDArray[Any]:
        """Return the pixels of ``frame``; a second thread or a new converter would double the time."""
        return self._reformatter.reformat(frame, format=format, threads=1, **scaling).to_ndarray()

    def _scaling(self, frame: VideoFrame, ratio: Fraction | None) -> dict[str, Any]:
        stored = frame.width, frame.height * (2 if frame.interlaced_frame and self._fields_apart else 1)
        width, height = square_size(*stored, ratio)
        if (width, height) != stored:
            self.corrections.add("square_pixels")
        elif not frame.interlaced_frame:
            return {}
        if width * height > self._max_pixels:
            detail = f"frames of {width} x {height} square pixels; the limit is {self._max_pixels} pixels"
            raise VideoRejectedError(RejectCode.TOO_LARGE, detail)
        return {"width": width, "height": height, "interpolation": Interpolation.BICUBIC}

    def _upper_field(self, frame: VideoFrame) -> VideoFrame:
        """Return every second row, from the first on, of all planes.

        Filters that combine fields keep more detail where nothing moves, but need the neighbours of a frame:
        bwdif leaves the combs of a single frame, and specks beside edges that move fast.
        """
        layout = frame.width, frame.height, frame.format.name
        if layout != self._layout:
            self._layout, self._graph = layout, Graph()
            source = self._graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000)
            )
            field, sink = self._graph.add("field", type="top"), self._graph.add("buffersink")
            self._graph.link_nodes(source, field, sink).configure()
        self._graph.vpush(frame)
        return self._graph.vpull()


def _display_matrix(frame: VideoFrame) -> npt.NDArray[np.int32] | None:
    # Not frame.side_data: PyAV stores it in the frame and it refers to the frame. Only the garbage collector
    # frees such a cycle, every few hundred objects: gigabytes of 4K frames by then.
    side_data: Mapping[SideDataType, Any] = _side_data_of(frame)
    if SideDataType.DISPLAYMATRIX not in side_data:
        return None
    return np.frombuffer(bytes(side_data[SideDataType.DISPLAYMATRIX]), dtype=np.int32).reshape(3, 3)
