from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from support.videos import VideoRecipe, frame_number, write_video, x264

from dfdm_ray.io.lending import Files
from dfdm_ray.jobs.generate import convert
from dfdm_ray.jobs.generate.convert import REAL, encode_scene, scene_frames
from dfdm_ray.jobs.generate.decoding import ReadScene, scene_of
from dfdm_ray.jobs.generate.faces import Subject
from dfdm_ray.video.decode import VideoReader

pytestmark = pytest.mark.slow

NOBODY = Subject(landmarks=np.empty((0, 5, 2), np.float32), times_s=None)


OPEN_GOP = {"x264-params": "open-gop=1"}


def times_of(video: Path) -> np.ndarray:
    """The times of all frames, as extraction stores them."""
    with VideoReader(str(video)) as reader:
        return np.array([frame.pts_s[0] for frame in reader.read_onwards()])


def read_scene(video: Path, span: range, times_s: np.ndarray | None) -> tuple[list[int], int]:
    """Return the numbers in the pictures of a scene, and how many frames were decoded."""
    with VideoReader(str(video)) as reader:
        numbers = [frame_number(one.rgb[0]) for one in scene_frames(reader, span, times_s)]
        return numbers, reader.num_frames_decoded


def encode(video: Path, span: range, paths: dict[int, Path]) -> None:
    scene = scene_of(ReadScene().answer(Files([str(video)]), span, None))
    encode_scene(scene, span, paths, swapper=None, subject=NOBODY)


@pytest.mark.parametrize(
    "recipe",
    [
        VideoRecipe(num_frames=120, options=x264(g="40")),
        VideoRecipe(num_frames=120, options=x264(g="40", bf="3", b_strategy="0")),
        VideoRecipe(num_frames=120, options=x264(g="40", bf="3", b_strategy="0") | OPEN_GOP),
        VideoRecipe(num_frames=120, pts=[i * 40 + i // 30 * 900 for i in range(120)], options=x264(g="40")),
    ],
    ids=["p-frames", "b-frames", "open gop", "variable rate"],
)
def test_a_scene_is_decoded_from_the_key_frame_before_it(tmp_path: Path, recipe: VideoRecipe) -> None:
    source = write_video(tmp_path / "s.mp4", recipe)
    times_s = times_of(source)
    for span in (range(10), range(39, 49), range(80, 90), range(95, 120)):
        numbers, decoded = read_scene(source, span, times_s)
        assert numbers == list(span)
        assert decoded < 40 + len(span) + 12
        assert read_scene(source, span, None)[0] == numbers


def test_a_long_scene_is_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_video(tmp_path / "s.mp4", VideoRecipe(num_frames=60, options=x264(g="20")))
    monkeypatch.setattr(convert, "_PART_BYTES", 1)
    numbers, _ = read_scene(source, range(5, 50), times_of(source))
    assert numbers == list(range(5, 50))


@pytest.mark.parametrize("wrong", ["late", "short", "equal"])
def test_times_that_do_not_match_cost_time_and_no_frame(tmp_path: Path, wrong: str) -> None:
    """As where frames were left out because they were damaged."""
    source = write_video(tmp_path / "s.mp4", VideoRecipe(num_frames=60, options=x264(g="20")))
    times_s = times_of(source)
    given = {"late": times_s + 0.001, "short": times_s[:30], "equal": np.zeros(60)}[wrong]
    numbers, decoded = read_scene(source, range(25, 35), given)
    assert numbers == list(range(25, 35))
    assert decoded >= 35


def test_a_scene_keeps_its_frames_and_their_times_whatever_the_source(tmp_path: Path) -> None:
    """A variable rate, B-frames, odd sides and full colour resolution."""
    times = [i * 40 + (i // 30) * 900 for i in range(60)]
    recipe = VideoRecipe(pts=times, size=(161, 97), pix_fmt="yuv444p", options=x264(bf="3", b_strategy="0"))
    source = write_video(tmp_path / "s.mp4", recipe)
    paths = {crf: tmp_path / f"{crf}.mp4" for crf in (0, 10, 23)}
    encode(source, range(20, 40), paths)
    for path in paths.values():
        with av.open(str(path)) as container:
            frames = list(container.decode(video=0))
            assert container.metadata["comment"] == REAL
        assert [frame_number(one.to_ndarray(format="rgb24")) for one in frames] == list(range(20, 40))
        assert [one.time for one in frames] == pytest.approx(
            [(times[i] - times[20]) / 1000 for i in range(20, 40)], abs=1e-3
        )


def test_a_scene_of_wide_interlaced_frames_gets_square_pixels_and_no_combs(tmp_path: Path) -> None:
    recipe = VideoRecipe(num_frames=10, pixel_aspect=Fraction(2), options={**x264(), "x264-params": "tff=1"})
    source = write_video(tmp_path / "s.mp4", recipe)
    encode(source, range(2, 6), {0: tmp_path / "x.mp4"})
    with av.open(str(tmp_path / "x.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.sample_aspect_ratio) in {(320, 96, None), (320, 96, 1)}
        frames = list(container.decode(stream))
    assert not any(frame.interlaced_frame for frame in frames)
    assert [frame_number(frame.to_ndarray(format="rgb24")) for frame in frames] == list(range(2, 6))


def test_a_scene_after_the_end_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    source = write_video(tmp_path / "s.mp4", VideoRecipe(num_frames=10))
    with pytest.raises(ValueError, match="the video has no frame 20"):
        encode(source, range(20, 30), {10: tmp_path / "x.mp4"})
    assert list(tmp_path.iterdir()) == [source]
