"""Where a stream's packets lie: read from the container's index, or by demuxing where it has none."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

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
    """Byte offset in the file, -1 where the demuxer does not say or gives several packets the same."""
    seek_time: npt.NDArray[np.int64]
    """A time to seek to, in stream time base, from which the packet is reached."""
    is_key: npt.NDArray[np.bool_]
    num_missing: int
    """Packets the container lists that lie beyond the end of the file."""
    frame_times: npt.NDArray[np.int64] | None = None
    """When frames are shown, in order of presentation, in stream time base from the first one, for a
    stream whose packets do not say it; ``None`` for all others."""

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
        # PyAV and the decoder pass over samples without bytes, with which old QuickTime files repeat a frame.
        return _from_header([entry for entry in entries if entry.size], stream, size_bytes=size_bytes)
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
    rows: list[tuple[int, int | None, int | None, bool]] = []
    try:
        for packet in container.demux(stream):
            if packet.size:
                position = -1 if packet.pos is None else packet.pos
                rows.append((position, packet.pts, packet.dts, packet.is_keyframe))
    except av.error.FFmpegError:
        pass  # damaged from here on; what was read before stands
    positions, pts, dts, is_key = zip(*rows, strict=True) if rows else ((), (), (), ())
    _, first, count = np.unique(np.array(positions, dtype=np.int64), return_inverse=True, return_counts=True)
    seek_time = [p if by_pts or d is None else d for p, d in zip(pts, dts, strict=True)]
    return PacketIndex(
        position=np.where(count[first] == 1, np.array(positions, dtype=np.int64), -1),
        seek_time=np.array([time or 0 for time in seek_time], dtype=np.int64),
        is_key=np.array(is_key, dtype=np.bool_),
        num_missing=0,
        frame_times=_frame_times(pts, dts, stream, has_pts=container.format.name != "avi"),
    )


def _frame_times(
    pts: Sequence[int | None], dts: Sequence[int | None], stream: VideoStream, *, has_pts: bool
) -> npt.NDArray[np.int64] | None:
    """Return when frames are shown if no packet's own time says it, else ``None``.

    AVI has no presentation times. FFmpeg works them out for MPEG-4; for H.264 and HEVC it numbers the
    packets as they are stored, whatever B-frames there are.
    """
    if not pts:
        return None
    known = [time for time in pts if time is not None]
    stored_order = bool(stream.codec_context.reorder_depth) and known == sorted(known)
    if len(known) == len(pts) and (has_pts or not stored_order):
        return None
    decode_times = [time for time in dts if time is not None]
    if len(decode_times) == len(dts):
        return np.array(sorted(decode_times), dtype=np.int64) - min(decode_times)
    ticks = 1 / ((stream.average_rate or Fraction(30)) * (stream.time_base or Fraction(1, 90_000)))
    return (np.arange(len(pts)) * float(ticks)).round().astype(np.int64)
