"""The interface of face detectors, and RetinaFace without its network.

Anchors, variances and strides are those of RetinaFace (Deng et al., CVPR 2020) as published in
``biubug6/Pytorch_Retinaface`` and ``retinaface-pytorch``: strides 8, 16, 32 with two square anchors
each, variances 0.1 and 0.2.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Frame = npt.NDArray[np.uint8]

_ANCHOR_SIDES_PX = {8: (16, 32), 16: (64, 128), 32: (256, 512)}
_CENTRE_VARIANCE = 0.1
_SIZE_VARIANCE = 0.2
_NMS_IOU = 0.4
"""Overlap above which the weaker of two detections is dropped; the value of both published packages."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Detections:
    """Faces of one frame, best score first; coordinates in pixels of that frame."""

    boxes_xyxy: Floats
    """Shape ``(N, 4)``."""
    scores: Floats
    """Shape ``(N,)``, 0..1."""
    landmarks: Floats
    """Shape ``(N, 5, 2)``: image-left eye, image-right eye, nose, image-left and -right mouth corner."""

    def __len__(self) -> int:
        return len(self.scores)


class FaceDetector(Protocol):
    """Finder of faces in frames."""

    name: str

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        """Return the faces of each frame; frames are ``(H, W, 3)`` uint8 RGB, all of one size."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class RawOutputs:
    """Output of a network for ``B`` frames and ``A`` anchors."""

    box_deltas: Floats
    """Shape ``(B, A, 4)``."""
    scores: Floats
    """Probability of a face, shape ``(B, A)``."""
    landmark_deltas: Floats
    """Shape ``(B, A, 10)``."""


@lru_cache(maxsize=16)
def anchors_cxcywh(height: int, width: int) -> Floats:
    """Return the anchors of a ``height`` x ``width`` input in pixels, shape ``(A, 4)``."""
    levels = []
    for stride, sides in _ANCHOR_SIDES_PX.items():
        rows, columns = -(-height // stride), -(-width // stride)
        y, x, side = np.meshgrid(np.arange(rows), np.arange(columns), np.array(sides), indexing="ij")
        centres = [(x + 0.5) * stride, (y + 0.5) * stride]
        levels.append(np.stack([*centres, side, side], axis=-1).reshape(-1, 4))
    return np.concatenate(levels).astype(np.float32)


def decode_outputs(
    outputs: RawOutputs, *, size: tuple[int, int], scale: float, threshold: float
) -> list[Detections]:
    """Return the detections with a score above ``threshold`` in ``outputs``.

    ``size`` is the height and width of the input in pixels, ``scale`` the factor from its pixels to those of
    the original frame.
    """
    anchors = anchors_cxcywh(*size)
    frames = zip(outputs.box_deltas, outputs.scores, outputs.landmark_deltas, strict=True)
    found = []
    for deltas, scores, points in frames:
        kept = np.flatnonzero(scores > threshold)
        box = anchors[kept]
        centre = box[:, :2] + _CENTRE_VARIANCE * deltas[kept, :2] * box[:, 2:]
        sides = box[:, 2:] * np.exp(_SIZE_VARIANCE * deltas[kept, 2:])
        corners = np.concatenate([centre - sides / 2, centre + sides / 2], axis=1, dtype=np.float32)
        corners *= scale
        spread = points[kept].reshape(-1, 5, 2) * (_CENTRE_VARIANCE * box[:, None, 2:])
        landmarks = ((box[:, None, :2] + spread) * scale).astype(np.float32, copy=False)
        best = _suppress(corners, scores[kept], threshold)
        found.append(
            Detections(boxes_xyxy=corners[best], scores=scores[kept][best], landmarks=landmarks[best])
        )
    return found


def _suppress(boxes_xyxy: Floats, scores: Floats, threshold: float) -> npt.NDArray[np.intp]:
    """Return the detections that non-maximum suppression keeps, best first, shape ``(N,)``."""
    boxes_xywh = np.concatenate([boxes_xyxy[:, :2], boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]], axis=1)
    best = cv2.dnn.NMSBoxes(boxes_xywh.tolist(), scores.tolist(), threshold, _NMS_IOU)
    return np.asarray(best, dtype=np.intp).reshape(-1)


def shrink(frame: Frame, max_side: int) -> tuple[Frame, float]:
    """Return ``frame`` no longer than ``max_side`` pixels, and the factor back to its own pixels.

    The first step averages areas by a whole factor, in which OpenCV is ten times as fast as by other
    factors. The second, by less than two, interpolates linearly, which adds hardly any aliasing.
    """
    height, width = frame.shape[:2]
    scale = max(height, width) / max_side
    if scale <= 1:
        return frame, 1.0
    whole = min(int(scale), height, width)
    if whole > 1:  # up to ``whole - 1`` rows and columns at the far edges are cut
        height, width = height // whole * whole, width // whole * whole
        area = (width // whole, height // whole)
        averaged = cv2.resize(frame[:height, :width], area, interpolation=cv2.INTER_AREA)
        frame = averaged.astype(np.uint8, copy=False)
    size = (max(1, round(width / scale)), max(1, round(height / scale)))
    small = cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR)
    return small.astype(np.uint8, copy=False), width / size[0]


class RetinaFace(ABC):
    """A face detector with one of RetinaFace's networks.

    Args:
        max_side: Frames are shrunk to this longest side, in pixels. If no face is found, they are shrunk to
            twice this side: most faces are large and cost a quarter, and small ones are found too.
        score_threshold: Lowest score kept, 0..1.
    """

    def __init__(self, *, max_side: int, score_threshold: float) -> None:
        self._max_side = max_side
        self._score_threshold = score_threshold

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        """Return the faces of each frame; frames are ``(H, W, 3)`` uint8 RGB, all of one size."""
        found = self._look(frames, self._max_side)
        if any(map(len, found)) or max(frames[0].shape[:2]) <= self._max_side:
            return found
        return self._look(frames, 2 * self._max_side)

    def _look(self, frames: Sequence[Frame], max_side: int) -> list[Detections]:
        shrunk = [shrink(frame, max_side) for frame in frames]
        pixels = [frame for frame, _ in shrunk]
        return decode_outputs(
            self._outputs(pixels),
            size=pixels[0].shape[:2],
            scale=shrunk[0][1],
            threshold=self._score_threshold,
        )

    @abstractmethod
    def _outputs(self, frames: Sequence[Frame]) -> RawOutputs:
        """Return the output of the network for ``frames``, ``(H, W, 3)`` uint8 RGB, all of one size."""
