"""Facts about a file: its hash, its container, its stream, and what its makers wrote into it."""

import hashlib
import re
from contextlib import suppress
from itertools import islice
from typing import Any, BinaryIO, cast

import av.error
from av.container import InputContainer

from dfdm_ray.io.lending import OpenedFile
from dfdm_ray.video.source import VideoSource

_CHUNK_BYTES = 1 << 22
_C2PA_UUID = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
"""Type of the box that contains a C2PA manifest in ISO files (C2PA specification 2.1, A.5.1)."""
_FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp")
_MOST_BOXES = 10_000
_ENCODER = re.compile(rb"(x26[45] (?:- core|\(build)[ -~]{0,1500})")
"""Text that libx264 and libx265 write into the first frame, with their settings."""
_MOST_TEXT = 2000


def sha256_of(stream: BinaryIO) -> str:
    """Return the SHA-256 of the rest of ``stream``, hexadecimal."""
    digest = hashlib.sha256()
    while chunk := stream.read(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def has_c2pa(file: OpenedFile) -> bool | None:
    """Return whether a box of the file claims to be a C2PA manifest, ``None`` if it is no ISO file.

    The boxes at the top are looked at. Whether a manifest is valid is not checked.
    """
    stream, at = file.stream, 0
    for number in range(_MOST_BOXES):
        stream.seek(at)
        header = stream.read(32)
        length, kind = int.from_bytes(header[:4], "big"), header[4:8]
        if number == 0 and kind not in _FIRST_BOXES:
            return None
        start = 8
        if length == 1:  # the size has 64 bits
            length, start = int.from_bytes(header[8:16], "big"), 16
        if kind == b"uuid" and header[start : start + 16] == _C2PA_UUID:
            return True
        if length < start or (at := at + length) >= file.size_bytes:
            break
    return False


def facts_of(video: str | OpenedFile, *, max_pixels: int) -> dict[str, Any]:
    """Return container, codec, size, rate and tags of a video as plain values.

    Raises:
        VideoRejectedError: If it is no readable video.
    """
    source = VideoSource(video, max_pixels=max_pixels)
    try:
        stream, context = source.stream, source.stream.codec_context
        container = cast(InputContainer, stream.container)
        settings = _encoder_settings(source)
        rate, ratio = stream.average_rate, stream.sample_aspect_ratio
        duration_s = float(container.duration / 1e6) if container.duration else None
        facts = {
            "container": container.format.long_name or container.format.name,
            "codec": context.codec.long_name,
            "profile": context.profile,
            "pixel_format": context.pix_fmt,
            "width_px": context.width,
            "height_px": context.height,
            "pixel_aspect_ratio": str(ratio) if ratio and ratio != 1 else None,
            "frame_rate_hz": None if rate is None else round(float(rate), 4),
            "duration_s": duration_s,
            "num_frames": len(source.index) + source.index.num_missing,
            "num_key_frames": len(source.index.keys),
            "bit_rate_bps": container.bit_rate or None,
            "num_audio_streams": len(container.streams.audio),
            "tags": _texts({**container.metadata, **{f"video: {k}": v for k, v in stream.metadata.items()}}),
            "encoder_settings": settings,
        }
    finally:
        source.close()
    return facts


def _encoder_settings(source: VideoSource) -> str | None:
    """Return the settings in the header or in the first frame, which is decoded: FFmpeg knows more then."""
    context, keys = source.stream.codec_context, source.index.keys
    texts = [bytes(context.extradata or b"")]
    for packet in islice(source.packets_from(int(keys[0])), 1) if len(keys) else ():
        texts.append(bytes(packet))
        with suppress(av.error.FFmpegError):
            context.decode(packet)
    found = next((match for text in texts if (match := _ENCODER.search(text))), None)
    return found[1].decode("ascii", "replace")[:_MOST_TEXT] if found else None


def _texts(tags: dict[str, str]) -> dict[str, str]:
    return {str(name)[:200]: str(value)[:_MOST_TEXT] for name, value in sorted(tags.items())}
