"""Recordings of one camera that were joined, each with its own header of the codec."""

from pathlib import Path

import av
import pytest
from av.packet import PacketSideData
from support.videos import VideoRecipe, frame_number, numbered_frame, write_video, x264

from dfdm_ray.video.decode import VideoReader
from dfdm_ray.video.plan import Run

pytestmark = pytest.mark.slow

_NEW_EXTRADATA = 1  # AV_PKT_DATA_NEW_EXTRADATA in libavcodec/packet.h


def join(parts: list[Path], target: Path) -> Path:
    """Write the packets of ``parts`` one after the other; containers store the header of each."""
    with av.open(str(target), "w") as joined:
        stream, start = None, 0
        for path in parts:
            with av.open(str(path)) as part:
                template = part.streams.video[0]
                header = template.codec_context.extradata
                stream = stream or joined.add_stream_from_template(template)
                packets = [packet for packet in part.demux(template) if packet.size]
                if start and header:
                    change = PacketSideData(_NEW_EXTRADATA, len(header))
                    change.update(header)
                    packets[0].set_sidedata(change)
                end = start + sum(packet.duration or 0 for packet in packets)
                for packet in packets:
                    packet.pts, packet.dts = (packet.pts or 0) + start, (packet.dts or 0) + start
                    packet.stream = stream
                    joined.mux(packet)
                start = end
    return target


@pytest.mark.parametrize("name", ["v.mp4", "v.mov", "v.flv"])
def test_runs_in_any_order_get_the_header_of_their_recording(name: str, tmp_path: Path) -> None:
    first = write_video(tmp_path / "1.mp4", VideoRecipe(options=x264(bf="2")))
    second = write_video(
        tmp_path / "2.mp4",
        VideoRecipe(options={**x264(bf="2", profile="main"), "x264-params": "cabac=0:ref=5"}),
        draw=lambda number: numbered_frame(number + 512, size=(160, 96)),
    )
    with VideoReader(str(join([first, second], tmp_path / name))) as reader:
        assert reader.index.keys.tolist() == [0, 25, 50, 60, 85, 110]
        for key in (60, 0, 85, 25, 110, 50, 60):
            batch = reader.read_run(Run(key=key, offsets=(0, 1, 2)))
            assert batch is not None
            number = key if key < 60 else key - 60 + 512
            assert [frame_number(frame) for frame in batch.rgb] == [number, number + 1, number + 2]
        runs = tuple(Run(key=key, offsets=(0, 1, 2, 3, 4)) for key in (25, 85))
        batches = [*reader.read_planned(runs, flexible=True)]  # reads packets that it does not decode
        assert [frame_number(batch.rgb[0]) for batch in batches] == [25, 537]
        assert len(list(reader.read_onwards())) == 120
