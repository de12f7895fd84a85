"""Key frames by the decoder, for containers that claim others."""

from contextlib import suppress
from itertools import chain

import av.error

from dfdm_ray.video.source import VideoSource


def decoded_keys(source: VideoSource) -> list[int] | None:
    """Return the positions of the packets that the decoder calls key frames, ascending.

    Other packets are parsed but not decoded. The result is ``None`` if this decoder shows frames but marks
    none of them, as those of SVQ1 and CineForm do.
    """
    packets = source.packets_from(0)
    context = source.stream.codec_context
    keys: list[int] = []
    num_shown = 0
    context.flush_buffers()
    context.skip_frame, context.copy_opaque = "NONKEY", True
    try:
        for position, packet in enumerate(chain(packets, [None])):
            if packet is not None:
                packet.opaque = position
            with suppress(av.error.FFmpegError):
                for frame in context.decode(packet):
                    num_shown += 1
                    if frame.key_frame and isinstance(frame.opaque, int):
                        keys.append(frame.opaque)
    finally:
        context.skip_frame, context.copy_opaque = "DEFAULT", False
    return None if num_shown and not keys else sorted(keys)
