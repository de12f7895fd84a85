"""Faces a few frames later, found by their picture: a detection costs ten times as much."""

import cv2
import numpy as np

from dfdm_ray.faces.detector import Detections, Floats, Frame

_SIDE_PX = 64
"""Faces are shrunk by a whole factor to between this side and twice as much."""
_REACH = 0.1
"""Largest movement, in box sides."""
_LEAST_MATCH = 0.9
"""Smallest correlation of the two pictures, -1..1."""
_LEAST_CONTRAST = 4.0
"""Smallest standard deviation of a picture, grey levels: a flat one is found everywhere."""


def followed(before: Frame, after: Frame, faces: Detections) -> Detections | None:
    """Return ``faces`` of ``before`` where they are in ``after``, ``None`` if one is not found for sure.

    Sizes and scores stay; frames are ``(H, W, 3)`` uint8 RGB.
    """
    shifts = [_shift(before, after, box) for box in faces.boxes_xyxy]
    if not shifts or any(shift is None for shift in shifts):
        return None
    moved = np.array(shifts, dtype=np.float32)
    return Detections(
        boxes_xyxy=faces.boxes_xyxy + np.tile(moved, 2),
        scores=faces.scores,
        landmarks=faces.landmarks + moved[:, None],
    )


def _shift(before: Frame, after: Frame, box_xyxy: Floats) -> tuple[float, float] | None:
    """Return the movement of a box in x and y, pixels."""
    height, width = before.shape[:2]
    left, top = np.maximum(box_xyxy[:2].round().astype(int), 0).tolist()
    right, bottom = np.minimum(box_xyxy[2:].round().astype(int), (width, height)).tolist()
    side = max(right - left, bottom - top)
    whole = max(1, side // _SIDE_PX)
    columns, rows = (right - left) // whole, (bottom - top) // whole
    if min(columns, rows) < 8 or after.shape != before.shape:
        return None
    reach = int(np.ceil(_REACH * side / whole))
    west, north = min(reach, left // whole), min(reach, top // whole)
    east = min(reach, (width - left) // whole - columns)
    south = min(reach, (height - top) // whole - rows)
    face = _grey(before, left, top, columns, rows, whole)
    around = _grey(
        after, left - west * whole, top - north * whole, west + columns + east, north + rows + south, whole
    )
    if face.std() < _LEAST_CONTRAST:
        return None
    match = cv2.matchTemplate(around, face, cv2.TM_CCOEFF_NORMED).astype(np.float32, copy=False)
    _, best, _, (x, y) = cv2.minMaxLoc(match)
    if best < _LEAST_MATCH or not (0 < x < match.shape[1] - 1 and 0 < y < match.shape[0] - 1):
        return None
    return (x + _peak(match[y, x - 1 : x + 2]) - west) * whole, (
        y + _peak(match[y - 1 : y + 2, x]) - north
    ) * whole


def _grey(frame: Frame, left: int, top: int, columns: int, rows: int, whole: int) -> Frame:
    """Return a part of ``frame``, reduced by a whole factor, as grey levels ``(rows, columns)``."""
    part = frame[top : top + rows * whole, left : left + columns * whole]
    small = cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False)


def _peak(three: Floats) -> float:
    """Return the place, -0.5..0.5, of the maximum of the parabola through values at -1, 0 and 1."""
    low, middle, high = three.tolist()
    curve = low - 2 * middle + high
    return 0.0 if curve >= 0 else float(np.clip((low - high) / (2 * curve), -0.5, 0.5))
