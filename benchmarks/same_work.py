"""The functions of `dfdm-ray score` without Ray, for the alternatives that it is compared with."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from dfdm_ray.clips.cut import ClipFacts, load_detector, prepare_clips
from dfdm_ray.clips.spec import ClipSpec, clip_spec
from dfdm_ray.config import CropConfig, FaceConfig, PlanConfig
from dfdm_ray.models.checkpoint import LoadedModel, load_checkpoint
from dfdm_ray.models.inference import ClipScorer
from dfdm_ray.models.reference import softmax

BATCH = 4
"""Videos in one forward pass; `dfdm-ray score` has the same default on a CPU."""


def load(checkpoint: str) -> LoadedModel:
    return load_checkpoint(Path(checkpoint).read_bytes(), name=checkpoint)


def spec_of(loaded: LoadedModel) -> ClipSpec:
    trained = loaded.preprocessing
    return clip_spec(
        PlanConfig(),
        FaceConfig(),
        CropConfig(size=trained.crop_size, margin=trained.margin),
        num_frames=loaded.config.num_frames,
        strategy=trained.strategy,
        runs=trained.runs,
        clips=trained.clips,
    )


class Preparer:
    """Prepare the crops of a video."""

    def __init__(self, checkpoint: str) -> None:
        cv2.setNumThreads(1)
        self._spec = spec_of(load(checkpoint))
        self._detector, _ = load_detector(FaceConfig())

    def crops(self, uri: str) -> np.ndarray:
        """Return the crops of a video, uint8 ``(1, T, S, S, 3)``."""
        return prepare_clips(uri, self._detector, self._spec, ClipFacts()).crops


class Scorer:
    """Score the crops of several videos."""

    def __init__(self, checkpoint: str) -> None:
        torch.set_num_threads(1)
        loaded = load(checkpoint)
        self.classes = loaded.classes
        self.shape = (1, *spec_of(loaded).shape[1:])
        self._scorer = ClipScorer(loaded, device="cpu")

    def rows(self, crops: np.ndarray) -> list[dict[str, Any]]:
        """Return one row for each video of ``crops``, uint8 ``(N, T, S, S, 3)``."""
        probabilities = softmax(self._scorer.score(crops).logits.astype(np.float64))
        return [
            {"generator": self.classes[int(video.argmax())], "probabilities": video.tolist()}
            for video in probabilities
        ]
