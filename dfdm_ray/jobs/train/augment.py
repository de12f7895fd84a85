"""Augmentation of whole clips on the CPU; one draw applies to all frames of a clip."""

from collections.abc import Callable
from fractions import Fraction

import av
import cv2
import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter

from dfdm_ray.jobs.train.config import ClipAugmentConfig

Clip = npt.NDArray[np.uint8]
"""RGB frames, shape ``(T, S, S, 3)``."""

_RATE = Fraction(25)
"""Frames per second of encoded clips; the crf of x264 depends on it."""
_MOST_SHIFT = 0.06
"""Largest shift, as a fraction of the side of the crop."""


def augment_clip(clip: Clip, config: ClipAugmentConfig, rng: np.random.Generator) -> Clip:
    """Return a changed copy of ``clip``, uint8 of the same shape.

    The order is that of a real video: geometry, then the camera or editor, then compression.
    """
    low, high = config.h264_crf
    steps: tuple[tuple[float, Callable[[Clip], Clip]], ...] = (
        (config.flip, lambda x: _each(x, lambda frame: np.asarray(cv2.flip(frame, 1), np.uint8))),
        (config.shift, lambda x: _shifted(x, rng)),
        (config.colour, lambda x: _recoloured(x, rng)),
        (config.resize, lambda x: _resized(x, float(rng.uniform(0.7, 0.95)))),
        (config.blur, lambda x: _blurred(x, float(rng.uniform(0.2, 0.8)))),
        (config.jpeg, lambda x: through_jpeg(x, int(rng.integers(60, 96)))),
        (config.h264, lambda x: through_h264(x, int(rng.integers(low, high + 1)))),
    )
    for probability, change in steps:
        if rng.random() < probability:
            clip = np.ascontiguousarray(change(clip))
    return clip


def _each(clip: Clip, change: Callable[[Clip], Clip]) -> Clip:
    return np.stack([change(frame) for frame in clip])


def _shifted(clip: Clip, rng: np.random.Generator) -> Clip:
    """Move the crop by up to 6 % of its side and repeat its edges.

    The shift is in whole pixels: interpolation would blur the fine traces of the generators.
    """
    side = clip.shape[1]
    most = round(side * _MOST_SHIFT)
    down, right = rng.integers(-most, most + 1, 2)
    padded = np.pad(clip, ((0, 0), (most, most), (most, most), (0, 0)), mode="edge")
    return padded[:, most + down : most + down + side, most + right : most + right + side]


def _recoloured(clip: Clip, rng: np.random.Generator) -> Clip:
    """Scale brightness, contrast (about the mean of the clip) and saturation, each by 0.8 to 1.2."""
    brightness, contrast, saturation = rng.uniform(0.8, 1.2, 3)
    grey = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
    mixed = saturation * np.eye(3) + (1 - saturation) * grey
    pixels = clip.reshape(-1, clip.shape[2], 3)
    offset = np.mean(cv2.mean(pixels)[:3]) * brightness * (1 - contrast)
    matrix = np.column_stack([brightness * contrast * mixed, np.full(3, offset)])
    return np.asarray(cv2.transform(pixels, matrix), np.uint8).reshape(clip.shape)


def _resized(clip: Clip, scale: float) -> Clip:
    side = clip.shape[1]
    small = max(8, round(side * scale))

    def there_and_back(frame: Clip) -> Clip:
        shrunk = cv2.resize(frame, (small, small), interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.resize(shrunk, (side, side), interpolation=cv2.INTER_LINEAR), np.uint8)

    return _each(clip, there_and_back)


def _blurred(clip: Clip, sigma_px: float) -> Clip:
    return _each(clip, lambda frame: np.asarray(cv2.GaussianBlur(frame, (0, 0), sigma_px), np.uint8))


def through_jpeg(clip: Clip, quality: int) -> Clip:
    """Encode the frames as JPEG at ``quality``, 1..100, and return the decoded frames."""

    def code(frame: Clip) -> Clip:
        _, content = cv2.imencode(".jpg", frame[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, quality))
        return np.asarray(cv2.imdecode(content, cv2.IMREAD_COLOR), np.uint8)[..., ::-1]

    return _each(clip, code)


def through_h264(clip: Clip, crf: int) -> Clip:
    """Encode the frames with x264 at ``crf``, 4:2:0, fastest preset, and return the decoded frames."""
    side = clip.shape[1] // 2 * 2
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width = encoder.height = side
    encoder.pix_fmt, encoder.time_base, encoder.framerate = "yuv420p", 1 / _RATE, _RATE
    encoder.options = {"crf": str(crf), "preset": "ultrafast", "threads": "1"}
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1  # else as many as CPUs, for some small frames
    into, back = VideoReformatter(), VideoReformatter()  # kept: each sets up its tables once
    packets = []
    for number, frame in enumerate(clip):
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame[:side, :side]), format="rgb24")
        picture = into.reformat(picture, format="yuv420p", threads=1)
        picture.pts = number
        packets += encoder.encode(picture)
    packets += encoder.encode(None)
    pictures = [picture for packet in (*packets, None) for picture in decoder.decode(packet)]
    out = clip.copy()
    for number, picture in enumerate(pictures):
        out[number, :side, :side] = back.reformat(picture, format="rgb24", threads=1).to_ndarray()
    return out
