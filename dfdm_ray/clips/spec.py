"""What of a video becomes the model's input, settled from the configuration and the checkpoint."""

from dataclasses import dataclass
from typing import get_args

from dfdm_ray.config import CropConfig, FaceConfig, PlanConfig, Strategy
from dfdm_ray.errors import UserError


@dataclass(frozen=True, kw_only=True)
class ClipSpec:
    """What a worker needs to turn a video into crops; every value is settled."""

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

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """Of one video's crops: (C, T, S, S, 3)."""
        return self.num_clips, self.num_frames, self.crop_size, self.crop_size, 3

    @property
    def frames_wanted(self) -> int:
        """Frames of one video: C * T."""
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
) -> ClipSpec:
    """Settle what a worker needs.

    Args:
        plan: The frame plan.
        faces: How faces are found.
        crop: As the model was trained.
        num_frames: Frames in a clip (T) that the model takes.
        strategy: What the model was trained with, used where ``plan`` is silent; so are the next two.
        runs: Runs of frames in a clip.
        clips: Clips of a video (C).

    Raises:
        UserError: If the plan asks for another number of frames, or the model names a way to choose them
            that there is not.
    """
    if plan.frames is not None and plan.frames != num_frames:
        raise UserError(
            f"--plan.frames is {plan.frames}, but the checkpoint takes clips of {num_frames} frames"
        )
    if plan.strategy is None and strategy not in get_args(Strategy):
        raise UserError(
            f"the checkpoint does not tell how frames are chosen: its frame plan {strategy!r} is none of "
            f"{', '.join(get_args(Strategy))}; name one with --plan.strategy"
        )
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
    )
