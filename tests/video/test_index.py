from pathlib import Path

import av
import numpy as np
import pytest
from support.videos import VideoRecipe, frame_number, remux, write_video, x264

from dfdm_ray.video.decode import VideoReader
from dfdm_ray.video.index import PacketIndex, index_packets
from dfdm_ray.video.plan import Run

B_FRAMES = x264(bf="3", b_strategy="0")


def index(path: Path) -> PacketIndex:
    with av.open(str(path)) as container:
        return index_packets(container, container.streams.video[0], size_bytes=path.stat().st_size)


def demuxed(path: Path) -> tuple[list[int], list[bool]]:
    """Position and key flag of every packet, by reading the file."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    return [packet.pos for packet in packets], [packet.is_keyframe for packet in packets]


@pytest.mark.parametrize(
    "name", ["v.mp4", "v.mov", "v.mkv", "v.ts", "sound.mp4", "front.mp4", "fragments.mp4"]
)
def test_the_index_is_what_reading_the_file_gives(name: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / name, VideoRecipe(options=B_FRAMES, audio=name == "sound.mp4"))
    flags = {"front.mp4": "faststart", "fragments.mp4": "frag_keyframe+empty_moov"}
    if name in flags:
        path = remux(path, tmp_path / f"again_{name}", movflags=flags[name])
    found = index(path)
    position, is_key = demuxed(path)
    assert found.position.tolist() == position
    assert found.is_key.tolist() == is_key
    assert found.keys.tolist() == [0, 25, 50]
    assert (len(found), found.num_missing, found.frame_times) == (60, 0, None)


def test_an_mp4_is_indexed_by_its_header_alone(tmp_path: Path) -> None:
    path = remux(write_video(tmp_path / "v.mp4", VideoRecipe()), tmp_path / "front.mp4", movflags="faststart")
    whole = index(path)
    path.write_bytes(path.read_bytes()[: int(whole.position[40]) + 3])  # one packet is cut in two
    cut = index(path)
    assert (len(cut), cut.num_missing) == (40, 20)
    np.testing.assert_array_equal(cut.position, whole.position[:40])


def test_a_position_that_several_packets_share_is_none(tmp_path: Path) -> None:
    options = {"g": "15", "bf": "2", "qscale": "3"}
    found = index(write_video(tmp_path / "v.mpg", VideoRecipe(codec="mpeg2video", options=options)))
    known = found.position[found.position >= 0].tolist()
    assert len(known) == len(set(known)) < 60


@pytest.mark.parametrize(
    ("name", "recipe", "is_known"),
    [
        (
            "mpeg4.avi",
            VideoRecipe(codec="mpeg4", options={"g": "25", "bf": "2"}),
            True,
        ),  # FFmpeg knows its types
        ("no_b_frames.avi", VideoRecipe(options={**x264(bf="0"), "preset": "ultrafast"}), True),
        ("b_frames.avi", VideoRecipe(options=B_FRAMES), False),  # the times are those of storage
        ("raw.h264", VideoRecipe(options=B_FRAMES), False),  # no times at all
    ],
)
def test_times_are_worked_out_where_packets_tell_none(
    name: str, recipe: VideoRecipe, is_known: bool, tmp_path: Path
) -> None:
    path = write_video(tmp_path / name, recipe)
    found = index(path)
    assert (found.frame_times is None) == is_known
    if found.frame_times is not None:
        with av.open(str(path)) as container:
            time_base = float(container.streams.video[0].time_base or 0)
        np.testing.assert_allclose(found.frame_times * time_base, np.arange(60) / 25, atol=1e-6)


@pytest.mark.parametrize("shared", [2, 60])
def test_times_that_packets_share_are_none(shared: int, tmp_path: Path) -> None:
    """Each two packets, or all of them, have the same time."""
    path = tmp_path / "shared.mkv"
    whole = write_video(tmp_path / "v.mkv", VideoRecipe(options=x264(bf="0")))
    with av.open(str(whole)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for number, packet in enumerate(old.demux(video=0)):
            if packet.size:
                packet.pts = packet.dts = number // shared * shared * 40
                packet.stream = stream
                new.mux(packet)
    with VideoReader(str(path)) as reader:
        assert reader.index.frame_times is not None
        for key in reader.index.keys.tolist():
            batch = reader.read_run(Run(key=key, offsets=(0, 1, 2, 3)))
            assert batch is not None
            assert [frame_number(frame) for frame in batch.rgb] == [key, key + 1, key + 2, key + 3]
            np.testing.assert_allclose(batch.pts_s, np.arange(key, key + 4) / 25, atol=2e-3)
