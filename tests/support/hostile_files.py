"""Files that were made, or changed, to do harm."""

import random
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import av

_FRAMES = 24
_BOXES = (b"moov", b"trak", b"mdia", b"minf", b"dinf")
"""Around QuickTime's data references, outermost first."""
_EDGES = [0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF]
_HEAD_BYTES = 4096
"""Where containers keep most of what they say of themselves, and at the end of the file."""


def write_seeds(folder: Path, face: Path) -> list[Path]:
    """Write sound videos of a face, 24 frames each, one for each container and codec that is mutated."""
    kinds = {
        "h264.mp4": ("libx264", "yuv420p", {"g": "12", "bf": "2"}),
        "mpeg4.mp4": ("mpeg4", "yuv420p", {"g": "12"}),
        "h264.mkv": ("libx264", "yuv420p", {"g": "12", "preset": "ultrafast"}),
        "mjpeg.avi": ("mjpeg", "yuvj420p", {"q": "3"}),
        "mpeg4.avi": ("mpeg4", "yuv420p", {"g": "12"}),
        "vp8.webm": ("libvpx", "yuv420p", {"deadline": "realtime", "cpu-used": "8"}),
        "vp9.webm": ("libvpx-vp9", "yuv420p", {"deadline": "realtime", "cpu-used": "8"}),
        "h264.mov": ("libx264", "yuv420p", {"g": "12"}),
    }
    folder.mkdir(parents=True)
    with av.open(str(face)) as container:
        frames = [
            frame.to_ndarray(format="rgb24")
            for frame, _ in zip(container.decode(video=0), range(_FRAMES), strict=False)
        ]
    for name, (codec, pix_fmt, options) in kinds.items():
        with av.open(str(folder / name), "w") as container:
            stream = container.add_stream(codec, rate=25, options=options)
            stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], pix_fmt
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode(None))
    return [folder / name for name in kinds]


def mutated(content: bytes, rng: random.Random, *, others: Sequence[bytes] = ()) -> bytes:
    """Return ``content`` after one to four changes: bits, numbers, ranges; half of them where headers are.

    Args:
        content: Of a sound file.
        rng: Gives the same file again.
        others: Files of which pieces may be put in.
    """
    changed = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        start = _place(len(changed), rng)
        length = min(2 ** rng.randint(0, 14), max(1, len(changed) - start))
        match rng.randrange(9):
            case 0:
                for _ in range(rng.randint(1, 16)):
                    changed[_place(len(changed), rng)] ^= 1 << rng.randrange(8)
            case 1:
                changed[start : start + 4] = struct.pack(rng.choice("<>") + "I", rng.choice(_EDGES))
            case 2:
                changed[start : start + 2] = struct.pack(rng.choice("<>") + "H", rng.choice(_EDGES) & 0xFFFF)
            case 3:
                changed[start : start + length] = rng.randbytes(length)
            case 4:
                changed[start : start + length] = bytes(length)
            case 5:
                del changed[start : start + length]
            case 6:
                changed[start:start] = changed[start : start + length] * rng.randint(1, 4)
            case 7:
                del changed[max(1, start) :]
            case 8 if others:
                other = rng.choice(others)
                begin = rng.randrange(len(other))
                changed[start : start + length] = other[begin : begin + length]
    return bytes(changed) or b"\x00"


def _place(size: int, rng: random.Random) -> int:
    """Return a position, in half of the cases near the start or the end."""
    near = min(_HEAD_BYTES, size)
    return rng.choice(
        [rng.randrange(near), size - 1 - rng.randrange(near), rng.randrange(size), rng.randrange(size)]
    )


def external_track(sound: bytes, target: str) -> bytes:
    """Return an MP4 file whose track says that its pictures are in the file ``target``.

    In QuickTime's data reference there stands an alias in place of ``url`` with the flag *same file*
    (QuickTime File Format Specification, "Data reference atoms"; FFmpeg, ``mov_read_dref`` in
    libavformat/mov.c). Its own pictures are zeros.
    """
    start = sound.index(b"dref") - 4
    size = struct.unpack(">I", sound[start : start + 4])[0]
    path = target.encode()
    # 10 bytes, volume, 12 bytes, name, 16 bytes, levels, 16 bytes, then records, of which kind 2 is a path.
    alias = bytes(10 + 1 + 27 + 12 + 1 + 63 + 16 + 4 + 16)
    alias += struct.pack(">hh", 2, len(path)) + path + bytes(len(path) % 2) + struct.pack(">h", -1)
    entry = struct.pack(">I4sI", 12 + len(alias), b"alis", 0) + alias
    references = struct.pack(">I4sII", 16 + len(entry), b"dref", 0, 1) + entry
    changed = sound[:start] + references + sound[start + size :]
    for box in _BOXES:
        at = changed.index(box) - 4
        length = struct.unpack(">I", changed[at : at + 4])[0] + len(references) - size
        changed = changed[:at] + struct.pack(">I", length) + changed[at + 4 :]
    mdat = changed.index(b"mdat") - 4
    end = mdat + struct.unpack(">I", changed[mdat : mdat + 4])[0]
    return changed[: mdat + 8] + bytes(end - mdat - 8) + changed[end:]


def _segments(target: str) -> bytes:
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{target}\n#EXT-X-ENDLIST\n".encode()


def _concat(target: str) -> bytes:
    return f"ffconcat version 1.0\nfile '{target}'\n".encode()


def _media_presentation(target: str) -> bytes:
    return (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT2S"><Period><AdaptationSet mimeType="video/mp4"><Representation id="1" '
        f'bandwidth="1"><BaseURL>{target}</BaseURL></Representation></AdaptationSet></Period></MPD>'
    ).encode()


def _session_description(target: str) -> bytes:
    lines = [
        "v=0",
        "o=- 0 0 IN IP4 127.0.0.1",
        "s=x",
        "c=IN IP4 127.0.0.1",
        "t=0 0",
        "m=video 5004 RTP/AVP 96",
    ]
    return "\n".join([*lines, f"a=control:{target}", ""]).encode()


def _asx(target: str) -> bytes:
    return f'<asx version="3.0"><entry><ref href="{target}"/></entry></asx>'.encode()


POINTERS: dict[str, Callable[[str], bytes]] = {
    "hls": _segments,
    "ffconcat": _concat,
    "dash": _media_presentation,
    "sdp": _session_description,
    "asx": _asx,
}
"""Files that hold nothing but where to go: by kind, from the target to the content."""
