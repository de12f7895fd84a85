"""Masks from a template face: for the losses, and for blending a swapped face in.

faceswap draws its masks from 68 landmarks. Five landmarks do not give the outline of a face, so the outline
of an average head is used. It was fitted to the mean face of ``deepfakes/faceswap`` 183aee37 with a generic
3-D head of 68 points, the brows raised by the rule of ``plugins/extract/mask/extended.py``. The softness is
that of faceswap, in mean-face units (MFU), so that it does not depend on the size of the mask.
"""

import cv2
import numpy as np
import numpy.typing as npt

FRONTAL_CENTRE: tuple[float, float] = (0.5, 0.333)
"""Centre of a face-centred crop of a frontal face, MFU."""

# Image-left half of the outline from the ear down to the chin, then the raised brow inwards, MFU.
_JAW = (
    (-0.112, 0.300),
    (-0.105, 0.459),
    (-0.086, 0.617),
    (-0.055, 0.772),
    (0.005, 0.913),
    (0.100, 1.031),
    (0.218, 1.121),
    (0.351, 1.187),
    (0.500, 1.205),
)
_RAISED_BROW = ((-0.020, 0.041), (0.062, -0.050), (0.188, -0.061), (0.313, -0.038), (0.433, 0.000))

# Centre x, y and semi-axes x, y, MFU. The eyes are those of the mean face; the centre of the mouth is 0.04
# below the middle of its corners.
_EYES = ((0.235365, 0.215990, 0.138, 0.064), (0.764635, 0.215990, 0.138, 0.064))
_MOUTH = (0.5, 0.820233, 0.267, 0.122)

_FACE_BLUR_MFU = 0.8 / 64
"""OpenCV's sigma for a Gaussian kernel of 3, in faceswap's 128-pixel mask of 2 MFU."""
_ZONE_BLUR_MFU = 0.02
"""Sigma of the eye and mouth masks."""
_CONVERSION_BLUR_MFU = (4 * 8 / 12) ** 0.5 / 64
"""Sigma of the four 3x3 box blurs with which the converter softens that mask (8/12: variance of a box)."""

_SUBPIXEL_BITS = 6
_OVERSAMPLING = 8

Mask = npt.NDArray[np.float32]
Points = npt.NDArray[np.float64]


def face_outline_mfu() -> Points:
    """Return the convex outline of the template face, shape ``(N, 2)``, MFU."""
    left = np.array([*_JAW, *_RAISED_BROW])
    both = np.concatenate([left, [1, 0] + [-1, 1] * left]).astype(np.float32)
    outline: Points = cv2.convexHull(both)[:, 0].astype(np.float64)
    return outline


def _ellipse_mfu(ellipse: tuple[float, float, float, float]) -> Points:
    angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    points: Points = circle * ellipse[2:] + ellipse[:2]
    return points


def _draw(
    shapes: list[Points], size: int, *, span_mfu: float, centre: tuple[float, float], blur_mfu: float
) -> Mask:
    """Fill convex polygons with ones and soften their edges, shape ``(size, size)``.

    They are drawn with a margin as wide as the blur, so that a shape cut by the edge of the crop does not
    fade there.
    """
    px_per_mfu = size * _OVERSAMPLING / span_mfu
    sigma_px = blur_mfu * size / span_mfu
    margin = int(np.ceil(4 * sigma_px)) + 1
    side = size + 2 * margin
    canvas = np.zeros((side * _OVERSAMPLING, side * _OVERSAMPLING), np.uint8)
    for shape in shapes:
        # OpenCV counts from the centre of the first pixel.
        place = (shape - centre) * px_per_mfu + side * _OVERSAMPLING / 2 - 0.5
        fixed = np.round(place * 2**_SUBPIXEL_BITS).astype(np.int32)
        cv2.fillConvexPoly(canvas, fixed, 255, shift=_SUBPIXEL_BITS)
    small = cv2.resize(canvas, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    soft = cv2.GaussianBlur(small, (0, 0), sigma_px)
    return np.ascontiguousarray(soft[margin : margin + size, margin : margin + size], dtype=np.float32)


def render_masks(size: int, *, span_mfu: float) -> Mask:
    """Return the training masks of a crop: face, eyes and mouth, shape ``(3, size, size)``, 0..1."""
    zones = (
        ([face_outline_mfu()], _FACE_BLUR_MFU),
        ([_ellipse_mfu(eye) for eye in _EYES], _ZONE_BLUR_MFU),
        ([_ellipse_mfu(_MOUTH)], _ZONE_BLUR_MFU),
    )
    return np.stack(
        [
            _draw(shapes, size, span_mfu=span_mfu, centre=FRONTAL_CENTRE, blur_mfu=blur)
            for shapes, blur in zones
        ]
    )


def render_conversion_mask(
    size: int, *, span_mfu: float, centre: tuple[float, float] = FRONTAL_CENTRE
) -> Mask:
    """Return the face mask with the softer edge of the converter, shape ``(size, size)``, 0..1.

    In the faithful mode the mask has the span of training and is put on a crop of the span of conversion: it
    is too small there, as in faceswap (see :func:`~dfdm_ray.faces.alignment.spans`).
    """
    outline = [face_outline_mfu()]
    return _draw(outline, size, span_mfu=span_mfu, centre=centre, blur_mfu=_CONVERSION_BLUR_MFU)


def box_mask(size: int) -> Mask:
    """Return the mask that hides the border of a swapped face, shape ``(size, size)``, 0..1.

    It is 1 from ``round(0.055 * size)`` pixels inside the border, blurred by the widest Gaussian kernel that
    does not reach the border: 7 for 64 pixels, 13 for 128.
    """
    inset = max(1, round(0.055 * size))
    mask = np.zeros((size, size), np.float32)
    mask[inset : size - inset, inset : size - inset] = 1
    kernel = 2 * inset - 1
    soft = cv2.GaussianBlur(mask, (kernel, kernel), 0, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(soft, np.float32)
