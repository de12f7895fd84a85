"""Faults of one run of frames, while other runs may be whole."""

import av.error
from av.packet import Packet
from av.video.stream import VideoStream

from dfdm_ray.errors import RejectCode, VideoRejectedError
from dfdm_ray.video.index import side_data


class RunDamagedError(Exception):
    """Damaged frames in a run."""


class RunEncryptedError(RunDamagedError):
    """Encrypted frames in a run; the start of a stream is often clear."""


def refuse_encrypted(packet: "Packet[VideoStream] | None") -> None:
    """Check that ``packet`` is not encrypted: a decoder may make pictures of noise from it.

    Raises:
        RunEncryptedError: If it is.
    """
    if packet is not None and side_data(packet, "encryption_info"):
        raise RunEncryptedError("a packet is encrypted")


def rejection_of(error: RunDamagedError | av.error.FFmpegError) -> VideoRejectedError:
    """Return the rejection of a video in which no run is whole, with the fault of one of them."""
    if isinstance(error, RunEncryptedError):
        return VideoRejectedError(RejectCode.ENCRYPTED, "the video is encrypted")
    reason = str(error) if isinstance(error, RunDamagedError) else f"FFmpeg: {error.strerror}"
    detail = f"no run of frames could be decoded completely: {reason}"
    return VideoRejectedError(RejectCode.DECODE_ERROR, detail)
