"""Exact decoding with PyAV: the frames of a plan's runs, each in one forward pass.

Every PyAV error becomes a :class:`VideoRejectedError` here and nowhere else.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from itertools import dropwhile
from types import TracebackType
from typing import Any, BinaryIO, Self, cast

import av
import av.error
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.packet import Packet
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from dfdm_ray import storage
from dfdm_ray.errors import RejectCode, UserError, VideoRejectedError
from dfdm_ray.video.frames import FrameBatch, upright
from dfdm_ray.video.index import PacketIndex, index_packets
from dfdm_ray.video.plan import LENGTH_SLACK, Run, cheapest_lengths, presentation_costs

# Containers of video files. Text, images and playlists, which can point to other files, are left out.
_FORMATS = "mov,mp4,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,h264,hevc,ivf,mxf,av1,obu,nut,dv"
_MAX_REORDER = 32
"""Packets read past a run's end while its B-frames sort themselves out; H.264 and HEVC allow 16."""


Packets = list["Packet[VideoStream]"]


class RunDamagedError(Exception):
    """The frames of one run cannot be decoded whole; another run may be."""


class VideoReader:
    """One open video: its index, and exact frames by run.

    One decoder thread by default: the workers are the parallelism.

    Raises:
        VideoRejectedError: From the constructor, if the file is no readable video.
    """

    def __init__(self, uri: str, *, threads: int = 1) -> None:
        self.uri = uri
        self.num_frames_decoded = 0
        size_bytes = _checked_size(uri)
        self._source, self._container = _open(uri)
        try:
            with _rejecting(RejectCode.NOT_A_VIDEO):
                self._stream = _video_stream(self._container)
                self._stream.codec_context.thread_count = threads
                self._stream.codec_context.thread_type = "SLICE" if threads == 1 else "AUTO"
                self.index: PacketIndex = index_packets(self._container, self._stream, size_bytes=size_bytes)
        except BaseException:
            self.close()
            raise
        start = self._stream.start_time
        self._start = 0 if start is None else start

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def time_base(self) -> Fraction:
        """Unit of the stream's times, seconds."""
        return self._stream.time_base or Fraction(1, 90_000)

    @property
    def rate(self) -> Fraction:
        """Average frames a second."""
        return self._stream.average_rate or Fraction(30)

    def close(self) -> None:
        """Close the file."""
        self._container.close()
        self._source.close()

    def read_planned(self, runs: tuple[Run, ...], *, flexible: bool) -> Iterator[FrameBatch]:
        """Decode ``runs`` in turn; damaged ones are left out.

        Args:
            runs: As planned from :attr:`index`.
            flexible: Whether lengths may shift between runs where that saves decoding B-frames that
                are not used; the sum stays.
        """
        if flexible and len(runs) > 1:
            runs = self._balanced(runs)
        for run in runs:
            batch = self.read_run(run)
            if batch is not None:
                yield batch

    def read_run(self, run: Run) -> FrameBatch | None:
        """Return the frames of ``run``, or ``None`` if they are damaged."""
        try:
            with _rejecting(RejectCode.DECODE_ERROR):
                return self._decode(run)
        except (RunDamagedError, VideoRejectedError):
            return None

    def read_onwards(self) -> Iterator[FrameBatch]:
        """Decode from the first key frame on, one frame at a time, passing over damaged packets."""
        if not len(self.index.keys):
            return
        self._seek(int(self.index.keys[0]))
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    break
                frames = packet.decode()
            except av.error.FFmpegError:
                continue
            self.num_frames_decoded += len(frames)
            yield from (_batch([self._shown(frame)], [self._time_s(frame)]) for frame in frames)
        self._stream.codec_context.flush_buffers()

    def _balanced(self, runs: tuple[Run, ...]) -> tuple[Run, ...]:
        try:
            with _rejecting(RejectCode.DECODE_ERROR):
                heads = [self._packets(run.key, len(run.offsets) + LENGTH_SLACK) for run in runs]
                costs = [_costs(packets, at_end=at_end) for packets, at_end in heads]
        except (RunDamagedError, VideoRejectedError):
            return runs
        lengths = cheapest_lengths(costs, total=sum(len(run.offsets) for run in runs))
        return tuple(
            Run(key=run.key, offsets=tuple(range(length))) for run, length in zip(runs, lengths, strict=True)
        )

    def _decode(self, run: Run) -> FrameBatch:
        num_shown = run.offsets[-1] + 1
        packets, at_end = self._packets(run.key, num_shown)
        costs = _costs(packets, at_end=at_end)
        # An open GOP near the end may hold a few frames less than its packets promised.
        offsets = [offset for offset in run.offsets if offset < len(costs)]
        if not offsets or (len(offsets) < len(run.offsets) and not at_end):
            raise RunDamagedError(f"{len(costs)} of {num_shown} frames after key frame {run.key}")
        num_shown = offsets[-1] + 1
        context = self._stream.codec_context
        context.flush_buffers()
        frames = [frame for packet in packets[: costs[num_shown - 1]] for frame in context.decode(packet)]
        frames += context.decode(None)
        context.flush_buffers()
        self.num_frames_decoded += len(frames)
        shown = {frame.pts: frame for frame in frames if not frame.is_corrupt}
        times = sorted(_pts(packet) for packet in packets if not packet.is_discard)
        instants = [times[offset] for offset in offsets]
        if any(instant not in shown for instant in instants):
            raise RunDamagedError(f"frames after key frame {run.key} are damaged")
        wanted = [shown[instant] for instant in instants]
        return _batch([self._shown(frame) for frame in wanted], [self._time_s(frame) for frame in wanted])

    def _packets(self, key: int, num_shown: int) -> tuple[Packets, bool]:
        """Return packets from ``key`` until ``num_shown`` frames are sure, and whether the stream ended."""
        packets: Packets = []
        last = len(self.index) - key
        for packet in self._packets_from(key):
            if len(packets) >= last:
                break
            if packets and _pts(packet) < _pts(packets[0]):
                continue  # leading pictures of an open GOP refer to frames before the key frame
            packets.append(packet)
            enough = len(packets) >= num_shown + _MAX_REORDER
            if enough or len(_costs(packets, at_end=False)) >= num_shown:
                return packets, False
        return packets, True

    def _packets_from(self, key: int) -> Iterator["Packet[VideoStream]"]:
        """Yield the packets from ``key`` on; where a seek lands too early or too late does not matter."""
        position = self.index.position[key]
        self._seek(key)
        packets = self._whole_packets()
        first = next(packets, None)
        if first is None or (position >= 0 and first.pos is not None and first.pos > position):
            self._container.seek(0)
            packets = self._whole_packets()
        elif first.pos == position or position < 0:
            yield first
            yield from packets
            return
        yield from dropwhile(lambda packet: packet.pos != position, packets)

    def _whole_packets(self) -> Iterator["Packet[VideoStream]"]:
        return (packet for packet in self._container.demux(self._stream) if packet.size)

    def _seek(self, key: int) -> None:
        self._container.seek(int(self.index.seek_time[key]), stream=self._stream, backward=True)

    def _time_s(self, frame: VideoFrame) -> float:
        if frame.pts is None or self._stream.time_base is None:
            return float("nan")
        return float((frame.pts - self._start) * self._stream.time_base)

    def _shown(self, frame: VideoFrame) -> npt.NDArray[np.uint8]:
        rgb = frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
        return upright(rgb, _display_matrix(frame))


def _batch(rgb: list[npt.NDArray[np.uint8]], pts_s: list[float]) -> FrameBatch:
    if any(frame.shape != rgb[0].shape for frame in rgb):
        raise RunDamagedError("the frame size changes within a run")
    return FrameBatch(rgb=np.stack(rgb), pts_s=np.array(pts_s))


def _pts(packet: "Packet[VideoStream]") -> int:
    if packet.pts is not None:
        return packet.pts
    if packet.dts is not None:
        return packet.dts
    raise RunDamagedError("a packet has no time")


def _costs(packets: Packets, *, at_end: bool) -> list[int]:
    return presentation_costs(
        [_pts(packet) for packet in packets],
        [packet.is_discard for packet in packets],
        last_dts=None if at_end else packets[-1].dts,
    )


def _display_matrix(frame: VideoFrame) -> npt.NDArray[np.int32] | None:
    side_data: Mapping[SideDataType, Any] = cast(Any, frame.side_data)  # its stubs know string keys only
    if SideDataType.DISPLAYMATRIX not in side_data:
        return None
    return np.frombuffer(bytes(side_data[SideDataType.DISPLAYMATRIX]), dtype=np.int32).reshape(3, 3)


@contextmanager
def _rejecting(code: RejectCode) -> Iterator[None]:
    try:
        yield
    except av.error.FFmpegError as error:
        raise VideoRejectedError(code, f"FFmpeg: {error.strerror}") from error
    except (OSError, UserError) as error:
        raise _unreadable(error) from error


def _unreadable(error: Exception) -> VideoRejectedError:
    return VideoRejectedError(RejectCode.UNREADABLE, str(getattr(error, "strerror", None) or error))


def _checked_size(uri: str) -> int:
    """Return the file's size, or say why it cannot be read; a pipe would block for ever."""
    try:
        size = storage.size_bytes(uri)
        mode = stat.S_IFREG if storage.is_remote(uri) else os.stat(storage.local_path(uri)).st_mode
    except (OSError, UserError) as error:
        raise _unreadable(error) from error
    if not stat.S_ISREG(mode):
        raise VideoRejectedError(RejectCode.UNREADABLE, "not a regular file")
    if size == 0:
        raise VideoRejectedError(RejectCode.EMPTY_FILE, "the file has no bytes")
    return size


def _open(uri: str) -> tuple[BinaryIO, InputContainer]:
    with _rejecting(RejectCode.NOT_A_VIDEO):
        source = storage.open_input(uri)
        try:
            options = {"format_whitelist": _FORMATS, "protocol_whitelist": "file"}
            return source, cast(InputContainer, av.open(source, container_options=options))
        except BaseException:
            source.close()
            raise


def _video_stream(container: InputContainer) -> VideoStream:
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        raise VideoRejectedError(RejectCode.NO_VIDEO_STREAM, "the file has no video stream")
    if streams[0].codec_context is None:
        raise VideoRejectedError(RejectCode.UNSUPPORTED_CODEC, "no decoder for the video stream")
    return streams[0]
