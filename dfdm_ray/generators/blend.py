"""Conversion of one frame: paste a swapped face back into the frame of its crop.

Figures: ``deepfakes/faceswap`` 183aee37, ``lib/convert.py`` and ``plugins/convert`` at their defaults: the
smaller of box and face mask, average colour, no scaling, no sharpening. Colour is not multiplied by the
mask before it is resampled.
"""

import cv2
import numpy as np
import numpy.typing as npt

from dfdm_ray.faces.alignment import (
    Frame,
    Matrix,
    align_face,
    apply_matrix,
    between_pixel_centres,
    matrix_scale,
)
from dfdm_ray.generators.masks import box_mask

Floats = npt.NDArray[np.float32]


def match_mean_colour(swapped: Floats, original: Floats, mask: Floats) -> Floats:
    """Shift each channel of ``swapped`` to the mean of ``original`` under ``mask``; clip to 0..1.

    faceswap does this twice in a row and clips at the end only; the second shift is zero, so it is done once
    here. The images have shape ``(S, S, 3)`` and values in 0..1, the mask ``(S, S)``; an empty mask shifts
    nothing.
    """
    total = max(float(mask.sum(dtype=np.float64)), np.finfo(np.float64).tiny)
    weight = mask.astype(np.float64) / total
    shift = np.einsum("yx,yxc->c", weight, original.astype(np.float64) - swapped)
    shifted: Floats = np.clip(swapped + shift, 0, 1).astype(np.float32)
    return shifted


def _region_in_frame(matrix: Matrix, size: int, frame: Frame) -> tuple[slice, slice]:
    """Return rows and columns of the frame under the crop's square, empty if it is outside the frame."""
    back = np.asarray(cv2.invertAffineTransform(matrix), np.float64)
    corners = apply_matrix(back, np.array([(0, 0), (size, 0), (0, size), (size, size)], dtype=np.float64))
    limit = (frame.shape[1], frame.shape[0])
    left, top = np.clip(np.floor(corners.min(axis=0)), 0, limit).astype(int)
    right, bottom = np.clip(np.ceil(corners.max(axis=0)), 0, limit).astype(int)
    return slice(int(top), int(bottom)), slice(int(left), int(right))


def paste_face(frame_rgb: Frame, swapped: Floats, matrix: Matrix, face_mask: Floats) -> Frame:
    """Return the frame with a swapped face blended in.

    ``alpha = min(box mask, face mask)``. The mean colour of the face is matched to the frame under the face
    mask. Colour and alpha are warped back, bicubic if this enlarges them, otherwise bilinear. The result is
    ``alpha * face + (1 - alpha) * frame``, rounded. Pixels outside the crop do not change.

    The frame has shape ``(H, W, 3)``, the output of the network ``(S, S, 3)``, RGB, 0..1, and the mask
    ``(S, S)``, 0..1. ``matrix`` maps the frame to the crop of ``S`` pixels.
    """
    size = len(swapped)
    original = np.divide(align_face(frame_rgb, matrix, size), 255, dtype=np.float32)
    face = match_mean_colour(swapped, original, face_mask)
    alpha = np.minimum(box_mask(size), face_mask)

    rows, columns = _region_in_frame(matrix, size, frame_rgb)
    result = frame_rgb.copy()
    region = result[rows, columns]
    if region.size > 0:
        # The same map, from coordinates that begin at the corner of the region.
        from_region = matrix.copy()
        from_region[:, 2] += matrix[:, :2] @ (columns.start, rows.start)
        to_opencv, extent = between_pixel_centres(from_region), region.shape[1::-1]
        method = cv2.INTER_CUBIC if matrix_scale(matrix) < 1 else cv2.INTER_LINEAR
        inverse = method | cv2.WARP_INVERSE_MAP
        colour = cv2.warpAffine(face, to_opencv, extent, flags=inverse, borderMode=cv2.BORDER_REPLICATE)
        weight = cv2.warpAffine(alpha, to_opencv, extent, flags=inverse, borderMode=cv2.BORDER_CONSTANT)
        weight = np.clip(weight, 0, 1)[..., None]
        region[:] = np.clip(np.round(weight * (colour * 255) + (1 - weight) * region), 0, 255)
    return result
