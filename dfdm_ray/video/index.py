"""Index of the packets of a stream: from the index of the container, or by demuxing if it has none."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import av
import av.error
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.packet import Packet, PacketSideData
from av.video.stream import VideoStream


@dataclass(frozen=True, kw_only=True, eq=False)
class PacketIndex:
    """Packets of a video stream in decode order; all arrays have shape ``(N,)``."""

    position: npt.NDArray[np.int64]
    """Byte offset in the file, -1 if the demuxer reports none or the same for several packets."""
    seek_time: npt.NDArray[np.int64]
    """A seek to this time, in stream time base, arrives at or before the packet."""
    is_key: npt.NDArray[np.bool_]
    num_missing: int
    """Number of packets in the index of the container that are beyond the end of the file."""
    frame_times: npt.NDArray[np.int64] | None = None
    """Presentation times of the frames, ascending, in stream time base from the first one; ``None`` if the
    packets of the stream have their times."""

    def __len__(self) -> int:
        return len(self.position)

    @property
    def keys(self) -> npt.NDArray[np.int64]:
        """Positions in this index of the key frames, ascending."""
        return np.flatnonzero(self.is_key)


def side_data(packet: "Packet[VideoStream]", kind: str) -> PacketSideData | None:
    """Return the side data of ``packet`` of one kind; :meth:`Packet.has_sidedata` takes 30 times as long."""
    return next((one for one in packet.iter_sidedata() if one.data_type == kind), None)


def index_packets(container: InputContainer, stream: VideoStream, *, size_bytes: int) -> PacketIndex:
    """Index ``stream`` without decoding.

    The header of an mp4 or mov contains a full index, so only the header is read. Other containers index at
    most key frames, so all of their packets are read once.
    """
    entries = list(stream.index_entries)
    if container.format.name.startswith("mov") and 0 < len(entries) == stream.frames:
        # PyAV and the decoder skip samples of 0 bytes, by which old QuickTime files repeat a frame.
        return _from_header([entry for entry in entries if entry.size], stream, size_bytes=size_bytes)
    return _from_packets(container, stream)


def _from_header(entries: list[av.index.IndexEntry], stream: VideoStream, *, size_bytes: int) -> PacketIndex:
    ends = np.array([entry.pos + entry.size for entry in entries], dtype=np.int64)
    beyond = ends > size_bytes
    whole = int(beyond.argmax()) if beyond.any() else len(entries)
    # The index contains decode times, but a seek compares presentation times. A key frame is shown
    # reorder_depth frames after its decode time, so the seek time is that much later.
    times = np.array([entry.timestamp for entry in entries], dtype=np.int64)
    shown = np.minimum(np.arange(len(entries)) + stream.codec_context.reorder_depth, len(entries) - 1)
    return PacketIndex(
        position=np.array([entry.pos for entry in entries], dtype=np.int64)[:whole],
        seek_time=times[shown][:whole],
        is_key=np.array([entry.is_keyframe for entry in entries], dtype=np.bool_)[:whole],
        num_missing=len(entries) - whole,
    )


def _from_packets(container: InputContainer, stream: VideoStream) -> PacketIndex:
    by_pts = container.format.name.startswith("matroska")  # its cues contain presentation times
    rows: list[tuple[int, int | None, int | None, bool]] = []
    num_headers = 0
    with suppress(av.error.FFmpegError):  # damaged from there on; the packets before are kept
        for packet in container.demux(stream):
            num_headers += side_data(packet, "new_extradata") is not None
            if packet.size:
                position = -1 if packet.pos is None else packet.pos
                rows.append((position, packet.pts, packet.dts, packet.is_keyframe))
    positions, pts, dts, is_key = zip(*rows, strict=True) if rows else ((), (), (), ())
    _, first, count = np.unique(np.array(positions, dtype=np.int64), return_inverse=True, return_counts=True)
    seekable = (count[first] == 1) & (num_headers == 0)  # else a seek may pass over the header of a codec
    seek_time = [p if by_pts or d is None else d for p, d in zip(pts, dts, strict=True)]
    return PacketIndex(
        position=np.where(seekable, np.array(positions, dtype=np.int64), -1),
        seek_time=np.array([time or 0 for time in seek_time], dtype=np.int64),
        is_key=np.array(is_key, dtype=np.bool_),
        num_missing=0,
        frame_times=_frame_times(pts, dts, stream, has_pts=container.format.name != "avi"),
    )


def _frame_times(
    pts: Sequence[int | None], dts: Sequence[int | None], stream: VideoStream, *, has_pts: bool
) -> npt.NDArray[np.int64] | None:
    """Return the presentation times of frames if the packets do not have them, else ``None``.

    AVI has no presentation times. FFmpeg computes them for MPEG-4; for H.264 and HEVC it numbers the
    packets in stored order, even if there are B-frames. Times that neighbours share are none either.
    """
    if not pts:
        return None
    known = [time for time in pts if time is not None]
    stored_order = bool(stream.codec_context.reorder_depth) and known == sorted(known)
    distinct = all(one != next_one for one, next_one in pairwise(pts))
    if len(known) == len(pts) and distinct and (has_pts or not stored_order):
        return None
    decode_times = [time for time in dts if time is not None]
    if len(set(decode_times)) == len(dts):
        return np.array(sorted(decode_times), dtype=np.int64) - min(decode_times)
    ticks = 1 / ((stream.average_rate or Fraction(30)) * (stream.time_base or Fraction(1, 90_000)))
    return (np.arange(len(pts)) * float(ticks)).round().astype(np.int64)
