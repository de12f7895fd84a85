"""Open video files: their checks, their index, and their packets from any key frame on.

Errors of PyAV become :class:`VideoRejectedError` here.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain, islice
from typing import TypeAlias, cast

import av
import av.error
from av.container import InputContainer
from av.packet import Packet, PacketSideData
from av.stream import Disposition
from av.video.stream import VideoStream

from dfdm_ray.errors import RejectCode, UserError, VideoRejectedError
from dfdm_ray.io.identity import fingerprint
from dfdm_ray.io.lending import OpenedFile, open_regular
from dfdm_ray.io.object_store import unreadable
from dfdm_ray.video.content import HEAD_BYTES, PICTURE_BRANDS, content_of
from dfdm_ray.video.index import PacketIndex, index_packets, side_data

VideoPacket: TypeAlias = "Packet[VideoStream]"

# Containers of video files, without text, images and playlists, which can refer to other files.
_FORMATS = "mov,mp4,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,h264,hevc,ivf,mxf,av1,obu,nut,dv"

_CONFINED = {"format_whitelist": _FORMATS, "protocol_whitelist": "none"}
"""Options that keep the demuxer from opening any other file or address."""

_SELF_DESCRIBING = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")
"""First boxes of mp4 and mov files (ISO/IEC 14496-12; Apple's QuickTime File Format)."""
_NO_PROBING = {"skip_frame": "all", "analyzeduration": "1"}
"""Options for files with a complete header; by default FFmpeg also decodes frames when it opens a file."""

_ROW_PIXELS = 64
"""Decoders pad rows to a multiple of this and count the padding (FFmpeg, ``STRIDE_ALIGN`` in libavcodec)."""


class VideoSource:
    """An open file, decoded with one thread because workers run in parallel.

    Raises:
        VideoRejectedError: From the constructor, if the file is no readable video or its frames have more
            than ``max_pixels``. Later frames that are larger than the header says cannot be decoded.
    """

    stream: VideoStream
    _header: PacketSideData | None

    def __init__(self, video: str | OpenedFile, *, max_pixels: int) -> None:
        self._file, size_bytes = open_regular(video) if isinstance(video, str) else video
        self._max_pixels = max_pixels
        try:
            if not size_bytes:
                raise VideoRejectedError(RejectCode.EMPTY_FILE, "the file is empty (0 bytes)")
            with rejecting(RejectCode.NOT_A_VIDEO):
                self.fingerprint = fingerprint(self._file, size_bytes)
                self._file.seek(0)
                self._open()
                self.index: PacketIndex = index_packets(self._container, self.stream, size_bytes=size_bytes)
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._container.close()
        self._file.close()

    def packets_from(self, key: int) -> Iterator[VideoPacket]:
        """Return the packets of the index from position ``key`` on; they end at the first damage.

        If a seek does not arrive at or before the packet, packets are counted from the start of the file.
        :attr:`stream` may be another object afterwards.
        """
        with rejecting(RejectCode.DECODE_ERROR):
            packets = self._packets_sought(key)
            if packets is None:
                self._container.close()
                self._file.seek(0)
                self._open()
                packets = islice(self._packets(), key, None)
        return _until_damaged(islice(self._with_header(packets), len(self.index) - key))

    def _packets_sought(self, key: int) -> Iterator[VideoPacket] | None:
        position = int(self.index.position[key])
        if position < 0:
            return None
        with suppress(av.error.FFmpegError):
            self._container.seek(int(self.index.seek_time[key]), stream=self.stream, backward=True)
            packets = self._packets()
            for packet in packets:
                if packet.pos == position:
                    return chain([packet], packets)
                if packet.pos is None or packet.pos > position:
                    break
        return None

    def _packets(self) -> Iterator[VideoPacket]:
        for packet in self._container.demux(self.stream):
            self._header = side_data(packet, "new_extradata") or self._header
            if packet.size:
                yield packet

    def _with_header(self, packets: Iterator[VideoPacket]) -> Iterator[VideoPacket]:
        """Yield ``packets``, the first one with the header of the codec that is valid there.

        Where recordings were joined, the packet that brought the header may have been skipped by a seek.
        """
        for first in islice(packets, 1):
            if self._header is not None:
                first.set_sidedata(self._header)
            yield first
        yield from packets

    def _open(self) -> None:
        options = {"max_pixels": str(self._max_pixels)}
        probing = options | (_NO_PROBING if self._file.read(8)[4:] in _SELF_DESCRIBING else {})
        self._file.seek(0)
        try:
            container = av.open(
                self._file, options=probing, container_options=_CONFINED, metadata_errors="replace"
            )
        except av.error.FFmpegError as error:
            raise self._named(error) from error
        self._container = cast(InputContainer, container)
        self._header = None
        self.stream = _video_stream(self._container)
        context = self.stream.codec_context
        padded = -(-context.width // _ROW_PIXELS) * _ROW_PIXELS
        if padded * context.height > self._max_pixels:
            detail = (
                f"frames of {context.width} x {context.height} pixels; the limit is {self._max_pixels} pixels"
            )
            raise VideoRejectedError(RejectCode.TOO_LARGE, detail)
        context.options = options
        context.thread_count = 1
        context.thread_type = "SLICE"

    def _named(self, error: av.error.FFmpegError) -> VideoRejectedError:
        """Return the rejection of a file that no demuxer reads, with the kind of the file."""
        self._file.seek(0)
        kind = content_of(self._file.read(HEAD_BYTES))
        unknown = f"the file has no known container of videos (FFmpeg: {error.strerror})"
        return VideoRejectedError(RejectCode.NOT_A_VIDEO, f"the file is {kind}" if kind else unknown)


def _until_damaged(packets: Iterator[VideoPacket]) -> Iterator[VideoPacket]:
    try:
        yield from packets
    except av.error.FFmpegError:
        return
    except OSError as error:
        raise unreadable(error) from error


@contextmanager
def rejecting(code: RejectCode) -> Iterator[None]:
    """Raise errors of PyAV as a rejection with ``code``, and those of storage as an unreadable file."""
    try:
        yield
    except av.error.FFmpegError as error:
        raise VideoRejectedError(code, f"FFmpeg: {error.strerror}") from error
    except (OSError, UserError) as error:
        raise unreadable(error) from error


def _video_stream(container: InputContainer) -> VideoStream:
    if container.metadata.get("major_brand") in PICTURE_BRANDS:
        raise VideoRejectedError(RejectCode.NOT_A_VIDEO, "the file is a HEIF or AVIF picture")
    covers = {s.index for s in container.streams.video if s.disposition & Disposition.attached_pic}
    streams = [s for s in container.streams.video if s.index not in covers]
    if not streams:
        kinds = sorted({"a cover picture" if s.index in covers else s.type for s in container.streams})
        only = f", only {' and '.join(kinds)}" if kinds else ""
        raise VideoRejectedError(RejectCode.NO_VIDEO_STREAM, f"the file has no video stream{only}")
    if streams[0].codec_context is None:
        raise VideoRejectedError(RejectCode.UNSUPPORTED_CODEC, "no decoder for the video stream")
    return streams[0]
