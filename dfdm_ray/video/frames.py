"""Decoded frames and their times."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

_ODDEST_RATIO = 4
"""Pixel aspect ratios beyond this or its inverse are mistakes; 2.9 occurs (a wide picture of 352 x 576)."""
_EVEN_RATIO = 1.02
"""Ratios below this or above its inverse are rounding errors; 12:11 is the smallest of the common ones."""


class Pictures(tuple[npt.NDArray[np.uint8], ...]):
    """Frames ``(H, W, 3)`` of one size where the decoder left them: an array of them all would be a copy."""

    ndim, dtype = 4, np.dtype(np.uint8)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the array: (T, H, W, 3)."""
        height, width = self[0].shape[:2]
        return len(self), height, width, 3


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameBatch:
    """``T`` decoded frames of one video, ascending in time; entry ``i`` of both is the same frame."""

    rgb: npt.NDArray[np.uint8] | Pictures
    """Square pixels, upright, shape ``(T, H, W, 3)``, RGB order, 0..255."""
    pts_s: npt.NDArray[np.float64]
    """Presentation time, shape ``(T,)``, seconds from the start of the stream."""

    def __post_init__(self) -> None:
        if self.rgb.ndim != 4 or self.rgb.shape[-1] != 3 or self.rgb.dtype != np.uint8:
            raise ValueError(f"rgb must be uint8 (T, H, W, 3), got {self.rgb.dtype} {self.rgb.shape}")
        if self.pts_s.shape != self.rgb.shape[:1]:
            raise ValueError(f"pts_s must have shape {self.rgb.shape[:1]}, got {self.pts_s.shape}")

    def __len__(self) -> int:
        return len(self.pts_s)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, pixels."""
        return self.rgb.shape[1], self.rgb.shape[2]


def square_size(width: int, height: int, ratio: Fraction | None) -> tuple[int, int]:
    """Return the size in square pixels of a frame whose pixels are ``ratio`` times as wide as high.

    One side grows, as in HTML's video element, so that no detail is lost. Pixels without a
    plausible ratio are taken as square.
    """
    if not ratio or not _EVEN_RATIO < max(ratio, 1 / ratio) <= _ODDEST_RATIO:
        return width, height
    return (round(width * ratio), height) if ratio > 1 else (width, round(height / ratio))


def upright(rgb: npt.NDArray[np.uint8], matrix: npt.NDArray[np.int32] | None) -> npt.NDArray[np.uint8]:
    """Turn and mirror ``(H, W, 3)`` by the container's display matrix, to the nearest quarter turn.

    The upper left 2x2 of the matrix ``(3, 3)`` maps stored to shown coordinates, 16.16 fixed point (ISO/IEC
    14496-12, 8.2.2.3). ``None``: as stored.
    """
    if matrix is None:
        return rgb
    a, b, c, d = matrix[:2, :2].astype(float).ravel()
    if a * d - b * c < 0:  # a mirror: undo it in stored coordinates, then the rest is a rotation
        rgb, a, b = rgb[:, ::-1], -a, -b
    quarter_turns_clockwise = round(np.degrees(np.arctan2(b, a)) / 90) % 4
    return np.ascontiguousarray(np.rot90(rgb, k=-quarter_turns_clockwise))
