"""Synthetic videos and a scripted face detector, for tests and benchmarks.

Each frame of a synthetic video carries its own number as a row of black and white blocks, which
survives lossy encoding, so that a test sees *which* frame it got.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
import numpy.typing as npt
from av.video.stream import VideoStream

from dfdm_ray.faces.detector import Detections, Frame

_BITS = 10
"""Frame numbers up to 1023."""
_CORNER = (200, 30, 30)
"""Red marks the upper left corner of an upright frame."""


@dataclass(frozen=True, kw_only=True)
class VideoRecipe:
    """How a synthetic video is made; the container follows from the file's extension."""

    num_frames: int = 60
    fps: int = 25
    size: tuple[int, int] = (160, 96)
    """Width and height, pixels."""
    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    options: Mapping[str, str] = field(default_factory=lambda: x264())
    pts: Sequence[int] | None = None
    """Times of the frames in 1/1000 s, for a variable rate or an offset start; else by ``fps``."""
    rotation: int = 0
    """Display rotation in degrees, counterclockwise; the stored pixels stay as they are."""
    audio: bool = False
    pixel_aspect: Fraction | None = None
    """Width of a pixel by its height; ``None`` is not stored."""


def x264(**options: str) -> dict[str, str]:
    """Return encoder options of libx264; ``b_strategy="0"`` is spelled with ``_`` for ``-``."""
    given = {name.replace("_", "-"): value for name, value in options.items()}
    return {"crf": "18", "preset": "veryfast", "g": "25", **given}


def numbered_frame(number: int, *, size: tuple[int, int]) -> Frame:
    """Return a frame of ``size`` (width, height) that shows ``number``, shape ``(H, W, 3)``."""
    width, height = size
    frame = np.full((height, width, 3), 110, np.uint8)
    frame[: height // 4, : width // 4] = _CORNER
    for bit in range(_BITS):
        left, right = bit * width // _BITS, (bit + 1) * width // _BITS
        frame[height // 2 :, left:right] = 235 if number >> bit & 1 else 20
    return frame


def steady_frame(number: int, *, size: tuple[int, int] = (160, 96)) -> Frame:
    """Return a frame that shows ``number`` faintly below a picture that flickers: the next one is no cut.

    All parts of the picture have the same colours.
    """
    width, height = size
    skin = np.random.default_rng(0).normal((190, 145, 120), 12, (height // 4, width // 4, 3))
    picture = skin.repeat(4, axis=0).repeat(4, axis=1)[: height * 5 // 8] + 3 * (number % 2)
    frame = np.full((height, width, 3), 110, np.uint8)
    frame[: len(picture), : picture.shape[1]] = picture
    line = slice(height * 5 // 8, height * 13 // 16)
    frame[line] = numbered_frame(number, size=size)[line].clip(70, 170)
    return frame


def frame_number(rgb: Frame) -> int:
    """Read the number off a decoded frame of any size."""
    height, width = rgb.shape[:2]
    lower = rgb[height * 5 // 8 : height * 7 // 8].mean(axis=(0, 2))
    middles = [(2 * bit + 1) * width // (2 * _BITS) for bit in range(_BITS)]
    return sum(1 << bit for bit, middle in enumerate(middles) if lower[middle - 2 : middle + 3].mean() > 128)


def is_upright(rgb: Frame) -> bool:
    """Whether the marked corner is the upper left one."""
    height, width = rgb.shape[:2]
    red, green, blue = rgb[: height // 8, : width // 8].reshape(-1, 3).mean(axis=0)
    return bool(red > 120 and green < 90 and blue < 90)


def write_video(
    path: Path, recipe: VideoRecipe, *, draw: Callable[[int], npt.NDArray[np.uint8]] | None = None
) -> Path:
    """Write the video that ``recipe`` describes to ``path``.

    Args:
        path: The extension chooses the container.
        recipe: How it is made.
        draw: Gives frame ``i``, shape ``(H, W, 3)``; by default it shows its number.
    """
    time_base = Fraction(1, 1000) if recipe.pts else Fraction(1, recipe.fps)
    with av.open(str(path), "w") as container:
        stream = cast(
            VideoStream, container.add_stream(recipe.codec, rate=recipe.fps, options=dict(recipe.options))
        )
        stream.width, stream.height = recipe.size
        stream.pix_fmt = recipe.pix_fmt
        stream.time_base = stream.codec_context.time_base = time_base
        if recipe.pixel_aspect:
            stream.codec_context.sample_aspect_ratio = recipe.pixel_aspect
        if recipe.rotation:
            stream.set_display_rotation(recipe.rotation)
        sound = container.add_stream("aac", rate=16000) if recipe.audio else None
        for number in range(recipe.num_frames):
            rgb = draw(number) if draw else numbered_frame(number, size=recipe.size)
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format=recipe.pix_fmt)
            frame.pts = recipe.pts[number] if recipe.pts else number
            frame.time_base = time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound is not None:
            _write_tone(container, sound, seconds=recipe.num_frames / recipe.fps)
    return path


def remux(
    source: Path,
    target: Path,
    *,
    late_by_frames: int = 0,
    claims: Callable[[int], bool] | None = None,
    **options: str,
) -> Path:
    """Copy the packets of ``source`` to another container.

    Args:
        source: A video.
        target: The extension chooses the container.
        late_by_frames: Begin so many frames in, as a cut by an edit list does.
        claims: Whether the container calls packet ``i`` a key frame, whatever it is; by default the truth.
        options: Of the container, for instance ``movflags="faststart"``.
    """
    with av.open(str(source)) as old, av.open(str(target), "w", options=options) as new:
        template = old.streams.video[0]
        stream = new.add_stream_from_template(template)
        rate = template.average_rate or Fraction(25)
        for number, packet in enumerate(old.demux(template)):
            if claims:
                packet.is_keyframe = claims(number)
            if packet.dts is not None and packet.pts is not None and packet.time_base:
                cut = round(late_by_frames / (rate * packet.time_base))
                packet.pts, packet.dts, packet.stream = packet.pts - cut, packet.dts - cut, stream
                new.mux(packet)
    return target


def write_audio(path: Path, *, seconds: float = 1.0) -> Path:
    """Write a media file with sound and no picture."""
    with av.open(str(path), "w") as container:
        _write_tone(container, container.add_stream("aac", rate=16000), seconds=seconds)
    return path


def _write_tone(container: av.container.OutputContainer, stream: av.AudioStream, *, seconds: float) -> None:
    samples = np.sin(np.arange(int(16000 * seconds)) / 6).astype(np.float32)
    for start in range(0, len(samples) - 1024, 1024):
        frame = av.AudioFrame.from_ndarray(samples[None, start : start + 1024], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16000, start
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


class ScriptedDetector:
    """A :class:`~dfdm_ray.faces.detector.FaceDetector` that knows where faces are by a frame's number.

    Args:
        boxes: Gives the boxes ``(left, top, right, bottom)`` of frame ``number``, in pixels.
    """

    name = "scripted"

    def __init__(self, boxes: Callable[[int], Sequence[tuple[float, float, float, float]]]) -> None:
        self._boxes = boxes
        self.asked: list[int] = []
        """Numbers of the frames it was shown, in order."""

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        """Return the scripted faces; their landmarks are the box's corners and centre."""
        numbers = [frame_number(frame) for frame in frames]
        self.asked += numbers
        return [detections(self._boxes(number)) for number in numbers]


def detections(boxes: Sequence[tuple[float, float, float, float]]) -> Detections:
    """Return detections of score 0.999 at ``boxes``; the landmarks are each box's corners and centre."""
    xyxy = np.array(boxes, np.float32).reshape(-1, 4)
    centre: npt.NDArray[np.floating] = (xyxy[:, :2] + xyxy[:, 2:]) / 2
    corners = [xyxy[:, [left, top]] for left, top in ((0, 1), (2, 1), (0, 3), (2, 3))]
    return Detections(
        boxes_xyxy=xyxy,
        scores=np.full(len(xyxy), 0.999, np.float32),
        landmarks=np.stack([*corners[:2], centre, *corners[2:]], axis=1).astype(np.float32),
    )
