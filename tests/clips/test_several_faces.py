"""Videos of several people beside each other: whose faces get clips, in which order, at which cost."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from support.videos import ScriptedDetector, VideoRecipe, steady_frame, write_video

from dfdm_ray.clips.cut import ClipFacts, FaceClips, prepare_faces
from dfdm_ray.clips.spec import ClipSpec, clip_spec
from dfdm_ray.config import CropConfig, FaceConfig, PlanConfig
from dfdm_ray.errors import RejectCode, VideoRejectedError

pytestmark = pytest.mark.slow

Box = tuple[float, float, float, float]
LARGE, SMALL, FAR = (50.0, 4.0, 90.0, 44.0), (4.0, 4.0, 34.0, 34.0), (120.0, 30.0, 145.0, 55.0)


def spec(*, most: int = 4, clips: int = 1, min_px: int = 24) -> ClipSpec:
    faces, crop = FaceConfig(min_face_px=min_px), CropConfig(size=64, margin=0.3)
    plan = PlanConfig(clips=clips)
    return clip_spec(plan, faces, crop, num_frames=10, most_faces=most)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 frames at 25 a second, key frames 25 apart."""
    path = tmp_path_factory.mktemp("clips") / "v.mp4"
    return write_video(path, VideoRecipe(num_frames=200), draw=steady_frame)


def faces_of(
    video: Path, wanted: ClipSpec, script: Callable[[int], Sequence[Box]]
) -> tuple[list[FaceClips], ClipFacts]:
    facts = ClipFacts()
    return prepare_faces(str(video), ScriptedDetector(script), wanted, facts), facts


def places(faces: Sequence[FaceClips]) -> list[Box]:
    return [tuple(clips.boxes_xyxy[0].round().tolist()) for clips in faces]


@pytest.mark.parametrize(("most", "expected"), [(1, [LARGE]), (2, [LARGE, SMALL]), (4, [LARGE, SMALL, FAR])])
def test_faces_come_in_the_order_of_their_weight_up_to_a_number(
    most: int, expected: list[Box], video: Path
) -> None:
    faces, facts = faces_of(video, spec(most=most), lambda _: [FAR, LARGE, SMALL])
    assert places(faces) == expected
    assert facts.num_faces == 3
    assert all(clips.crops.shape == (1, 10, 64, 64, 3) for clips in faces)


def test_no_frames_are_read_for_a_second_face(video: Path) -> None:
    alone, alone_facts = faces_of(video, spec(), lambda _: [LARGE])
    both, facts = faces_of(video, spec(), lambda number: [LARGE, SMALL] if number < 60 else [LARGE])
    assert (places(both), facts.num_faces) == ([LARGE], 2)  # the second is in one of two runs
    assert facts.num_frames_decoded == alone_facts.num_frames_decoded
    np.testing.assert_array_equal(both[0].crops, alone[0].crops)
    np.testing.assert_array_equal(both[0].pts_s, alone[0].pts_s)


def test_a_small_face_is_counted_and_not_cropped(video: Path) -> None:
    faces, facts = faces_of(video, spec(min_px=35), lambda _: [LARGE, SMALL])
    assert (places(faces), facts.num_faces) == ([LARGE], 2)


def test_a_face_in_enough_frames_is_cropped_if_the_subject_is_not_usable(video: Path) -> None:
    wide = (0.0, 0.0, 150.0, 40.0)
    script = lambda number: [wide, SMALL] if 50 <= number < 54 else [SMALL]  # noqa: E731
    faces, _ = faces_of(video, spec(), script)
    assert places(faces) == [SMALL]
    with pytest.raises(VideoRejectedError) as rejected:
        faces_of(video, spec(most=1), lambda number: [wide] if 50 <= number < 54 else [])
    assert rejected.value.code == RejectCode.FACE_TOO_BRIEF


def test_a_face_in_fewer_frames_has_fewer_clips(video: Path) -> None:
    script = lambda number: [LARGE, SMALL] if number < 130 else [LARGE]  # noqa: E731
    faces, _ = faces_of(video, spec(clips=2), script)
    assert [clips.crops.shape[:2] for clips in faces] == [(2, 10), (1, 10)]
    assert [len(clips.pts_s) for clips in faces] == [20, 10]
