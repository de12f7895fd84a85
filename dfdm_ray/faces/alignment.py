"""Aligned face crops from five landmarks, in the coordinates of faceswap's mean face.

faceswap fits 51 landmarks to a mean face in a unit square (mean-face units, MFU) and cuts a square around a
centre. Here five landmarks are fitted to the same five points of that mean face. Figures:
``deepfakes/faceswap`` 183aee37, ``lib/align`` and ``plugins/convert``.

All matrices map continuous coordinates: the first pixel extends from 0 to 1 and its centre is 0.5. OpenCV
counts from the centre of the first pixel; :func:`between_pixel_centres` converts a matrix.
"""

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from dfdm_ray.errors import UserError

Points = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Frame = npt.NDArray[np.uint8]

MEAN_FACE_MFU: Points = np.array(
    [
        (0.235365, 0.215990),  # image-left eye
        (0.764635, 0.215990),  # image-right eye
        (0.500000, 0.515625),  # nose
        (0.264022, 0.780233),  # image-left mouth corner
        (0.735977, 0.780233),  # image-right mouth corner
    ]
)
"""The five landmarks of RetinaFace on the mean face, MFU."""

_CONTENT_FRACTION = 0.5
"""Share of one MFU in the side of faceswap's face-centred crop; the rest is margin."""

FACE_SPAN_MFU = 1 / _CONTENT_FRACTION
"""Side of a stored face: the whole face-centred crop of faceswap (``lib/align``, 183aee37)."""


class Spans(NamedTuple):
    """Sides of the crops in training and in conversion."""

    train_mfu: float
    convert_mfu: float


def spans(coverage: float, *, faithful: bool) -> Spans:
    """Return the spans of the crops that the networks are trained on and that they convert.

    Until April 2026, and so when DFDM was made, faceswap's converter padded its crops by a wrong formula:
    the networks saw larger faces than in training::

        coverage    train   convert
        0.875       1.75    1.60       default of faceswap from August 2021
        0.6875      1.375   1.231      before

    ``coverage`` is the share of the side of the face-centred crop that the networks see. ``faithful`` repeats
    the mismatch, which is in DFDM; otherwise both spans are that of training.
    """
    train = coverage / _CONTENT_FRACTION
    # Padding of (coverage - content) / 2 of the size on each side leaves this share for one MFU.
    return Spans(train, 1 / (1 - (coverage - _CONTENT_FRACTION)) if faithful else train)


def fit_similarity(source: Points, target: Points) -> Matrix:
    """Return the least-squares rotation, zoom and shift from ``source`` to ``target``, shape ``(2, 3)``.

    This is Umeyama's fit with scale, which has a closed form in two dimensions: in complex numbers, a
    similarity without reflection is ``z -> factor * z + shift``. Both have shape ``(N, 2)``.

    Raises:
        ValueError: If the source points are not finite or all the same.
    """
    z, w = source[:, 0] + 1j * source[:, 1], target[:, 0] + 1j * target[:, 1]
    centred = z - z.mean()
    spread = float((np.abs(centred) ** 2).sum())
    if not np.isfinite(spread) or spread == 0:
        raise ValueError(f"no similarity fits these points: {source.tolist()}")
    factor = (np.conj(centred) * (w - w.mean())).sum() / spread
    shift = w.mean() - factor * z.mean()
    return np.array(
        [[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]], dtype=np.float64
    )


def apply_matrix(matrix: Matrix, points: Points) -> Points:
    """Map points ``(N, 2)`` through a matrix ``(2, 3)``."""
    mapped: Points = points @ matrix[:, :2].T + matrix[:, 2]
    return mapped


def crop_centre_mfu(landmarks: Points) -> tuple[float, float]:
    """Return the centre of a face-centred crop in MFU, from landmarks ``(5, 2)`` in any similar coordinates.

    faceswap projects a point inside the head with the pose of 26 landmarks. With five, the nose indicates the
    pose: its distance from the line between eyes and mouth, and its distance below its mean position. The
    rule was fitted on a 3-D head (yaw up to 45 degrees, pitch up to 20) with a residual below 0.008 MFU.
    """
    left_eye, right_eye, nose, left_mouth, right_mouth = apply_matrix(
        fit_similarity(landmarks, MEAN_FACE_MFU), landmarks
    )
    aside = nose[0] - (left_eye[0] + right_eye[0] + left_mouth[0] + right_mouth[0]) / 4
    below = nose[1] - MEAN_FACE_MFU[2, 1]
    return float(0.5 - 0.33 * aside), float(0.5 - 0.175 - 0.40 * below)


def crop_matrix(landmarks: npt.ArrayLike, *, size: int, span_mfu: float) -> Matrix:
    """Return the matrix from the frame to the aligned face crop of ``size`` pixels, shape ``(2, 3)``.

    Landmarks are the image-left eye, image-right eye, nose, image-left and image-right mouth corner in the
    frame, shape ``(5, 2)``, pixels.

    Raises:
        ValueError: If the landmarks are not five finite points, or all the same.
    """
    points = np.asarray(landmarks, dtype=np.float64)
    if points.shape != (5, 2):
        raise ValueError(f"landmarks must have shape (5, 2), got {points.shape}")
    to_mfu = fit_similarity(points, MEAN_FACE_MFU)
    to_mfu[:, 2] -= crop_centre_mfu(points)
    matrix: Matrix = to_mfu * (size / span_mfu)
    matrix[:, 2] += size / 2
    return matrix


def matrix_scale(matrix: Matrix) -> float:
    """Return the zoom of a similarity."""
    return float(np.hypot(matrix[0, 0], matrix[1, 0]))


def between_pixel_centres(matrix: Matrix) -> Matrix:
    """Return the same map in the coordinates of OpenCV, where the centre of the first pixel is 0."""
    moved = matrix.copy()
    moved[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
    return moved


def align_face(rgb: Frame, matrix: Matrix, size: int) -> Frame:
    """Return the crop of a frame, shape ``(size, size, 3)``; outside the frame its edge is repeated.

    Enlarging is bicubic, shrinking is bilinear without averaging: faceswap asks for INTER_AREA, which the
    affine warp of OpenCV replaces by INTER_LINEAR.
    """
    method = cv2.INTER_CUBIC if matrix_scale(matrix) > 1 else cv2.INTER_LINEAR
    crop = cv2.warpAffine(
        rgb, between_pixel_centres(matrix), (size, size), flags=method, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(crop, dtype=np.uint8)


def smooth_landmarks(landmarks: npt.ArrayLike, strength: float) -> Points:
    """Return a Gaussian average over time of the landmarks of one face, shape ``(N, 5, 2)``.

    At both ends the track is continued by its reflection through the end point, so that steady motion is
    kept there. faceswap does not smooth: its 51 landmarks jitter less than five. ``strength`` is the standard
    deviation of the average in frames; 0 changes nothing.

    Raises:
        UserError: If ``strength`` is negative or infinite.
    """
    track = np.asarray(landmarks, dtype=np.float64)
    if not 0 <= strength < np.inf:
        raise UserError(f"--smoothing must be at least 0 and finite, got {strength:g}")
    radius = min(int(np.ceil(3 * strength)), len(track) - 1)
    if strength == 0 or radius < 1:
        return track.copy()
    weight = np.exp(-0.5 * (np.arange(-radius, radius + 1) / strength) ** 2)
    weight /= weight.sum()
    longer = np.pad(track, ((radius, radius), (0, 0), (0, 0)), mode="reflect", reflect_type="odd")
    windows = np.lib.stride_tricks.sliding_window_view(longer, 2 * radius + 1, axis=0)
    smooth: Points = windows @ weight
    return smooth
