"""Part of a video that becomes the model's input: configuration and checkpoint resolved to final values."""

from dataclasses import dataclass
from typing import get_args

from dfdm_ray.config import Align, CropConfig, FaceConfig, PlanConfig, Strategy
from dfdm_ray.errors import UserError


@dataclass(frozen=True, kw_only=True)
class ClipSpec:
    """All that a worker needs to turn a video into crops; no value is left open."""

    strategy: str
    num_frames: int
    """T"""
    num_clips: int
    """C"""
    runs_per_clip: int
    search_frames: int
    detect_every: int
    min_face_px: int
    crop_size: int
    """S"""
    margin: float
    align: str = "box"
    """One of :data:`dfdm_ray.config.Align`."""
    most_faces: int = 1
    """Most faces of a video; 1: the subject alone."""

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """Largest shape of the crops of a face: (C, T, S, S, 3)."""
        return self.num_clips, self.num_frames, self.crop_size, self.crop_size, 3

    @property
    def frames_wanted(self) -> int:
        """Frames used of the subject: C * T."""
        return self.num_clips * self.num_frames


def clip_spec(
    plan: PlanConfig,
    faces: FaceConfig,
    crop: CropConfig,
    *,
    num_frames: int,
    strategy: str = "keyframe_runs",
    runs: int = 2,
    clips: int = 1,
    most_faces: int = 1,
) -> ClipSpec:
    """Resolve the configuration for a model.

    Args:
        plan: Frame plan as configured; ``None`` in it leaves a value to the model.
        strategy: Frame plan of the model's training; ``runs`` and ``clips`` likewise.

    Raises:
        UserError: If the plan has another number of frames, or the model's frame plan is unknown.
    """
    if plan.frames is not None and plan.frames != num_frames:
        raise UserError(
            f"--plan.frames is {plan.frames}, but the checkpoint takes clips of {num_frames} frames; omit it"
        )
    if plan.strategy is None and strategy not in get_args(Strategy):
        raise UserError(
            f"the checkpoint has the unknown frame plan {strategy!r}; choose one of "
            f"{', '.join(get_args(Strategy))} with --plan.strategy"
        )
    if crop.align not in get_args(Align):
        raise UserError(f"the checkpoint has the unknown crop alignment {crop.align!r}; upgrade dfdm-ray")
    return ClipSpec(
        strategy=plan.strategy or strategy,
        num_frames=num_frames,
        num_clips=plan.clips or clips,
        runs_per_clip=plan.runs or runs,
        search_frames=plan.search_frames,
        detect_every=faces.detect_every,
        min_face_px=faces.min_face_px,
        crop_size=crop.size,
        margin=crop.margin,
        align=crop.align,
        most_faces=most_faces,
    )
