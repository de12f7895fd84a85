"""The look of a face: a histogram of its colours, which differ between two people and little in one video.

The faces of grey or tinted videos have one colour. Such a look says nothing; the picture around must do.
"""

from typing import NamedTuple

import cv2
import numpy as np

from dfdm_ray.faces.crops import crop_face, square_around
from dfdm_ray.faces.cuts import elsewhere
from dfdm_ray.faces.detector import Floats, Frame

_SIDE_PX = 32
"""Faces are shrunk to between this side and twice as much."""
_MEAN = 110
"""Mean of the pixels before colours are counted, so that the exposure does not matter."""
_BINS = (24, 24)
_RANGE = (80, 176)
"""Range of the bins of a and b, 0..255; values outside count at its ends."""
_ALIKE = 0.68
"""Smallest overlap of two looks of one person, 0..1.

On clips of 36 people and of 12 methods of synthesis, it took two frames of one clip for two people in none of
245 pairs 5 frames apart and in 2% of 428 pairs far apart, and two people for one in 0.7% of 1,120 pairs; in
7% of 336 where one studio recorded both.
"""


_PLAIN = 0.95
"""Share of the four most frequent colours from which a look says nothing; on these clips, at most 0.91."""


class Look(NamedTuple):
    """Look of a face in a frame."""

    colours: Floats
    """From :func:`face_look`."""
    picture: Frame
    """Thumbnail of the frame, see :mod:`dfdm_ray.faces.cuts`."""

    @property
    def is_plain(self) -> bool:
        """Whether the face has one colour, as in a grey video."""
        return float(np.sort(self.colours)[-4:].sum()) >= _PLAIN


def face_look(rgb: Frame, box_xyxy: Floats) -> Floats:
    """Return the shares of the colours in a face box, in CIELAB; shape ``(576,)``, sum 1.

    Only a and b count; all grey videos look alike.
    """
    _, _, side = square_around(box_xyxy, margin=0)
    whole = max(1, side // _SIDE_PX)  # to shrink by a whole factor is ten times as fast
    size = round(side / whole)
    middle = (box_xyxy[:2] + box_xyxy[2:]) / 2
    square = np.concatenate([middle - whole * size / 2, middle + whole * size / 2], dtype=np.float32)
    face = crop_face(rgb, square, size=size, margin=0)
    even = cv2.convertScaleAbs(face, alpha=_MEAN / max(float(face.mean()), 1))
    lab = np.clip(cv2.cvtColor(even, cv2.COLOR_RGB2LAB), _RANGE[0], _RANGE[1] - 1)
    counts = cv2.calcHist([lab], [1, 2], None, _BINS, _RANGE * 2)
    look: Floats = (counts.ravel() / counts.sum()).astype(np.float32)
    return look


def alike(a: Floats, b: Floats) -> bool:
    """Whether two faces with these colours may be of one person."""
    return float(np.minimum(a, b).sum()) >= _ALIKE


def alike_anywhere(a: Look, b: Look) -> bool:
    """Whether faces in frames far apart may be of one person; those of one colour must be in one place."""
    return alike(a.colours, b.colours) and not (a.is_plain and elsewhere(a.picture, b.picture))
