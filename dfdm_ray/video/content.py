"""Names for files that no demuxer of videos reads: pictures, sound, archives, text."""

import re

HEAD_BYTES = 512
"""A tar archive has its mark at byte 257."""

PICTURE_BRANDS = {"avif", "heic", "heix", "mif1"}
"""Brands of mp4-like files that contain still pictures (ISO/IEC 23008-12; AV1 Image File Format)."""

_KINDS: tuple[tuple[bytes, str], ...] = (
    (rb"GIF8", "a GIF picture"),
    (rb"\x89PNG", "a PNG picture"),
    (rb"\xff\xd8\xff", "a JPEG picture"),
    (rb"RIFF....WEBP", "a WebP picture"),
    (rb"BM", "a BMP picture"),
    (rb"II\*\0|MM\0\*", "a TIFF picture"),
    (rb"\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
    (rb"ID3|\xff[\xf2\xf3\xfa\xfb]", "an MP3 sound file"),
    (rb"\xff[\xf0\xf1\xf8\xf9]", "an AAC sound file"),
    (rb"RIFF....WAVE", "a WAV sound file"),
    (rb"FORM....AIF", "an AIFF sound file"),
    (rb"fLaC", "a FLAC sound file"),
    (rb"PK\x03\x04", "a zip archive"),
    (rb"Rar!", "a RAR archive"),
    (rb"7z\xbc\xaf", "a 7z archive"),
    (rb"\x1f\x8b|BZh|\xfd7zXZ", "a compressed file (gzip, bzip2 or xz)"),
    (rb".{257}ustar", "a tar archive"),
    (rb"%PDF", "a PDF document"),
    (rb"\xd0\xcf\x11\xe0", "an Office document or a cache of thumbnails"),
    (rb"YUV4MPEG2|\.RMF|[FC]WS", "a video in a container that is not read (y4m, RealMedia or Flash)"),
    (rb"....(ftyp|moov|mdat|free|skip|wide)", "an mp4 or mov without a readable index (moov), as if cut off"),
    (rb"(?i)\s*<(!doctype html|html)", "a web page, as if the download had failed"),
    (rb"version https://git-lfs", "a Git LFS pointer; fetch its video with `git lfs pull`"),
    (rb"#EXTM3U", "a playlist"),
    (rb"(\xef\xbb\xbf)?(WEBVTT|\[Script Info\]|\d+\r?\n\d\d:\d\d:\d\d,)", "subtitles"),
    (rb"\xff\xfe|\xfe\xff|[\t\n\f\r\x20-\x7e\x80-\xff]+\Z", "a text file"),
    (rb"\0+\Z", "zeros at least at its start, as if a download had not ended"),
)
"""Patterns for the first bytes, in order, and names."""


def content_of(head: bytes) -> str | None:
    """Return what a file is by its first :data:`HEAD_BYTES` bytes, ``None`` if it is unknown."""
    return next((name for pattern, name in _KINDS if re.match(pattern, head, re.DOTALL)), None)
