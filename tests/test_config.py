from collections.abc import Callable
from typing import Any

import pytest

from dfdm_ray.config import (
    CropConfig,
    CropsConfig,
    FaceConfig,
    PlanConfig,
    ResourceConfig,
    ScoreConfig,
    clip_spec,
)
from dfdm_ray.errors import UserError

BAD: list[tuple[Callable[..., Any], dict[str, Any], str]] = [
    (PlanConfig, {"clips": 0}, "--plan.clips must be at least 1, got 0"),
    (PlanConfig, {"search_frames": -1}, "--plan.search-frames must be at least 0, got -1"),
    (FaceConfig, {"max_side": 32}, "--faces.max-side must be at least 64, got 32"),
    (FaceConfig, {"score_threshold": 1.0}, "--faces.score-threshold must lie between 0 and 1, got 1"),
    (CropConfig, {"margin": -0.1}, "--crop.margin must be at least 0, got -0.1"),
    (ResourceConfig, {"batch_size": 0}, "--resources.batch-size must be at least 1, got 0"),
    (CropsConfig, {"videos": "x", "limit": 0}, "--limit must be at least 1, got 0"),
    (ScoreConfig, {"checkpoint": "c", "out": "o"}, "give either --videos or --manifest"),
    (ScoreConfig, {"checkpoint": "c", "out": "o", "videos": "v", "manifest": "m"}, "give either"),
]


@pytest.mark.parametrize(("kind", "values", "says"), BAD)
def test_a_bad_value_names_its_flag_and_itself(
    kind: Callable[..., Any], values: dict[str, Any], says: str
) -> None:
    with pytest.raises(UserError) as error:
        kind(**values)
    assert says in str(error.value)


def test_the_clip_length_is_the_checkpoints_and_only_confirmed() -> None:
    faces, crop = FaceConfig(), CropConfig()
    assert clip_spec(PlanConfig(), faces, crop, num_frames=7).num_frames == 7
    assert clip_spec(PlanConfig(frames=7, clips=3), faces, crop, num_frames=7).frames_wanted == 21
    with pytest.raises(UserError, match="takes clips of 7 frames"):
        clip_spec(PlanConfig(frames=8), faces, crop, num_frames=7)
