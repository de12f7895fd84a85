import dataclasses
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path
from typing import Literal

import av
import numpy as np
import pytest
from support.videos import (
    ScriptedDetector,
    VideoRecipe,
    frame_number,
    steady_frame,
    write_video,
    x264,
)

from dfdm_ray import assets
from dfdm_ray.clips.cut import ClipFacts, FaceClips, load_detector, prepare_clips
from dfdm_ray.clips.spec import ClipSpec, clip_spec
from dfdm_ray.config import CropConfig, FaceConfig, PlanConfig
from dfdm_ray.errors import RejectCode, VideoRejectedError
from dfdm_ray.faces.crops import crop_aligned
from dfdm_ray.faces.tracks import find_tracks
from dfdm_ray.io.identity import fingerprint
from dfdm_ray.video.decode import VideoReader
from dfdm_ray.video.frames import FrameBatch

pytestmark = pytest.mark.slow

Box = tuple[float, float, float, float]
Script = Callable[[int], Sequence[Box]]

FACE: Box = (50, 20, 90, 60)


def spec(
    *,
    clips: int = 1,
    frames: int = 10,
    search: int = 300,
    min_face_px: int = 24,
    strategy: Literal["keyframe_runs", "head", "uniform"] = "keyframe_runs",
) -> ClipSpec:
    plan = PlanConfig(strategy=strategy, clips=clips, search_frames=search)
    crop = CropConfig(size=96, margin=0.3)
    return clip_spec(plan, FaceConfig(min_face_px=min_face_px), crop, num_frames=frames)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 frames at 25 a second, key frames 25 apart."""
    return write_video(
        tmp_path_factory.mktemp("clips") / "v.mp4", VideoRecipe(num_frames=200), draw=steady_frame
    )


@pytest.fixture(scope="module")
def one_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 frames after a single key frame."""
    options = {"crf": "18", "preset": "veryfast", "g": "250", "sc_threshold": "0"}
    return write_video(
        tmp_path_factory.mktemp("clips") / "k.mp4",
        VideoRecipe(num_frames=200, options=options),
        draw=steady_frame,
    )


def prepare(
    video: Path, script: Script, wanted: ClipSpec | None = None
) -> tuple[FaceClips, ClipFacts, ScriptedDetector]:
    detector, facts = ScriptedDetector(script), ClipFacts()
    clips = prepare_clips(str(video), detector, wanted or spec(), facts)
    assert (np.diff(clips.pts_s) > 0).all()  # no frame twice, all in order of time
    return clips, facts, detector


def rejected(video: Path, script: Script, wanted: ClipSpec | None = None) -> tuple[RejectCode, ClipFacts]:
    facts = ClipFacts()
    with pytest.raises(VideoRejectedError) as rejection:
        prepare_clips(str(video), ScriptedDetector(script), wanted or spec(), facts)
    return rejection.value.code, facts


def numbers(clips: FaceClips) -> list[int]:
    """Frame numbers by their times, at 25 frames a second."""
    return (clips.pts_s * 25).round().astype(int).tolist()


def test_aligned_crops_put_the_landmarks_where_generators_draw_them(video: Path) -> None:
    aligned = dataclasses.replace(spec(), align="generator", crop_size=176)
    clips, _, _ = prepare(video, lambda _: [FACE], aligned)
    assert clips.crops.shape == (1, 10, 176, 176, 3)
    with VideoReader(str(video)) as reader:
        first = next(islice(reader.read_onwards(), numbers(clips)[0], None)).rgb[0]
    np.testing.assert_array_equal(clips.crops[0, 0], crop_aligned(first, clips.landmarks[0], size=176))


def test_a_face_in_every_frame_costs_only_the_planned_frames(video: Path) -> None:
    clips, facts, detector = prepare(video, lambda _: [FACE])
    assert clips.crops.shape == (1, 10, 96, 96, 3)
    assert len(set(numbers(clips))) == 10
    assert numbers(clips) == sorted(numbers(clips))
    assert facts.num_frames_decoded <= 11
    assert len(detector.asked) == 4  # the first and last frame of two runs
    assert (facts.num_frames_in_video, facts.num_frames_missing, facts.num_faces) == (200, 0, 1)
    assert facts.seconds_decode > 0
    assert facts.seconds_detect > 0
    np.testing.assert_allclose(clips.boxes_xyxy, [FACE] * 10)
    assert clips.face_score == pytest.approx(0.999)


def test_a_video_is_known_by_its_fingerprint_with_or_without_clips(video: Path) -> None:
    size = video.stat().st_size
    with video.open("rb") as stream:
        known = fingerprint(stream, size)
    assert prepare(video, lambda _: [FACE])[1].fingerprint == known
    assert rejected(video, lambda _: [])[1].fingerprint == known


def test_each_crop_is_cut_from_the_frame_its_time_names(video: Path) -> None:
    clips, _, _ = prepare(video, lambda number: [(20 + number / 4, 20, 60 + number / 4, 60)])
    for number, left in zip(numbers(clips), clips.boxes_xyxy[:, 0], strict=True):
        assert left == pytest.approx(20 + number / 4, abs=0.01)
    whole = spec()
    detector = ScriptedDetector(lambda _: [(0, 0, 160, 160)])
    clips = prepare_clips(str(video), detector, whole, ClipFacts())
    # the crop is 208 pixels wide around the 160x96 frame: cut the frame out of it again
    side = round(160 * 1.3)
    for number, crop in zip(numbers(clips), clips.crops[0], strict=True):
        scale = 96 / side
        left, top = round((side - 160) / 2 * scale), round((side / 2 - 80) * scale)
        frame = crop[top : top + round(96 * scale), left : left + round(160 * scale)]
        assert frame_number(frame.repeat(4, axis=0).repeat(4, axis=1)) == number


@pytest.mark.parametrize(
    ("strategy", "expected", "decoded"),
    [
        ("head", list(range(10)), 12),
        ("uniform", [10 + 20 * i for i in range(10)], 160),  # the middles of ten equal parts
    ],
)
def test_other_plans_take_other_frames(
    strategy: Literal["head", "uniform"], expected: list[int], decoded: int, video: Path
) -> None:
    clips, facts, _ = prepare(video, lambda _: [FACE], spec(strategy=strategy))
    assert numbers(clips) == expected
    assert facts.num_frames_decoded <= decoded


def test_the_seconds_add_up(video: Path) -> None:
    started = time.perf_counter()
    _, facts, _ = prepare(video, slow_face)
    passed = time.perf_counter() - started
    assert facts.seconds_detect >= 4 * 0.02
    assert facts.seconds_decode > 0
    assert facts.seconds_decode + facts.seconds_detect <= passed


def slow_face(_: int) -> list[Box]:
    time.sleep(0.02)
    return [FACE]


def test_several_clips_cover_different_parts_of_the_video(video: Path) -> None:
    clips, facts, _ = prepare(video, lambda _: [FACE], spec(clips=3, frames=4))
    assert clips.crops.shape == (3, 4, 96, 96, 3)
    assert len(set(numbers(clips))) == 12
    assert numbers(clips)[3] < numbers(clips)[4]
    assert facts.num_frames_decoded <= 14


def test_a_face_in_the_second_half_is_found_at_other_key_frames(video: Path) -> None:
    clips, facts, _ = prepare(video, lambda number: [FACE] if number >= 150 else [])
    assert min(numbers(clips)) >= 150
    assert facts.num_frames_decoded < 60


def test_a_face_deep_after_the_only_key_frame_is_found_by_the_scan(one_key: Path) -> None:
    clips, facts, _ = prepare(one_key, lambda number: [FACE] if number >= 120 else [])
    assert min(numbers(clips)) >= 120
    assert len(set(numbers(clips))) == 10
    assert facts.num_frames_decoded > 120


def test_a_face_in_every_other_second_is_enough(video: Path) -> None:
    clips, _, _ = prepare(video, lambda number: [FACE] if number // 25 % 2 else [])
    assert all(number // 25 % 2 for number in numbers(clips))


def test_without_a_face_the_search_ends_where_it_was_told(video: Path, one_key: Path) -> None:
    for path in (video, one_key):
        code, facts = rejected(path, lambda _: [], spec(search=40))
        assert code == RejectCode.NO_FACE
        assert facts.num_frames_decoded <= 10 + 40 + 3  # a packet may release a few frames at once
        assert facts.num_frames_in_video == 200
    code, facts = rejected(video, lambda _: [], spec(search=0))
    assert code == RejectCode.NO_FACE
    assert facts.num_frames_decoded <= 11


def test_the_larger_of_two_faces_stays_the_subject_in_every_crop(video: Path) -> None:
    small: Box = (120, 10, 145, 35)
    clips, facts, _ = prepare(video, lambda number: [small, FACE] if number % 2 else [FACE, small])
    np.testing.assert_allclose(clips.boxes_xyxy, [FACE] * 10)
    assert facts.num_faces == 2


def test_a_small_face_is_rejected_and_says_its_size(video: Path) -> None:
    code, facts = rejected(video, lambda _: [(50, 20, 70, 40)])
    assert code == RejectCode.FACE_TOO_SMALL
    assert facts.num_faces == 1
    prepare(video, lambda _: [(50, 20, 70, 40)], spec(min_face_px=20))


def test_a_face_in_too_few_frames_is_rejected(one_key: Path) -> None:
    code, _ = rejected(one_key, lambda number: [FACE] if number < 4 else [])
    assert code == RejectCode.FACE_TOO_BRIEF


def test_a_video_shorter_than_a_clip_is_rejected(tmp_path: Path) -> None:
    path = write_video(tmp_path / "short.mp4", VideoRecipe(num_frames=8))
    code, facts = rejected(path, lambda _: [FACE])
    assert code == RejectCode.TOO_SHORT
    assert facts.num_frames_in_video == 8


@pytest.mark.parametrize(
    ("seed", "most"),
    [
        (0, 10 + 40 + 3),  # a packet may release a few frames at once
        (38, 10 + 40 + 3 + 200),  # FFmpeg takes some noise for frames; one pass looks for the true keys
    ],
)
def test_a_video_of_damaged_frames_costs_no_more_than_a_search_and_one_pass(
    seed: int, most: int, tmp_path: Path
) -> None:
    """Every frame is a key frame of noise."""
    path = write_video(tmp_path / "noise.mp4", VideoRecipe(num_frames=200, options=x264(g="1")))
    content = bytearray(path.read_bytes())
    with VideoReader(str(path)) as reader:
        positions = reader.index.position.tolist()
    random = np.random.default_rng(seed)
    for start, end in pairwise(positions):
        content[start + 4 : end] = random.bytes(end - start - 4)
    path.write_bytes(content)
    code, facts = rejected(path, lambda _: [FACE], spec(search=40))
    assert code == RejectCode.DECODE_ERROR
    assert 0 < facts.num_frames_decoded <= most
    assert facts.num_frames_in_video == 200


def test_a_face_is_found_across_a_change_of_the_frame_size(tmp_path: Path) -> None:
    """33 frames, then others of another size; the scan looks at frames 6 and 21, and on from there."""
    options = x264(g="250", bf="0")
    first = write_video(tmp_path / "1.ts", VideoRecipe(num_frames=33, options=options), draw=steady_frame)
    second = write_video(
        tmp_path / "2.ts",
        VideoRecipe(num_frames=30, size=(240, 144), options=x264(g="250", bf="0")),
        draw=lambda number: steady_frame(number + 512, size=(240, 144)),
    )
    both = tmp_path / "both.ts"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    clips, facts, _ = prepare(both, lambda number: [FACE] if 14 <= number < 512 else [], spec(frames=12))
    assert numbers(clips) == list(range(21, 33))
    assert facts.num_faces == 1


@pytest.mark.parametrize("name", ["v.h264", "v.avi", "v.mkv", "v.ts", "v.mpg"])
def test_a_face_is_searched_in_any_container(name: str, tmp_path: Path) -> None:
    """The scan goes on where the planned runs left off, whether the file can be sought in or not."""
    recipe = VideoRecipe(num_frames=100, options=x264(bf="2", g="250", sc_threshold="0"))
    if name.endswith("mpg"):
        recipe = VideoRecipe(
            num_frames=100, codec="mpeg2video", options={"g": "250", "bf": "2", "qscale": "3"}
        )
    path = write_video(tmp_path / name, recipe, draw=steady_frame)
    clips, _, detector = prepare(path, lambda number: [FACE] if number >= 50 else [])
    assert numbers(clips) == list(range(55, 65))  # every 15th frame is looked at, from 10 on
    assert sorted(set(detector.asked) - set(range(55, 65)))[-3:] == [10, 25, 40]


def batch(count: int) -> FrameBatch:
    frames = np.stack([steady_frame(number) for number in range(count)])
    return FrameBatch(rgb=frames, pts_s=np.arange(count) / 25)


def test_only_every_nth_frame_and_the_last_are_looked_at() -> None:
    detector = ScriptedDetector(lambda _: [FACE])
    (track,) = find_tracks(batch(12), detector, every=5)
    assert sorted(detector.asked) == [0, 5, 10, 11]
    assert track.frames.tolist() == list(range(12))


def test_all_frames_are_looked_at_when_a_face_comes_or_goes() -> None:
    detector = ScriptedDetector(lambda number: [FACE] if number >= 3 else [])
    (track,) = find_tracks(batch(6), detector, every=5)
    assert sorted(detector.asked) == list(range(6))
    assert track.frames.tolist() == [3, 4, 5]


REAL = [asset.name for asset in assets.REGISTRY if asset.kind == "media" and asset.name != "no_face.mp4"]


@pytest.mark.parametrize("name", REAL)
def test_every_real_video_with_a_face_gives_a_clip(name: str) -> None:
    detector, _ = load_detector(FaceConfig())
    clips = prepare_clips(str(assets.get(name)), detector, spec(), ClipFacts())
    assert clips.face_score > 0.9
    eyes, mouth = clips.landmarks[:, :2, 1].mean(axis=1), clips.landmarks[:, 3:, 1].mean(axis=1)
    assert (eyes < mouth).all()  # upright


def test_a_face_in_wide_pixels_is_cropped_like_one_in_square_pixels(tmp_path: Path) -> None:
    with av.open(str(assets.get("single_face.mp4"))) as container:
        frames = [frame for frame, _ in zip(container.decode(video=0), range(10), strict=False)]
    pixels = {
        Fraction(1): [frame.to_ndarray(format="rgb24") for frame in frames],
        Fraction(2): [frame.to_ndarray(format="rgb24", width=320, height=360) for frame in frames],
    }
    detector, _ = load_detector(FaceConfig())
    square, wide = (
        prepare_clips(
            str(write_video(tmp_path / f"{ratio}.mp4", recipe(ratio, images), draw=images.__getitem__)),
            detector,
            spec(),
            ClipFacts(),
        )
        for ratio, images in pixels.items()
    )
    np.testing.assert_allclose(wide.boxes_xyxy, square.boxes_xyxy, atol=4)
    assert np.abs(wide.crops.astype(int) - square.crops).mean() < 4


def recipe(ratio: Fraction, images: Sequence[np.ndarray]) -> VideoRecipe:
    height, width = images[0].shape[:2]
    return VideoRecipe(num_frames=len(images), size=(width, height), pixel_aspect=ratio)


def test_the_sky_has_no_face(sky: Path) -> None:
    detector, _ = load_detector(FaceConfig())
    with pytest.raises(VideoRejectedError) as rejection:
        prepare_clips(str(sky), detector, spec(), ClipFacts())
    assert rejection.value.code == RejectCode.NO_FACE
