"""Augmentation of whole clips on the CPU; one draw applies to all frames of a clip."""

import io
from collections.abc import Callable
from fractions import Fraction

import av
import cv2
import numpy as np
import numpy.typing as npt

from dfdm_ray.jobs.train.config import ClipAugmentConfig

Clip = npt.NDArray[np.uint8]
"""RGB frames, shape ``(T, S, S, 3)``."""

_MOST_SHIFT = 0.06
"""Largest shift, as a fraction of the side of the crop."""


def augment_clip(clip: Clip, config: ClipAugmentConfig, rng: np.random.Generator) -> Clip:
    """Return a changed copy of ``clip``, uint8 of the same shape.

    The order is that of a real video: geometry, then the camera or editor, then compression.
    """
    low, high = config.h264_crf
    steps: tuple[tuple[float, Callable[[Clip], Clip]], ...] = (
        (config.flip, lambda x: x[:, :, ::-1]),
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
    down, right = (np.arange(side) + move for move in rng.integers(-most, most + 1, 2))
    return clip[:, down.clip(0, side - 1)][:, :, right.clip(0, side - 1)]


def _recoloured(clip: Clip, rng: np.random.Generator) -> Clip:
    """Scale brightness, contrast and saturation, each by 0.8 to 1.2."""
    brightness, contrast, saturation = rng.uniform(0.8, 1.2, 3).astype(np.float32)
    values = clip.astype(np.float32) * brightness
    mean = values.mean()
    values = (values - mean) * contrast + mean
    grey = values @ np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
    values = (values - grey[..., None]) * saturation + grey[..., None]
    out: Clip = values.round().clip(0, 255).astype(np.uint8)
    return out


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
    content = io.BytesIO()
    with av.open(content, "w", format="matroska") as container:
        stream = container.add_stream("libx264", rate=Fraction(25))
        stream.width = stream.height = side
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": str(crf), "preset": "ultrafast", "threads": "1"}
        for frame in clip:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame[:side, :side]), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    content.seek(0)
    out = clip.copy()
    with av.open(content, "r") as coded:
        for number, picture in enumerate(coded.decode(video=0)):
            out[number, :side, :side] = picture.to_ndarray(format="rgb24")
    return out
