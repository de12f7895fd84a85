"""Lossless pictures: RGB arrays to PNG files and back."""

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
"""RGB pixels, shape ``(H, W, 3)``."""

_LEVEL = [cv2.IMWRITE_PNG_COMPRESSION, 1]
"""Of 224 pixel face crops, level 1 makes 66 kB in 3.5 ms, level 6 makes 60 kB in 15 ms."""


def png(image: Image) -> bytes:
    """Return ``image`` as a PNG file."""
    done, content = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), _LEVEL)
    if not done:
        raise RuntimeError("OpenCV could not encode a PNG")
    return content.tobytes()


def read_png(content: bytes) -> Image:
    """Return the pixels of a picture as 8-bit RGB, whatever its depth and number of channels.

    Raises:
        ValueError: If ``content`` is no picture.
    """
    if not content:  # which OpenCV takes for a bug of its caller
        raise ValueError("an empty file")
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise ValueError(f"OpenCV: {error.err}") from error
    if image is None:
        raise ValueError("no picture that can be decoded")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
