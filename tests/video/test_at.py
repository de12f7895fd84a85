from pathlib import Path

import pytest
from support.recipes import RECIPES, write
from support.videos import frame_number

from dfdm_ray.video.at import first_frame, frames_at
from dfdm_ray.video.decode import VideoReader

NAMES = (
    "pyramid.mp4",
    "open_gop.mp4",
    "late.mp4",
    "variable.mkv",
    "web.webm",
    "x264.avi",
    "transport.ts",
    "raw.h264",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_frame_is_found_again_by_its_time(name: str, tmp_path: Path) -> None:
    path = str(write(tmp_path, name))
    with VideoReader(path) as reader:
        shown = {float(batch.pts_s[0]): frame_number(batch.rgb[0]) for batch in reader.read_onwards()}
    times = sorted(shown)
    wanted = [times[at] for at in (3, 4, len(times) // 2, len(times) - 2)]
    with VideoReader(path) as reader:
        found = frames_at(reader, wanted)
    assert {time: frame_number(rgb) for time, rgb in found.items()} == {time: shown[time] for time in wanted}


def test_only_the_frames_from_the_key_frame_on_are_decoded(tmp_path: Path) -> None:
    path = str(write(tmp_path, "no_b_frames.mp4"))
    assert RECIPES["no_b_frames.mp4"].options["g"] == "25"
    with VideoReader(path) as reader:
        assert [frame_number(rgb) for rgb in frames_at(reader, [52 / 25]).values()] == [52]
        assert reader.num_frames_decoded <= 4


def test_a_time_without_a_frame_is_missing_and_the_first_frame_is_there(tmp_path: Path) -> None:
    with VideoReader(str(write(tmp_path, "pyramid.mp4"))) as reader:
        assert frames_at(reader, [0.019, 77.0]) == {}
        first = first_frame(reader)
    assert first is not None
    assert frame_number(first) == 0
