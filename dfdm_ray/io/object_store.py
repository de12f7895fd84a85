"""Object stores through ``pyarrow.fs``, asked again where they fail."""

import io
import os
from collections import deque
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pyarrow as pa
import pyarrow.fs as pafs

from dfdm_ray.io.retry import persistently

_CONNECT_S, _REQUEST_S = 5.0, 20.0
"""After so long without a byte a request has failed, and is tried again."""
_PIECE_BYTES = 1 << 24
"""Of a file that is read whole; a failure costs one piece."""
_KEPT_PIECES, _KEPT_BYTES = 4, 1 << 20
"""Pieces that an open file keeps, and how large they are at most. Demuxers go to and fro between index and
frames, and would ask for most of what they read two or three times."""
_S3_TEXTS = {"region", "scheme", "endpoint_override", "tls_ca_file_path"}
_S3_FLAGS = {"allow_bucket_creation", "allow_bucket_deletion", "force_virtual_addressing"}
"""Options that ``pyarrow`` takes both in a URI and as arguments."""


@lru_cache(maxsize=32)
def remote_filesystem(root: str) -> tuple[pafs.FileSystem, str]:
    """Return the file system of ``root``, a URI without its path, and the bucket that it names, maybe none.

    What else it names, such as keys and accounts, is for ``pyarrow`` to say.
    """
    filesystem, bucket = persistently(lambda: pafs.FileSystem.from_uri(root))
    if isinstance(filesystem, pafs.S3FileSystem):
        filesystem = _impatient(root, filesystem)
    return filesystem, bucket.rstrip("/")


def _impatient(root: str, filesystem: pafs.S3FileSystem) -> pafs.FileSystem:
    """Return the same S3 without retries of its own: those here are bounded by time-outs and counted.

    ``pyarrow`` takes a retry strategy only with options as arguments. Options that it takes in a URI alone
    leave ``filesystem`` as it is.
    """
    parts = urlsplit(root, allow_fragments=False)
    options: dict[str, Any] = dict(parse_qsl(parts.query))
    if not options.keys() <= _S3_TEXTS | _S3_FLAGS:
        return filesystem
    for name in options.keys() & _S3_FLAGS:
        options[name] = options[name].lower() in ("1", "true")
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint and "endpoint_override" not in options:  # read by the SDK, but not for these arguments
        scheme, _, host = endpoint.rpartition("://")
        options = {"scheme": scheme or "https", **options, "endpoint_override": host}
    if parts.username:
        options |= {"access_key": unquote(parts.username), "secret_key": unquote(parts.password or "")}
    return pafs.S3FileSystem(
        **{**options, "region": filesystem.region},
        connect_timeout=_CONNECT_S,
        request_timeout=_REQUEST_S,
        retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=1),
    )


class RemoteFile(io.RawIOBase):
    """Reads by range, each range tried until it comes; the last small ones are kept."""

    def __init__(self, file: pa.NativeFile) -> None:
        self._file = file
        self._size = file.size()
        self._position = 0
        self._kept: deque[tuple[int, bytes]] = deque(maxlen=_KEPT_PIECES)

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to ``offset`` and return the position."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer`` and return how many bytes came; 0 at the end."""
        wanted = min(len(buffer), self._size - self._position)
        if wanted <= 0:
            return 0
        content = self._again(wanted) or self._asked(wanted)
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)

    def _again(self, wanted: int) -> memoryview:
        """Return what a kept piece has from here on, up to ``wanted`` bytes; maybe none."""
        for start, piece in self._kept:
            if start <= self._position < start + len(piece):
                offset = self._position - start
                return memoryview(piece)[offset : offset + wanted]
        return memoryview(b"")

    def _asked(self, wanted: int) -> bytes:
        content: bytes = persistently(lambda: self._file.read_at(wanted, self._position))
        if len(content) <= _KEPT_BYTES:
            self._kept.append((self._position, content))
        return content

    def readall(self) -> bytes:
        """Return all that is left; by default it would come in small pieces, a request each."""
        pieces = []
        while piece := self.read(_PIECE_BYTES):
            pieces.append(piece)
        return b"".join(pieces)

    def close(self) -> None:
        """Close the object."""
        self._file.close()
        super().close()
