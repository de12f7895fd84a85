"""Identity of a file: whether it is still the one that an earlier run read.

Size and time of change come with every list of files. Where the time or the place differs, because an archive
was copied, moved or replaced, the first and last 64 KiB decide: one of them contains the header of a video,
with the sizes of all frames.
"""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import BinaryIO, Literal

from dfdm_ray.errors import UserError
from dfdm_ray.io import storage

_SAMPLE_BYTES = 1 << 16
_THREADS = 16
"""An object store needs tens of milliseconds for each request."""

Verdict = Literal["same", "moved", "replaced", "unsure"]


@dataclass(frozen=True, kw_only=True)
class FileIdentity:
    """What is known about the content of a file without reading all of it."""

    uri: str
    size_bytes: int
    modified_ns: int | None
    """Last change by the clock of the storage, ns since 1970."""
    fingerprint: str | None = None
    """Result of :func:`fingerprint`."""


def fingerprint(stream: BinaryIO, size_bytes: int) -> str:
    """Return the SHA-256, in hexadecimal digits, of the size and the first and last 64 KiB of ``stream``."""
    if size_bytes <= storage.READ_AHEAD_BYTES:
        stream.read(1)  # one request to an object store brings all of a small file
    stream.seek(max(0, size_bytes - _SAMPLE_BYTES))
    last = stream.read(_SAMPLE_BYTES)
    stream.seek(0)  # the start comes second: it is read next, and buffered then
    return hashlib.sha256(b"%d" % size_bytes + stream.read(_SAMPLE_BYTES) + last).hexdigest()


def look_at(uris: Sequence[str]) -> list[FileIdentity | None]:
    """Return the identity of each file, without fingerprint; ``None`` for what is no readable file."""
    with ThreadPoolExecutor(_THREADS) as pool:
        return [*pool.map(_look_at, uris)]


def compare(pairs: Sequence[tuple[FileIdentity, FileIdentity]], *, read: bool = False) -> list[Verdict]:
    """Return for each pair (before, now) whether the file is the same.

    Files are read only where time or place differ, or always if ``read``. ``moved``: the same content at
    another place. ``unsure``: at another place, and an earlier version stored nothing to compare.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        return [*pool.map(lambda pair: _verdict(*pair, read=read), pairs)]


def _verdict(before: FileIdentity, now: FileIdentity, *, read: bool) -> Verdict:
    if now.size_bytes == 0 and now.modified_ns is None:
        return "same"  # listed, but not readable: no sign of another content
    moved, times = before.uri != now.uri, {before.modified_ns, now.modified_ns}
    same: Verdict = "moved" if moved else "same"
    touched = before.size_bytes != now.size_bytes or (len(times) == 2 and None not in times)
    if (
        (moved or touched or read)
        and before.fingerprint
        and (found := now.fingerprint or fingerprint_of(now))
    ):
        return same if found == before.fingerprint else "replaced"
    if touched:
        return "replaced"
    return "unsure" if moved and None in times else same


def fingerprint_of(file: FileIdentity) -> str | None:
    """Return the fingerprint of the file, ``None`` if it cannot be read."""
    try:
        with storage.open_input(file.uri) as stream:
            return fingerprint(stream, file.size_bytes)
    except (OSError, UserError):
        return None


def _look_at(uri: str) -> FileIdentity | None:
    try:
        info = storage.file_info(uri)
    except (OSError, UserError):
        return None
    return FileIdentity(uri=uri, size_bytes=int(info.size), modified_ns=info.mtime_ns)
