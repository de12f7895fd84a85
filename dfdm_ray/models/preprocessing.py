"""Settings that turn a face into the input of a model; checkpoints contain them."""

import math
from dataclasses import dataclass
from typing import Any

from dfdm_ray.models.dma_sta import DFDM_MEAN, DFDM_STD, check_count

FACE_SETTINGS = ("detector", "max_side", "detect_every", "score_threshold")
"""Fields that describe the face detection."""


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Settings that turn a face into the input on which the model was trained."""

    crop_size: int = 224
    """Side of the square crop, pixels."""
    margin: float = 0.3
    """Margin of the crop around the face box, as a fraction of the box."""
    align: str = "box"
    """Position of the face in the crop, see :data:`dfdm_ray.config.Align`."""
    mean: tuple[float, float, float] = DFDM_MEAN
    """RGB mean to subtract, in 0..1."""
    std: tuple[float, float, float] = DFDM_STD
    """RGB standard deviation to divide by, in 0..1."""
    strategy: str = "keyframe_runs"
    """Choice of the frames of a clip, see :class:`dfdm_ray.config.RunsConfig`."""
    runs: int = 2
    """Runs of consecutive frames in a clip."""
    clips: int = 1
    """Clips of a video; their logits are averaged."""
    detector: str | None = None
    """Face detector of the training crops. This field and the next three are those of
    :class:`dfdm_ray.config.FaceConfig`, ``None`` if unknown."""
    max_side: int | None = None
    detect_every: int | None = None
    score_threshold: float | None = None

    def __post_init__(self) -> None:
        check_count("crop_size", self.crop_size, at_least=32)
        for name in ("strategy", "align"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"{name} must be a name, got {getattr(self, name)!r}")
        check_count("runs", self.runs, at_least=1)
        check_count("clips", self.clips, at_least=1)
        if not _is_number(self.margin) or self.margin < 0:
            raise ValueError(f"margin must be a number of at least 0, got {self.margin!r}")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if not isinstance(values, tuple) or len(values) != 3 or not all(map(_is_number, values)):
                raise ValueError(f"{name} must be three numbers, got {values!r}")
        if min(self.std) <= 0:
            raise ValueError(f"std must be above 0, got {self.std!r}")
        for name, value in self.faces.items():
            if name == "detector" and not isinstance(value, str):
                raise ValueError(f"detector must be a name, got {value!r}")
            if name != "detector" and not _is_number(value):
                raise ValueError(f"{name} must be a number, got {value!r}")

    @property
    def faces(self) -> dict[str, Any]:
        """The known settings of the face detection for the training crops."""
        values = {name: getattr(self, name) for name in FACE_SETTINGS}
        return {name: value for name, value in values.items() if value is not None}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
