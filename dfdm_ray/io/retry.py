"""Trying again what an object store failed to do: a bounded number of times, with growing pauses, counted."""

import logging
import re
from collections.abc import Callable
from typing import TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from dfdm_ray.errors import RejectCode

logger = logging.getLogger(__name__)

T = TypeVar("T")

ATTEMPTS = 6
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 8.0
_NAMED = re.compile(r"AWS Error (?!UNKNOWN)([A-Z_]+)")
_PASSING = {
    *("INTERNAL_FAILURE", "SERVICE_UNAVAILABLE", "THROTTLING", "SLOW_DOWN"),
    *("REQUEST_TIMEOUT", "NETWORK_CONNECTION"),
    *("REQUEST_EXPIRED", "REQUEST_TIME_TOO_SKEWED"),  # of which the SDK learns the server's time
}
"""Of the names that Arrow gives errors of S3, without their status (``arrow/filesystem/s3_internal.h``)."""
_HTTP_STATUS = re.compile(r"HTTP status (\d{3})")
_TIMEOUT, _TOO_MANY_REQUESTS = 408, 429

_failures: list[str] = []


def drain_failures() -> list[str]:
    """Return what failed in this process and was tried again since the last call, as faults of a row."""
    found = [f"{RejectCode.STORAGE_ERROR}: {text}" for text in _failures]
    _failures.clear()
    return found


def may_pass(error: BaseException) -> bool:
    """Whether ``error`` is of an object store and may be gone the next time.

    Server errors, throttling, time-outs and lost connections may; a missing object or a refused key will
    not. Errors of local files carry an ``errno``, those of ``pyarrow``'s object stores do not.
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
    """Return ``call()``, tried up to :data:`ATTEMPTS` times while its error may pass."""
    return _again(call)


def _note(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    text = f"{error!s:.300}"
    _failures.append(text)
    logger.warning("storage failed, trying again (%d of %d): %s", state.attempt_number, ATTEMPTS, text)


_again = Retrying(
    stop=stop_after_attempt(ATTEMPTS),
    wait=wait_random_exponential(multiplier=_FIRST_PAUSE_S, max=_LONGEST_PAUSE_S),
    retry=retry_if_exception(may_pass),
    before_sleep=_note,
    reraise=True,
)
