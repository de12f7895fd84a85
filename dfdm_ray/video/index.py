"""Where a stream's packets lie: read from the container's index, or by demuxing where it has none."""

from dataclasses import dataclass

import av
import av.error
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.video.stream import VideoStream


@dataclass(frozen=True, kw_only=True, eq=False)
class PacketIndex:
    """The packets of a video stream in decode order; all arrays have shape ``(N,)``."""

    position: npt.NDArray[np.int64]
    """Byte offset in the file, -1 where the demuxer does not say."""
    seek_time: npt.NDArray[np.int64]
    """A time to seek to, in stream time base, from which the packet is reached."""
    is_key: npt.NDArray[np.bool_]
    num_missing: int
    """Packets the container lists that lie beyond the end of the file."""

    def __len__(self) -> int:
        return len(self.position)

    @property
    def keys(self) -> npt.NDArray[np.int64]:
        """Positions in this index of the key frames, ascending."""
        return np.flatnonzero(self.is_key)


def index_packets(container: InputContainer, stream: VideoStream, *, size_bytes: int) -> PacketIndex:
    """Index ``stream`` without decoding.

    An mp4 or mov carries a full index, so only its header is read. Other containers index key frames
    at best; their packets are read once.
    """
    entries = list(stream.index_entries)
    if container.format.name.startswith("mov") and 0 < len(entries) == stream.frames:
        return _from_header(entries, stream, size_bytes=size_bytes)
    return _from_packets(container, stream)


def _from_header(entries: list[av.index.IndexEntry], stream: VideoStream, *, size_bytes: int) -> PacketIndex:
    ends = np.array([entry.pos + entry.size for entry in entries], dtype=np.int64)
    beyond = ends > size_bytes
    whole = int(beyond.argmax()) if beyond.any() else len(entries)
    # The index holds decode times while seeking compares presentation times; a key frame shows
    # reorder_depth frames after its decode time, so aim that much further on.
    times = np.array([entry.timestamp for entry in entries], dtype=np.int64)
    shown = np.minimum(np.arange(len(entries)) + stream.codec_context.reorder_depth, len(entries) - 1)
    return PacketIndex(
        position=np.array([entry.pos for entry in entries], dtype=np.int64)[:whole],
        seek_time=times[shown][:whole],
        is_key=np.array([entry.is_keyframe for entry in entries], dtype=np.bool_)[:whole],
        num_missing=len(entries) - whole,
    )


def _from_packets(container: InputContainer, stream: VideoStream) -> PacketIndex:
    by_pts = container.format.name.startswith("matroska")  # its cues hold presentation times
    rows: list[tuple[int, int, bool]] = []
    try:
        for packet in container.demux(stream):
            if packet.size:
                time = packet.pts if by_pts or packet.dts is None else packet.dts
                rows.append((-1 if packet.pos is None else packet.pos, time or 0, packet.is_keyframe))
    except av.error.FFmpegError:
        pass  # damaged from here on; what was read before stands
    position, seek_time, is_key = zip(*rows, strict=True) if rows else ((), (), ())
    return PacketIndex(
        position=np.array(position, dtype=np.int64),
        seek_time=np.array(seek_time, dtype=np.int64),
        is_key=np.array(is_key, dtype=np.bool_),
        num_missing=0,
    )
