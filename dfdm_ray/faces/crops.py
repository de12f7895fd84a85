"""Square crops of a face with a margin."""

import cv2
import numpy as np

from dfdm_ray.faces.detector import Floats, Frame


def square_around(box_xyxy: Floats, *, margin: float) -> tuple[int, int, int]:
    """Return left, top and side, in pixels, of the square crop around a face box of shape ``(4,)``.

    The side is ``(1 + margin)`` times the box's longer side; the centre is the box's.
    """
    side = max(1, round(float((box_xyxy[2:] - box_xyxy[:2]).max()) * (1 + margin)))
    centre = (box_xyxy[:2] + box_xyxy[2:]) / 2
    left, top = (round(float(value) - side / 2) for value in centre)
    return left, top, side


def crop_face(rgb: Frame, box_xyxy: Floats, *, size: int, margin: float) -> Frame:
    """Return the square around a face, shape ``(size, size, 3)``.

    Where the square passes the frame, the frame's edge is repeated. Shrinking averages areas, so
    that no aliasing is added to the traces a generator left; enlarging is bicubic.
    """
    left, top, side = square_around(box_xyxy, margin=margin)
    height, width = rgb.shape[:2]
    rows = np.clip(np.arange(top, top + side), 0, height - 1)
    columns = np.clip(np.arange(left, left + side), 0, width - 1)
    inside = (
        rows[0] == top
        and rows[-1] == top + side - 1
        and columns[0] == left
        and columns[-1] == left + side - 1
    )
    square = rgb[top : top + side, left : left + side] if inside else rgb[rows[:, None], columns]
    method = cv2.INTER_AREA if side > size else cv2.INTER_CUBIC
    resized = square if side == size else cv2.resize(square, (size, size), interpolation=method)
    return np.ascontiguousarray(resized, dtype=np.uint8)
