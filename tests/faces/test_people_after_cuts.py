"""Two people after each other at the same place, in colour and in grey."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
from support.videos import VideoRecipe, write_video, x264

from dfdm_ray import assets
from dfdm_ray.clips.cut import ClipFacts, FaceClips, load_detector, prepare_faces
from dfdm_ray.clips.spec import clip_spec
from dfdm_ray.config import CropConfig, FaceConfig, PlanConfig, Strategy
from dfdm_ray.faces.crops import crop_face

pytestmark = pytest.mark.slow

Pixels = npt.NDArray[np.uint8]
SIDE = 192
MAN, SECOND_MAN = "carphone_pristine.mp4", "single_face.mp4"


def faces_of(path: Path, facts: ClipFacts, strategy: Strategy = "keyframe_runs") -> list[FaceClips]:
    plan, crop = PlanConfig(strategy=strategy), CropConfig(size=64, margin=0.3)
    wanted = clip_spec(plan, FaceConfig(), crop, num_frames=10, most_faces=4)
    return prepare_faces(str(path), load_detector(FaceConfig())[0], wanted, facts)


@cache
def person(name: str) -> tuple[Pixels, ...]:
    """Return ten frames of a person whose face is in the middle and always as large."""
    detector, _ = load_detector(FaceConfig())
    with av.open(str(assets.get(name))) as container:
        frames = [
            np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
            for _, frame in zip(range(10), container.decode(video=0), strict=False)
        ]
    box = detector.detect(frames[:1])[0].boxes_xyxy[0]
    return tuple(crop_face(frame, box, size=SIDE, margin=0.8) for frame in frames)


def grey(frame: Pixels) -> Pixels:
    return frame.mean(axis=2, keepdims=True).repeat(3, axis=2).astype(np.uint8)


def after_each_other(path: Path, start: int, look: Callable[[Pixels], Pixels]) -> Path:
    """100 frames, key frames 25 apart: a man, and from ``start`` on another one at his place."""

    def draw(number: int) -> Pixels:
        return look(person(SECOND_MAN if number >= start else MAN)[number % 10])

    recipe = VideoRecipe(num_frames=100, size=(SIDE, SIDE), options=x264(sc_threshold="0"))
    return write_video(path, recipe, draw=draw)


@pytest.mark.parametrize("look", [np.asarray, grey])
@pytest.mark.parametrize(
    ("strategy", "start"),
    [
        ("keyframe_runs", 50),  # between the planned runs
        ("keyframe_runs", 27),  # inside a run
        ("head", 4),  # inside the only run
    ],
)
def test_a_cut_between_two_people_gives_two_tracks(
    strategy: Strategy, start: int, look: Callable[[Pixels], Pixels], tmp_path: Path
) -> None:
    facts = ClipFacts()
    for clips in faces_of(after_each_other(tmp_path / "v.mp4", start, look), facts, strategy):
        is_second = clips.pts_s * 25 > start - 0.5
        assert is_second.all() or not is_second.any()
    assert facts.num_faces == 2


def test_a_caption_is_no_cut(tmp_path: Path) -> None:
    def draw(number: int) -> Pixels:
        frame = person(MAN)[number % 10].copy()
        frame[-24:] = 255 if number >= 3 else 0
        return frame

    recipe = VideoRecipe(num_frames=12, size=(SIDE, SIDE), options=x264(sc_threshold="0"))
    facts = ClipFacts()
    faces_of(write_video(tmp_path / "v.mp4", recipe, draw=draw), facts)
    assert (facts.num_faces, facts.num_frames_decoded <= 11) == (1, True)
