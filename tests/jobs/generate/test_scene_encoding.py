from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from support.videos import VideoRecipe, frame_number, write_video, x264

from dfdm_ray.jobs.generate.convert import REAL, encode_scene

pytestmark = pytest.mark.slow

NOBODY = np.empty((0, 5, 2), np.float32)


def test_a_scene_keeps_its_frames_and_their_times_whatever_the_source(tmp_path: Path) -> None:
    """A variable rate, B-frames, odd sides and full colour resolution."""
    times = [i * 40 + (i // 30) * 900 for i in range(60)]
    recipe = VideoRecipe(pts=times, size=(161, 97), pix_fmt="yuv444p", options=x264(bf="3", b_strategy="0"))
    source = write_video(tmp_path / "s.mp4", recipe)
    paths = {crf: tmp_path / f"{crf}.mp4" for crf in (0, 10, 23)}
    encode_scene(str(source), range(20, 40), paths, swapper=None, landmarks=NOBODY)
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
    encode_scene(str(source), range(2, 6), {0: tmp_path / "x.mp4"}, swapper=None, landmarks=NOBODY)
    with av.open(str(tmp_path / "x.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.sample_aspect_ratio) in {(320, 96, None), (320, 96, 1)}
        frames = list(container.decode(stream))
    assert not any(frame.interlaced_frame for frame in frames)
    assert [frame_number(frame.to_ndarray(format="rgb24")) for frame in frames] == list(range(2, 6))


def test_a_scene_after_the_end_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    source = write_video(tmp_path / "s.mp4", VideoRecipe(num_frames=10))
    with pytest.raises(ValueError, match=r"s\.mp4 has no frame 20"):
        encode_scene(str(source), range(20, 30), {10: tmp_path / "x.mp4"}, swapper=None, landmarks=NOBODY)
    assert list(tmp_path.iterdir()) == [source]
