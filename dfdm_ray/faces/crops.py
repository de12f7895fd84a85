"""Square crops of a face: around its box with a margin, or on the grid of the generators."""

import cv2
import numpy as np

from dfdm_ray.faces.alignment import align_face, crop_matrix, matrix_scale
from dfdm_ray.faces.detector import Floats, Frame

GRID_PX_PER_MFU = 256 / 1.6
"""Pixels of an aligned crop for one unit of the mean face: faceswap's converter puts a drawn face on 1.6
units, so that 256 pixels are 4 for each pixel of a generator of 64, and 2 for each of one of 128."""


def square_around(box_xyxy: Floats, *, margin: float) -> tuple[int, int, int]:
    """Return left, top and side, in pixels, of the square crop around a face box of shape ``(4,)``.

    The side is ``(1 + margin)`` times the longer side of the box; the centre is that of the box.
    """
    side = max(1, round(float((box_xyxy[2:] - box_xyxy[:2]).max()) * (1 + margin)))
    centre = (box_xyxy[:2] + box_xyxy[2:]) / 2
    left, top = (round(float(value) - side / 2) for value in centre)
    return left, top, side


def crop_face(rgb: Frame, box_xyxy: Floats, *, size: int, margin: float) -> Frame:
    """Return the square around a face, shape ``(size, size, 3)``.

    Outside the frame, the pixels of its edge are repeated. Shrinking averages areas, which adds no
    aliasing to the traces of a generator; enlarging is bicubic.
    """
    left, top, side = square_around(box_xyxy, margin=margin)
    rows, above, below = _within(top, side, rgb.shape[0])
    columns, before, after = _within(left, side, rgb.shape[1])
    square = rgb[rows, columns]
    if above or below or before or after:
        sides = (above, below, before, after)
        square = cv2.copyMakeBorder(square, *sides, cv2.BORDER_REPLICATE).astype(np.uint8, copy=False)
    method = cv2.INTER_AREA if side > size else cv2.INTER_CUBIC
    resized = square if side == size else cv2.resize(square, (size, size), interpolation=method)
    return np.ascontiguousarray(resized, dtype=np.uint8)


def crop_aligned(rgb: Frame, landmarks: Floats, *, size: int) -> Frame:
    """Return the middle of a face on the grid of the generators, shape ``(size, size, 3)``.

    Landmarks have shape ``(5, 2)``, pixels. Enlarging is bicubic; shrinking averages areas: it is drawn at a
    whole multiple first.
    """
    matrix = crop_matrix(landmarks, size=size, span_mfu=size / GRID_PX_PER_MFU)
    times = max(1, int(np.ceil(1 / matrix_scale(matrix) - 1e-6)))
    drawn = align_face(rgb, matrix * times, size * times)
    if times == 1:
        return drawn
    return np.asarray(cv2.resize(drawn, (size, size), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _within(start: int, length: int, end: int) -> tuple[slice, int, int]:
    """Return the part of ``start .. start + length`` in ``0 .. end``, and the lengths cut before and after.

    The part has a length of at least one; if nothing overlaps, it is the nearest place.
    """
    first, last = min(max(start, 0), end - 1), max(min(start + length, end), 1)
    before = min(max(-start, 0), length - 1)
    return slice(first, last), before, length - (last - first) - before
