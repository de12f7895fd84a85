"""CPU stage: video to face crops. Plan, decode, detect, track, crop in one process; only crops leave it."""

from collections.abc import Callable
from functools import partial

from dfdm_ray.clips.child import video_work
from dfdm_ray.clips.isolation import Allowance
from dfdm_ray.clips.spec import ClipSpec
from dfdm_ray.clips.stage import MakeClips
from dfdm_ray.config import FaceConfig, LimitsConfig


class PrepareClips(MakeClips):
    """Ray Data actor: turns videos into rows with crops.

    In: :data:`schemas.MANIFEST`. Out: :data:`schemas.CLIPS`, one row for each.

    Args:
        faces: Which detector, and how.
        spec: Frames and crops.
        weights: Gives the detector's weights.
        max_pixels: A frame may have.
        allowance: What one video may cost.
        attempts: How often a video is tried of which the decoding process dies.
    """

    def __init__(
        self,
        *,
        faces: FaceConfig,
        spec: ClipSpec,
        weights: Callable[[], bytes],
        max_pixels: int = LimitsConfig.max_pixels,
        allowance: Allowance,
        attempts: int,
    ) -> None:
        work = partial(video_work, faces, spec, weights(), max_pixels)
        super().__init__(
            work, detector=faces.detector, shape=spec.shape, allowance=allowance, attempts=attempts
        )
