from collections.abc import Callable
from typing import Any

import pytest

from dfdm_ray.clips.spec import ClipSpec, clip_spec
from dfdm_ray.config import CropConfig, FaceConfig, LimitsConfig, PlanConfig, ResourceConfig
from dfdm_ray.errors import UserError
from dfdm_ray.jobs.crops.config import CropsConfig
from dfdm_ray.jobs.png_tree.config import PngTreeImport
from dfdm_ray.jobs.preprocess.config import PreprocessConfig
from dfdm_ray.jobs.score.config import ScoreConfig

BAD: list[tuple[Callable[..., Any], dict[str, Any], str]] = [
    (PlanConfig, {"clips": 0}, "--plan.clips must be at least 1, got 0"),
    (PlanConfig, {"frames": 0}, "--plan.frames must be at least 1, got 0"),
    (PlanConfig, {"runs": -2}, "--plan.runs must be at least 1, got -2"),
    (PlanConfig, {"search_frames": -1}, "--plan.search-frames must be at least 0, got -1"),
    (FaceConfig, {"max_side": 32}, "--faces.max-side must be at least 64, got 32"),
    (FaceConfig, {"score_threshold": 1.0}, "--faces.score-threshold must be between 0 and 1, got 1"),
    (
        FaceConfig,
        {"score_threshold": float("nan")},
        "--faces.score-threshold must be between 0 and 1, got nan",
    ),
    (FaceConfig, {"detect_every": 0}, "--faces.detect-every must be at least 1, got 0"),
    (FaceConfig, {"min_face_px": 0}, "--faces.min-face-px must be at least 1, got 0"),
    (CropConfig, {"size": 31}, "--crop.size must be at least 32, got 31"),
    (CropConfig, {"margin": float("nan")}, "--crop.margin must be at least 0, got nan"),
    (CropConfig, {"margin": -0.1}, "--crop.margin must be at least 0, got -0.1"),
    (ResourceConfig, {"decode_workers": 0}, "--resources.decode-workers must be at least 1, got 0"),
    (ResourceConfig, {"model_workers": -1}, "--resources.model-workers must be at least 1, got -1"),
    (ResourceConfig, {"batch_size": 0}, "--resources.batch-size must be at least 1, got 0"),
    (LimitsConfig, {"seconds": 0.0}, "--limits.seconds must be at least 0.1, got 0"),
    (LimitsConfig, {"memory_gib": 0.0}, "--limits.memory-gib must be at least 0.1, got 0"),
    (LimitsConfig, {"attempts": 0}, "--limits.attempts must be at least 1, got 0"),
    (CropsConfig, {"videos": "x", "limit": 0}, "--limit must be at least 1, got 0"),
    (PreprocessConfig, {"out": "o"}, "give one of --videos, --manifest"),
    (PreprocessConfig, {"out": "o", "videos": "v", "frames": 0}, "--frames must be at least 1, got 0"),
    (PreprocessConfig, {"out": "o", "videos": "v", "clips": -1}, "--clips must be at least 1, got -1"),
    (PngTreeImport, {"tree": "t", "out": "o", "frames": 0}, "--frames must be at least 1, got 0"),
    (PngTreeImport, {"tree": "t", "out": "o", "size": 16}, "--size must be at least 32, got 16"),
    (PngTreeImport, {"tree": "t", "out": "o", "crf": -1}, "--crf must be at least 0, got -1"),
    (PngTreeImport, {"tree": "t", "out": "o", "margin": -1.0}, "--margin must be at least 0, got -1"),
    (ScoreConfig, {"checkpoint": "c", "out": "o"}, "give one of --videos, --manifest, --crops"),
    (
        ScoreConfig,
        {"checkpoint": "c", "out": "o", "videos": "v", "split": "test"},
        "--split needs --manifest or --crops",
    ),
    (
        ScoreConfig,
        {"checkpoint": "c", "out": "o", "crops": "d", "plan": PlanConfig(clips=2)},
        "--plan and --faces apply to videos",
    ),
    (ScoreConfig, {"checkpoint": "c", "out": "o", "videos": "v", "manifest": "m"}, "give one of"),
    (
        ScoreConfig,
        {"checkpoint": "c", "out": "o", "videos": "v", "max_reject_fraction": 1.5},
        "--max-reject-fraction must be between 0 and 1, got 1.5",
    ),
]


@pytest.mark.parametrize(("kind", "values", "says"), BAD)
def test_a_bad_value_names_its_flag_and_itself(
    kind: Callable[..., Any], values: dict[str, Any], says: str
) -> None:
    with pytest.raises(UserError) as error:
        kind(**values)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_the_clip_length_is_the_checkpoints_and_only_confirmed() -> None:
    faces, crop = FaceConfig(), CropConfig()
    assert clip_spec(PlanConfig(), faces, crop, num_frames=7).num_frames == 7
    assert clip_spec(PlanConfig(frames=7, clips=3), faces, crop, num_frames=7).frames_wanted == 21
    with pytest.raises(UserError, match="takes clips of 7 frames"):
        clip_spec(PlanConfig(frames=8), faces, crop, num_frames=7)


def test_the_frame_plan_is_the_checkpoints_where_the_command_line_is_silent() -> None:
    trained = {"num_frames": 6, "strategy": "uniform", "runs": 3, "clips": 2}
    spec = clip_spec(PlanConfig(), FaceConfig(), CropConfig(), **trained)  # type: ignore[arg-type]
    assert (spec.strategy, spec.runs_per_clip, spec.num_clips) == ("uniform", 3, 2)
    spec = clip_spec(PlanConfig(strategy="head", runs=1, clips=4), FaceConfig(), CropConfig(), **trained)  # type: ignore[arg-type]
    assert (spec.strategy, spec.runs_per_clip, spec.num_clips) == ("head", 1, 4)


def test_a_frame_plan_that_there_is_not_is_told_unless_another_is_named() -> None:
    faces, crop = FaceConfig(), CropConfig()
    with pytest.raises(
        UserError, match=r"frame plan 'png_tree'; choose one of keyframe_runs, .* --plan\.strategy"
    ):
        clip_spec(PlanConfig(), faces, crop, num_frames=6, strategy="png_tree")
    spec = clip_spec(PlanConfig(strategy="head"), faces, crop, num_frames=6, strategy="png_tree")
    assert spec.strategy == "head"


def test_what_a_worker_needs_is_what_was_configured() -> None:
    plan = PlanConfig(strategy="head", clips=2, runs=3, search_frames=7)
    faces, crop = FaceConfig(detect_every=4, min_face_px=33), CropConfig(size=64, margin=0.5)
    assert clip_spec(plan, faces, crop, num_frames=6) == ClipSpec(
        strategy="head",
        num_frames=6,
        num_clips=2,
        runs_per_clip=3,
        search_frames=7,
        detect_every=4,
        min_face_px=33,
        crop_size=64,
        margin=0.5,
    )
