"""Outliers made of real videos: faces that no class of the model made.

They cost no training and show, before any stranger is seen, which unknown score finds strangers. There are
two kinds, drawn once for each video:

* *Another decoder* draws the face at a random resolution, through a random filter and a random enlargement.
  It takes the place of generators of other sizes.
* *A self-blend* moves, scales and recolours the face a little and blends it into its own picture, so that
  only the seam and the resampling are strange. The idea is that of Shiohara and Yamasaki (CVPR 2022).
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from dfdm_ray.jobs.train.augment import Clip
from dfdm_ray.jobs.train.data import WholeVideos

Floats = npt.NDArray[np.float32]

_SIZES_PX = (40, 160)
"""Least and largest side of a crop of 224 pixels as another decoder draws it."""
_ENLARGEMENTS = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)
_CENTRE, _AXES, _BLUR = (0.5, 0.52), (0.27, 0.36), 0.03
"""Centre, semi-axes and blur of the replaced ellipse, as fractions of the side of a crop."""
_MOST_FILTER, _MOST_SHIFT, _MOST_SCALE, _MOST_GAIN = 0.15, 0.03, 0.04, 0.12


@dataclass(frozen=True, kw_only=True)
class Outliers(Dataset[tuple[Tensor, int]]):
    """An outlier made of each of these videos."""

    originals: WholeVideos

    def __len__(self) -> int:
        return len(self.originals)

    def __getitem__(self, video: int) -> tuple[Tensor, int]:
        """Return the changed clips of a video, uint8 ``(C, T, S, S, 3)``, and its number."""
        clips, number = self.originals[video]
        frames = clips.numpy().reshape(-1, *clips.shape[2:])
        changed = outlier(frames, np.random.default_rng(video), redrawn=video % 2 == 0)
        return torch.from_numpy(changed).reshape(clips.shape), number


def outlier(frames: Clip, rng: np.random.Generator, *, redrawn: bool) -> Clip:
    """Return frames, uint8 ``(N, S, S, 3)``, with a face in each that another decoder drew, or a blend."""
    drawn = _redrawn(frames, rng) if redrawn else _moved(frames, rng)
    mixed = frames + _mask(frames.shape[1], rng)[..., None] * (drawn - frames)
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


def _mask(side: int, rng: np.random.Generator) -> Floats:
    """Return the share of the new face at each pixel, shape ``(S, S)``, 0..1."""
    size = rng.uniform(0.85, 1.1)
    mask = np.zeros((side, side), np.float32)
    centre, axes = (
        [round(side * part * by) for part in parts] for parts, by in ((_CENTRE, 1), (_AXES, size))
    )
    cv2.ellipse(mask, centre, axes, 0, 0, 360, 1.0, -1)
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), _BLUR * side), np.float32)


def _redrawn(frames: Clip, rng: np.random.Generator) -> Floats:
    side = frames.shape[1]
    small = round(side * rng.uniform(*_SIZES_PX) / 224)
    kernel = rng.uniform(-_MOST_FILTER, _MOST_FILTER, (3, 3))
    kernel[1, 1] += 1 - kernel.sum()
    enlargement = int(rng.choice(_ENLARGEMENTS))
    drawn = []
    for frame in frames.astype(np.float32):
        shrunk = cv2.filter2D(cv2.resize(frame, (small, small), interpolation=cv2.INTER_AREA), -1, kernel)
        drawn.append(cv2.resize(shrunk, (side, side), interpolation=enlargement))
    return np.stack(drawn)


def _moved(frames: Clip, rng: np.random.Generator) -> Floats:
    side = frames.shape[1]
    shift = rng.uniform(-_MOST_SHIFT, _MOST_SHIFT, 2) * side
    scale = 1 + rng.uniform(-_MOST_SCALE, _MOST_SCALE)
    to = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    to[:, 2] += (1 - scale) * side / 2
    gains = 1 + rng.uniform(-_MOST_GAIN, _MOST_GAIN, 3)
    moved = [
        cv2.warpAffine(frame, to, (side, side), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
        for frame in frames.astype(np.float32)
    ]
    return (np.stack(moved) * gains).astype(np.float32)
