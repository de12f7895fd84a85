"""Loss curve of a generator's training."""

from collections.abc import Sequence

import cv2
import numpy as np

from dfdm_ray.io.images import Image


def draw_losses(losses: Sequence[float], *, size: tuple[int, int] = (640, 320)) -> Image:
    """Draw a loss curve, its running mean in bold, as RGB of ``size`` (width, height)."""
    width, height = size
    picture = np.full((height, width, 3), 255, np.uint8)
    values = np.asarray(losses, np.float64)
    window = max(1, len(values) // 50)
    smooth = np.convolve(values, np.ones(window) / window, mode="valid")
    top = max(float(values.max()), 1e-9)
    for curve, colour, thickness in ((values, (200, 215, 235), 1), (smooth, (30, 80, 160), 2)):
        x = np.linspace(40, width - 10, len(curve))
        y = height - 25 - curve / top * (height - 45)
        points = np.stack([x, y], axis=1).round().astype(np.int32)
        cv2.polylines(picture, [points], False, colour, thickness, cv2.LINE_AA)
    for text, at in (
        (f"{top:.3f}", (2, 16)),
        ("0", (2, height - 22)),
        (f"{len(values)} iterations", (width - 140, height - 6)),
    ):
        cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    return picture
