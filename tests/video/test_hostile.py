"""Files made to do harm: each is read or rejected, soon, in little memory, and opens nothing else."""

import struct
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import av
import psutil
import pytest
from support.hostile_files import POINTERS, external_track
from support.videos import VideoRecipe, frame_number, numbered_frame, write_video, x264

from dfdm_ray.errors import RejectCode, VideoRejectedError
from dfdm_ray.video.decode import VideoReader
from dfdm_ray.video.plan import Run

SOON_S, LITTLE_BYTES = 30, 2**30
"""Far more than any of these takes, and far less than what they ask for."""


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "ts"])
def test_frames_of_too_many_pixels_are_refused_before_one_is_decoded(suffix: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / f"v.{suffix}", VideoRecipe())
    with pytest.raises(VideoRejectedError, match="160 x 96 pixels; the limit is 15359 pixels") as rejection:
        VideoReader(str(path), max_pixels=160 * 96 - 1)
    assert rejection.value.code == RejectCode.TOO_LARGE
    with VideoReader(str(path), max_pixels=192 * 96) as reader:  # rows are padded
        frames = reader.read_run(Run(key=0, offsets=(0,)))
    assert frames is not None
    assert frame_number(frames.rgb[0]) == 0


def test_frames_that_grow_in_the_middle_are_damaged_from_there(tmp_path: Path) -> None:
    small = write_video(tmp_path / "small.h264", VideoRecipe(num_frames=25))
    large = write_video(tmp_path / "large.h264", VideoRecipe(num_frames=25, size=(640, 480)))
    both = tmp_path / "both.h264"
    both.write_bytes(small.read_bytes() + large.read_bytes())
    with VideoReader(str(both), max_pixels=320 * 240) as reader:
        first, second = (reader.read_run(Run(key=key, offsets=(0, 3))) for key in (0, 25))
    assert first is not None
    assert len(first) == 2
    assert second is None


def _at(box: bytes, offset: int, values: bytes) -> Callable[[bytes], bytes]:
    """Overwrite what stands ``offset`` bytes behind the name of a box of an MP4 file."""

    def change(content: bytes) -> bytes:
        start = content.index(box) + len(box) + offset
        return content[:start] + values + content[start + len(values) :]

    return change


HUGE = b"\xff\xff\xff\xff"
ABSURD: dict[str, Callable[[bytes], bytes]] = {
    "a thousand million samples": _at(b"stsz", 4, struct.pack(">II", 1, 10**9)),
    "all samples there can be": _at(b"stsz", 4, struct.pack(">I", 1) + HUGE),
    "a thousand million in a chunk": _at(b"stsc", 12, struct.pack(">I", 10**9)),
    "a frame lasts for years": _at(b"stts", 8, struct.pack(">II", 2**31 - 1, 2**31 - 1)),
    "created at the end of time": _at(b"mvhd", 4, HUGE),
    "no end of the film": _at(b"mvhd", 16, HUGE),
    "four thousand million ticks a second": _at(b"mdhd", 12, HUGE),
    "no end of the track": _at(b"mdhd", 16, HUGE),
    "sides of 65535": _at(b"avc1", 24, HUGE),
    "a box longer than the file": lambda content: content.replace(b"\x00\x00\x00\x08free", HUGE + b"free"),
}


@pytest.mark.parametrize("kind", ABSURD)
def test_absurd_numbers_in_a_file_cost_neither_time_nor_memory(kind: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", VideoRecipe())
    path.write_bytes(ABSURD[kind](path.read_bytes()))
    before, started = psutil.Process().memory_info().rss, time.monotonic()
    with suppress(VideoRejectedError), VideoReader(str(path)) as reader:
        assert len(reader.index) < 10_000
    assert time.monotonic() - started < SOON_S
    assert psutil.Process().memory_info().rss - before < LITTLE_BYTES


def test_texts_in_a_file_that_are_no_texts_are_not_its_pictures_business(tmp_path: Path) -> None:
    path = tmp_path / "v.mkv"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "ABCDEFGH"
        stream = container.add_stream("libx264", rate=25, options=x264())
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for number in range(10):
            frame = av.VideoFrame.from_ndarray(numbered_frame(number, size=(160, 96)), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    path.write_bytes(path.read_bytes().replace(b"ABCDEFGH", b"\xff\xfe\x00\x1b\xc3\x28\xa0\xa1"))
    with VideoReader(str(path)) as reader:
        frames = reader.read_run(Run(key=0, offsets=(0, 9)))
    assert frames is not None
    assert [frame_number(frame) for frame in frames.rgb] == [0, 9]


@pytest.mark.parametrize("kind", POINTERS)
@pytest.mark.parametrize("target", ["other.mp4", "file:other.mp4", "http://127.0.0.1:9/other.mp4"])
def test_files_that_only_point_elsewhere_are_not_videos(kind: str, target: str, tmp_path: Path) -> None:
    write_video(tmp_path / "other.mp4", VideoRecipe())
    path = tmp_path / "v.mp4"
    path.write_bytes(POINTERS[kind](target))
    with pytest.raises(VideoRejectedError) as rejection:
        VideoReader(str(path))
    assert rejection.value.code == RejectCode.NOT_A_VIDEO


def test_a_track_that_says_its_pictures_are_elsewhere_does_not_get_them(
    tmp_path: Path,
) -> None:
    other = write_video(tmp_path / "other.mp4", VideoRecipe())
    path = tmp_path / "v.mov"
    path.write_bytes(external_track(other.read_bytes(), str(other)))
    with av.open(str(path), options={"enable_drefs": "1", "use_absolute_path": "1"}) as trusting:
        assert next(trusting.decode(video=0)) is not None  # it would work
    with suppress(VideoRejectedError), VideoReader(str(path)) as reader:
        assert reader.read_run(Run(key=0, offsets=(0,))) is None
