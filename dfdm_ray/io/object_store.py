"""Object stores through ``pyarrow.fs``: failed requests are repeated, within bounds, and counted."""

import io
import logging
import os
import re
import time
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

import pyarrow as pa
import pyarrow.fs as pafs
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from dfdm_ray.errors import RejectCode, UserError, VideoRejectedError

logger = logging.getLogger(__name__)

T = TypeVar("T")

ATTEMPTS = 6
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 8.0
_CONNECT_S, _REQUEST_S = 5.0, 20.0
"""Longest wait for a byte; then the request has failed and is repeated."""
_PIECE_BYTES = 1 << 24
"""Bytes in one request for a file that is read whole; a failure costs one piece."""
_KEPT_PIECES, _KEPT_BYTES = 4, 1 << 20
"""Number of pieces that an open file keeps, and the largest size kept. Demuxers alternate between index and
frames; without kept pieces they would request most bytes two or three times."""
_S3_TEXTS = {"region", "scheme", "endpoint_override", "tls_ca_file_path"}
_S3_FLAGS = {"allow_bucket_creation", "allow_bucket_deletion", "force_virtual_addressing"}
"""Options that ``pyarrow`` accepts both in a URI and as arguments."""
_NAMED = re.compile(r"AWS Error (?!UNKNOWN)([A-Z_]+)")
_PASSING = {
    *("INTERNAL_FAILURE", "SERVICE_UNAVAILABLE", "THROTTLING", "SLOW_DOWN"),
    *("REQUEST_TIMEOUT", "NETWORK_CONNECTION"),
    *("REQUEST_EXPIRED", "REQUEST_TIME_TOO_SKEWED"),  # the SDK corrects its clock by these
}
"""Arrow's names of S3 errors that may pass; Arrow omits their status (``arrow/filesystem/s3_internal.h``)."""
_HTTP_STATUS = re.compile(r"HTTP status (\d{3})")
_TIMEOUT, _TOO_MANY_REQUESTS = 408, 429


@dataclass
class Losses:
    """Requests that failed and were repeated, and the time that they took."""

    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0
    since_s: float = 0.0
    """Start of the present request, 0 if there is none."""

    def lost_seconds(self) -> float:
        """Return the seconds lost so far; a request that has no answer yet counts as lost."""
        since_s = self.since_s  # another thread may set it to 0
        return self.seconds + (time.monotonic() - since_s if since_s else 0.0)

    def drain(self) -> list[str]:
        """Return the failures since the last call, as faults."""
        found = [f"{RejectCode.STORAGE_ERROR}: {text}" for text in self.failures]
        self.failures.clear()
        return found


losses: ContextVar[Losses] = ContextVar("losses", default=Losses())  # noqa: B039  # one for the process
"""Where requests are counted; a thread that works for one file sets its own."""


def drain_failures() -> list[str]:
    """Return the requests that failed and were repeated since the last call, as faults."""
    return losses.get().drain()


def may_pass(error: BaseException) -> bool:
    """Whether ``error`` comes from an object store and may not recur.

    Server errors, throttling, time-outs and lost connections may pass; a missing object or a refused key
    will not. Errors of local files have an ``errno``, those of ``pyarrow``'s object stores do not.
    """
    if not isinstance(error, OSError) or error.errno is not None:
        return False
    if isinstance(error, FileNotFoundError | PermissionError | NotADirectoryError | IsADirectoryError):
        return False
    if named := _NAMED.search(str(error)):
        return named[1] in _PASSING
    found = _HTTP_STATUS.search(str(error))
    status = int(found[1]) if found else 500
    return status >= 500 or status in (_TIMEOUT, _TOO_MANY_REQUESTS)


def persistently(call: Callable[[], T]) -> T:
    """Return ``call()``; repeat it, up to :data:`ATTEMPTS` times in all, while :func:`may_pass`."""
    lost, started_s = losses.get(), time.monotonic()
    lost.since_s, num_failures = started_s, len(lost.failures)
    try:
        return _again(call)
    finally:
        lost.seconds += time.monotonic() - started_s if len(lost.failures) > num_failures else 0.0
        lost.since_s = 0.0


def unreadable(error: Exception) -> VideoRejectedError:
    """Return the rejection of a file that cannot be read: ``storage_error`` if the reason may pass."""
    reason = error.__cause__ if isinstance(error, UserError) and error.__cause__ else error
    code = RejectCode.STORAGE_ERROR if may_pass(reason) else RejectCode.UNREADABLE
    return VideoRejectedError(code, str(getattr(error, "strerror", None) or error))


def _note(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    text = f"{error!s:.300}"
    losses.get().failures.append(text)
    logger.warning(
        "storage request failed (attempt %d of %d), repeating it: %s", state.attempt_number, ATTEMPTS, text
    )


_again = Retrying(
    stop=stop_after_attempt(ATTEMPTS),
    wait=wait_random_exponential(multiplier=_FIRST_PAUSE_S, max=_LONGEST_PAUSE_S),
    retry=retry_if_exception(may_pass),
    before_sleep=_note,
    reraise=True,
)


@lru_cache(maxsize=32)
def remote_filesystem(root: str) -> tuple[pafs.FileSystem, str]:
    """Return the file system of ``root``, a URI without path, and its bucket, ``""`` if it has none.

    ``pyarrow`` interprets everything else in ``root``, such as accounts.
    """
    filesystem, bucket = persistently(lambda: pafs.FileSystem.from_uri(root))
    if isinstance(filesystem, pafs.S3FileSystem):
        filesystem = _impatient(root, filesystem)
    return filesystem, bucket.rstrip("/")


def _impatient(root: str, filesystem: pafs.S3FileSystem) -> pafs.FileSystem:
    """Return the same S3 without retries of its own; the retries of this module have time-outs and a count.

    ``pyarrow`` accepts a retry strategy only together with options as arguments. If ``root`` has an option
    that only a URI can have, ``filesystem`` is returned unchanged.
    """
    options: dict[str, Any] = dict(parse_qsl(urlsplit(root, allow_fragments=False).query))
    if not options.keys() <= _S3_TEXTS | _S3_FLAGS:
        return filesystem
    for name in options.keys() & _S3_FLAGS:
        options[name] = options[name].lower() in ("1", "true")
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint and "endpoint_override" not in options:  # the SDK ignores it if options are arguments
        scheme, _, host = endpoint.rpartition("://")
        options = {"scheme": scheme or "https", **options, "endpoint_override": host}
    return pafs.S3FileSystem(
        **{**options, "region": filesystem.region},
        connect_timeout=_CONNECT_S,
        request_timeout=_REQUEST_S,
        retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=1),
    )


class RangeReader(io.RawIOBase):
    """A file of known size that is read by ranges; a subclass has ``readinto``."""

    def __init__(self, size_bytes: int) -> None:
        self._size, self._position = size_bytes, 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to ``offset`` and return the position."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readall(self) -> bytes:
        """Return the rest in large pieces; the default implementation reads small ones, a request each."""
        pieces = []
        while piece := self.read(_PIECE_BYTES):
            pieces.append(piece)
        return b"".join(pieces)


class RemoteFile(RangeReader):
    """Reader that repeats failed requests and keeps the last small pieces."""

    def __init__(self, file: pa.NativeFile) -> None:
        super().__init__(file.size())
        self._file = file
        self._kept: deque[tuple[int, bytes]] = deque(maxlen=_KEPT_PIECES)

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer`` and return the number of bytes; 0 at the end."""
        wanted = min(len(buffer), self._size - self._position)
        if wanted <= 0:
            return 0
        content = self._kept_bytes(wanted) or self._request(wanted)
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)

    def _kept_bytes(self, wanted: int) -> memoryview:
        """Return up to ``wanted`` bytes from here on of a kept piece, none if there is none."""
        for start, piece in self._kept:
            if start <= self._position < start + len(piece):
                offset = self._position - start
                return memoryview(piece)[offset : offset + wanted]
        return memoryview(b"")

    def _request(self, wanted: int) -> bytes:
        content: bytes = persistently(lambda: self._file.read_at(wanted, self._position))
        if len(content) <= _KEPT_BYTES:
            self._kept.append((self._position, content))
        return content

    def close(self) -> None:
        """Close the object."""
        self._file.close()
        super().close()
