"""Open video files: what they are, their index, and their packets from any key frame on.

PyAV's errors become :class:`VideoRejectedError` here.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, islice
from typing import TypeAlias, cast

import av
import av.error
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.stream import VideoStream

from dfdm_ray.errors import RejectCode, UserError, VideoRejectedError
from dfdm_ray.io import storage
from dfdm_ray.io.retry import may_pass
from dfdm_ray.video.index import PacketIndex, index_packets

VideoPacket: TypeAlias = "Packet[VideoStream]"

# Containers of video files. Text, images and playlists, which can point to other files, are left out.
_FORMATS = "mov,mp4,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,h264,hevc,ivf,mxf,av1,obu,nut,dv"

_CONFINED = {"format_whitelist": _FORMATS, "protocol_whitelist": "none"}
"""The demuxer reads the file it is given and can open no other and no address."""

_SELF_DESCRIBING = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")
"""First boxes of mp4 and mov files (ISO/IEC 14496-12; Apple's QuickTime File Format)."""
_NO_PROBING = {"skip_frame": "all", "analyzeduration": "1"}
"""Their header says all that is asked; by default FFmpeg decodes frames, too, before it opens a file."""

_ROW_PIXELS = 64
"""Decoders pad rows to a multiple of this, and count that (FFmpeg, ``STRIDE_ALIGN`` in libavcodec)."""


class VideoSource:
    """One open file.

    Args:
        uri: Any local path or URI.
        threads: Of the decoder.
        max_pixels: A frame may have. Later frames that are larger than the file says cannot be decoded.

    Raises:
        VideoRejectedError: From the constructor, if the file is no readable video or too large.
    """

    def __init__(self, uri: str, *, threads: int, max_pixels: int) -> None:
        size_bytes = _checked_size(uri)
        self._threads = threads
        self._max_pixels = max_pixels
        with rejecting(RejectCode.NOT_A_VIDEO):
            self._file = storage.open_input(uri)
        try:
            with rejecting(RejectCode.NOT_A_VIDEO):
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
        """Return the packets of the index from position ``key`` on; they end early where the file is damaged.

        Seeking is only a short cut: unless it lands on the very packet, or before it, packets are
        counted from the start of the file. :attr:`stream` may be another one afterwards.
        """
        with rejecting(RejectCode.DECODE_ERROR):
            packets = self._packets_sought(key)
            if packets is None:
                self._container.close()
                self._file.seek(0)
                self._open()
                packets = islice(self._packets(), key, None)
        return _until_damaged(islice(packets, len(self.index) - key))

    def _packets_sought(self, key: int) -> Iterator[VideoPacket] | None:
        position = int(self.index.position[key])
        if position < 0:
            return None
        try:
            self._container.seek(int(self.index.seek_time[key]), stream=self.stream, backward=True)
            packets = self._packets()
            for packet in packets:
                if packet.pos == position:
                    return chain([packet], packets)
                if packet.pos is None or packet.pos > position:
                    return None
        except av.error.FFmpegError:
            pass
        return None

    def _packets(self) -> Iterator[VideoPacket]:
        return (packet for packet in self._container.demux(self.stream) if packet.size)

    def _open(self) -> None:
        options = {"max_pixels": str(self._max_pixels)}
        probing = options | (_NO_PROBING if self._file.read(8)[4:] in _SELF_DESCRIBING else {})
        self._file.seek(0)
        container = av.open(
            self._file, options=probing, container_options=_CONFINED, metadata_errors="replace"
        )
        self._container = cast(InputContainer, container)
        self.stream = _video_stream(self._container)
        context = self.stream.codec_context
        padded = -(-context.width // _ROW_PIXELS) * _ROW_PIXELS
        if padded * context.height > self._max_pixels:
            detail = f"frames of {context.width} x {context.height} pixels, {self._max_pixels} at most"
            raise VideoRejectedError(RejectCode.TOO_LARGE, detail)
        context.options = options
        context.thread_count = self._threads
        context.thread_type = "SLICE" if self._threads == 1 else "AUTO"


def _until_damaged(packets: Iterator[VideoPacket]) -> Iterator[VideoPacket]:
    try:
        yield from packets
    except av.error.FFmpegError:
        return
    except OSError as error:
        raise _unreadable(error) from error


@contextmanager
def rejecting(code: RejectCode) -> Iterator[None]:
    """Turn PyAV's errors into a rejection with ``code`` and those of storage into one as unreadable."""
    try:
        yield
    except av.error.FFmpegError as error:
        raise VideoRejectedError(code, f"FFmpeg: {error.strerror}") from error
    except (OSError, UserError) as error:
        raise _unreadable(error) from error


def _unreadable(error: Exception) -> VideoRejectedError:
    code = RejectCode.STORAGE_ERROR if may_pass(error) else RejectCode.UNREADABLE
    return VideoRejectedError(code, str(getattr(error, "strerror", None) or error))


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


def _video_stream(container: InputContainer) -> VideoStream:
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        raise VideoRejectedError(RejectCode.NO_VIDEO_STREAM, "the file has no video stream")
    if streams[0].codec_context is None:
        raise VideoRejectedError(RejectCode.UNSUPPORTED_CODEC, "no decoder for the video stream")
    return streams[0]
