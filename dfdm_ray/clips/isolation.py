"""Work on untrusted files in a child process: its crash, hang or hunger costs one file, not the worker.

::

    worker --(how to make the work, then one file's name after another)--> child
           <--(a letter, and how many bytes lie in a file of both, data and never code)-

The child serves one file after another and is replaced once it died or was killed.
"""

import contextlib
import math
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import IO

import psutil

from dfdm_ray.errors import RejectCode, VideoRejectedError

Work = Callable[[str], bytes]
"""What a child does with one file: its URI to an answer."""

_LOOK_EVERY_S = 0.1
"""How often time and memory of a busy child are looked at."""
_ANSWER, _BUG, _NO_MEMORY = b"=", b"!", b"m"
_LENGTH_BYTES = 8
"""Of the length that follows the letter: every message of a child has 9 bytes."""


@dataclass(frozen=True, kw_only=True)
class Allowance:
    """What one file may cost."""

    seconds: float
    """Wall time."""
    memory_bytes: float
    """Resident memory of the child."""


_TO_LOAD = Allowance(seconds=300.0, memory_bytes=math.inf)
"""A child that is not ready by then never will be; a busy disk makes imports slow."""


class ChildLostError(VideoRejectedError):
    """The child died of a file or was killed over it."""


class WorkBugError(RuntimeError):
    """The work has a bug that showed on one file; the text is the child's traceback."""

    @property
    def summary(self) -> str:
        """The error and where it was raised, in one line."""
        lines = str(self).strip().splitlines() or ["nothing was told of it"]
        places = [line.strip() for line in lines if line.startswith('  File "')]
        return f"{lines[-1]} ({places[-1]})" if places else lines[-1]


class Isolated:
    """Does work in a child process, which starts with the first file.

    Args:
        make: Makes the work, in the child; must pickle.
        allowance: What one file may cost.
    """

    def __init__(self, make: Callable[[], Work], allowance: Allowance) -> None:
        self._make = pickle.dumps(make)
        self._allowance = allowance
        self._child: subprocess.Popen[bytes] | None = None

    def __call__(self, uri: str) -> bytes:
        """Return the answer for the file at ``uri``.

        Raises:
            ChildLostError: If the child died, or was killed because it took too long or grew too large.
            WorkBugError: If the work has a bug that shows on this file.
            RuntimeError: If the work cannot be made.
        """
        if self._child is None or self._child.poll() is not None:
            self._start()
        try:
            self._pipe.send_bytes(os.fsencode(uri))
            return self._answered(self._allowance)
        except (EOFError, OSError) as error:
            raise ChildLostError(RejectCode.CRASHED, self._ending()) from error

    def close(self) -> None:
        """Kill the child."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._pipe.close()
            self._answer.close()
            self._child = None

    def _start(self) -> None:
        """Start a child, a second time if it was killed: Linux does that when memory is short."""
        try:
            self._load()
        except RuntimeError:
            if self._child is None or (self._child.poll() or 0) >= 0:
                raise
            self._load()

    def _load(self) -> None:
        self.close()
        self._pipe, theirs = Pipe()
        self._answer = _unnamed_file()
        with theirs:
            shared = [theirs.fileno(), self._answer.fileno()]
            self._child = subprocess.Popen(
                # -P: what lies in the working directory is not imported.
                [sys.executable, "-P", "-m", __name__, *map(str, shared)],
                pass_fds=shared,
                env=_environment(),
                stdin=subprocess.DEVNULL,
            )
        try:
            self._pipe.send_bytes(self._make)
            self._answered(_TO_LOAD)
        except WorkBugError as bug:
            raise RuntimeError(str(bug)) from None  # no file's business
        except ChildLostError as lost:
            if lost.code == RejectCode.TIMED_OUT:
                raise RuntimeError(f"the decoding process was not ready: {lost.detail}") from None
            raise
        except (EOFError, OSError) as error:
            raise RuntimeError(f"the decoding process did not start: {self._ending()}") from error
        os.set_blocking(self._pipe.fileno(), False)  # names of files always find room, if it listens

    def _answered(self, allowance: Allowance) -> bytes:
        message = self._message(allowance)
        kind, length = message[:1], int.from_bytes(message[1:], "little")
        if kind == _ANSWER:
            return self._read(length)
        if kind == _NO_MEMORY:
            self.close()
            raise ChildLostError(RejectCode.OUT_OF_MEMORY, "the decoding process was refused memory")
        if kind == _BUG:
            told = self._read(length)
            self.close()
            raise WorkBugError(told.decode(errors="replace"))
        raise EOFError

    def _read(self, length: int) -> bytes:
        """Return the answer in the file; raise ``EOFError`` if the child, not to be trusted, lied."""
        if length > self._allowance.memory_bytes:
            raise EOFError
        answer = os.pread(self._answer.fileno(), length, 0)
        if len(answer) < length:
            raise EOFError
        return answer

    def _message(self, allowance: Allowance) -> bytes:
        """Return the child's message, whole; kill the child if it asks too much.

        Raises:
            EOFError: If it died.
            ChildLostError: If it was killed.
        """
        end = time.monotonic() + allowance.seconds
        message = b""
        while len(message) <= _LENGTH_BYTES:
            if self._pipe.poll(_LOOK_EVERY_S):
                piece = os.read(self._pipe.fileno(), 1 + _LENGTH_BYTES - len(message))
                if not piece:
                    raise EOFError
                message += piece
            elif time.monotonic() > end:
                self.close()
                raise ChildLostError(RejectCode.TIMED_OUT, f"no result after {allowance.seconds:g} s")
            elif self._memory_bytes() > allowance.memory_bytes:
                self.close()
                detail = f"the decoding process grew beyond {allowance.memory_bytes / 2**30:.2g} GiB"
                raise ChildLostError(RejectCode.OUT_OF_MEMORY, detail)
        return message

    def _memory_bytes(self) -> int:
        try:
            return int(psutil.Process(self._child.pid).memory_info().rss) if self._child else 0
        except psutil.Error:
            return 0  # it died; the pipe will say so

    def _ending(self) -> str:
        """Return how the child, which is dead or about to be, ended."""
        assert self._child is not None
        try:
            code = self._child.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.close()
            return "the decoding process stopped talking"
        return f"the decoding process ended with {_name_of(code)}"


def _unnamed_file() -> IO[bytes]:
    """Return a file for large answers, in memory where the system has that.

    Through a pipe, which holds 200 kB, each side would wait for the other again and again.
    """
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create("answer"), "r+b")
    return tempfile.TemporaryFile()


def _environment() -> dict[str, str]:
    """Return the child's environment: the parent's, without Ray's, of which the token is a part."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {**kept, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def _name_of(returncode: int | None) -> str:
    if returncode == -signal.SIGKILL:
        return "SIGKILL, which came from outside; Linux sends it when memory is short"
    if returncode is not None and returncode < 0:
        return signal.Signals(-returncode).name
    return f"exit code {returncode}"


def serve(pipe: Connection, file: int) -> None:
    """Be the child: work until the other side is gone; answers go into ``file``."""
    work: Work | None = None
    while True:
        try:
            message = pipe.recv_bytes()
        except EOFError:
            return
        try:
            if work is None:
                work, answer = pickle.loads(message)(), b""  # our own parent's words
            else:
                answer = work(os.fsdecode(message))
            kind = _ANSWER
        except MemoryError:
            kind, answer = _NO_MEMORY, b""
        except Exception:  # noqa: BLE001  # a bug, of which the parent tells
            kind, answer = _BUG, traceback.format_exc().encode(errors="replace")
        length = _written(file, answer)
        if length < len(answer):
            kind = _NO_MEMORY  # the file is in memory, or on a disk that is full
        os.write(pipe.fileno(), kind + length.to_bytes(_LENGTH_BYTES, "little"))


def _written(file: int, content: bytes) -> int:
    with contextlib.suppress(OSError):
        return os.pwrite(file, content, 0)
    return 0


def _die_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies, even while a decoder does not listen."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, linux/prctl.h


if __name__ == "__main__":
    _die_with_parent()
    serve(Connection(int(sys.argv[1])), int(sys.argv[2]))
