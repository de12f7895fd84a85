"""Work on untrusted files in a child process: a crash, a hang or a leak costs one file, not the worker.

::

    worker --(the pickled work, then one URI after another)--> child
           <--(a letter and the length of the answer, which is in a file that both have open)--
           ...(the seconds lost to a store that does not answer, at the start of that file)...

Answers are data, never code. The child serves one file after another; a dead or killed child is replaced.
"""

import contextlib
import math
import mmap
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import IO, Protocol

import psutil

from dfdm_ray.errors import RejectCode, VideoRejectedError
from dfdm_ray.io.object_store import LOST_BYTES, count_lost_seconds, lost_seconds

_LOOK_EVERY_S = 0.1
"""Pause between two looks at the time and memory of a busy child."""
_ANSWER, _BUG, _NO_MEMORY = b"=", b"!", b"m"
_LENGTH_BYTES = 8
"""Size of the length after the letter: every message of a child has 9 bytes."""


class Work(Protocol):
    """A child's work; must pickle."""

    def start(self) -> None:
        """Load what the work needs; called once, in the child."""

    def answer(self, uri: str) -> bytes:
        """Return the answer for one file."""


@dataclass(frozen=True, kw_only=True)
class Allowance:
    """Limits for one file."""

    seconds: float
    """Wall time."""
    memory_bytes: float
    """Resident memory of the child."""


_TO_LOAD = Allowance(seconds=300.0, memory_bytes=math.inf)
"""Limits for the start of a child; a busy disk makes imports slow."""


class ChildLostError(VideoRejectedError):
    """The child died while it worked on a file, or was killed for it."""


class WorkBugError(RuntimeError):
    """A bug in the work that one file triggers; the text is the child's traceback."""

    @property
    def summary(self) -> str:
        """The error and where it was raised, in one line."""
        lines = str(self).strip().splitlines() or ["the decoding process gave no traceback"]
        places = [line.strip() for line in lines if line.startswith('  File "')]
        return f"{lines[-1]} ({places[-1]})" if places else lines[-1]


class Isolated:
    """Work in a child process, which starts with the first file."""

    def __init__(self, work: Work, allowance: Allowance) -> None:
        self._work = pickle.dumps(work)
        self._allowance = allowance
        self._child: subprocess.Popen[bytes] | None = None

    def __call__(self, uri: str) -> bytes:
        """Return the answer for the file at ``uri``.

        Raises:
            ChildLostError: If the child died, or was killed because it took too long or grew too large.
            WorkBugError: If this file triggers a bug in the work.
            RuntimeError: If the work cannot start.
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
        """Start a child, and once more if it was killed, as Linux does when memory is short."""
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
        self._answer.truncate(LOST_BYTES)
        with theirs:
            shared = [theirs.fileno(), self._answer.fileno()]
            self._child = subprocess.Popen(
                # -P: nothing in the working directory is imported.
                [sys.executable, "-P", "-m", __name__, *map(str, shared)],
                pass_fds=shared,
                env=_environment(),
                stdin=subprocess.DEVNULL,
            )
        try:
            self._pipe.send_bytes(self._work)
            self._answered(_TO_LOAD)
        except WorkBugError as bug:
            raise RuntimeError(str(bug)) from None  # every file would trigger it
        except ChildLostError as lost:
            if lost.code == RejectCode.TIMED_OUT:
                raise RuntimeError(f"the decoding process was not ready: {lost.detail}") from None
            raise
        except (EOFError, OSError) as error:
            raise RuntimeError(f"the decoding process did not start: {self._ending()}") from error
        os.set_blocking(self._pipe.fileno(), False)  # a child that listens leaves room for a name

    def _answered(self, allowance: Allowance) -> bytes:
        message = self._message(allowance)
        kind, length = message[:1], int.from_bytes(message[1:], "little")
        if kind == _ANSWER:
            return self._read(length)
        if kind == _NO_MEMORY:
            self.close()
            raise ChildLostError(RejectCode.OUT_OF_MEMORY, "the decoding process was refused memory")
        if kind == _BUG:
            traceback_bytes = self._read(length)
            self.close()
            raise WorkBugError(traceback_bytes.decode(errors="replace"))
        raise EOFError

    def _read(self, length: int) -> bytes:
        """Return the answer in the file; raise ``EOFError`` if the child gave a wrong length."""
        if length > self._allowance.memory_bytes:
            raise EOFError
        answer = os.pread(self._answer.fileno(), length, LOST_BYTES)
        if len(answer) < length:
            raise EOFError
        return answer

    def _message(self, allowance: Allowance) -> bytes:
        """Return the child's whole message; kill the child if it exceeds its limits.

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
                lost_s = lost_seconds(os.pread(self._answer.fileno(), LOST_BYTES, 0))
                self.close()
                detail = f"no result after {allowance.seconds:g} s"
                if lost_s > allowance.seconds / 2:
                    detail += f", of which failed requests took {lost_s:.0f} s"
                    raise ChildLostError(RejectCode.STORAGE_ERROR, detail)
                raise ChildLostError(RejectCode.TIMED_OUT, detail)
            elif self._memory_bytes() > allowance.memory_bytes:
                self.close()
                detail = f"the decoding process grew beyond {allowance.memory_bytes / 2**30:.2g} GiB"
                raise ChildLostError(RejectCode.OUT_OF_MEMORY, detail)
        return message

    def _memory_bytes(self) -> int:
        try:
            return int(psutil.Process(self._child.pid).memory_info().rss) if self._child else 0
        except psutil.Error:
            return 0  # it died; the pipe reports that

    def _ending(self) -> str:
        """Return how the child ended."""
        assert self._child is not None
        try:
            code = self._child.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.close()
            return "the decoding process stopped answering"
        return f"the decoding process ended with {_name_of(code)}"


def _unnamed_file() -> IO[bytes]:
    """Return a file for large answers, in memory where the system offers that.

    A pipe holds 200 kB, so each side would wait for the other many times.
    """
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create("answer"), "r+b")
    return tempfile.TemporaryFile()


def _environment() -> dict[str, str]:
    """Return the parent's environment without Ray's variables, among them the cluster's token."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {**kept, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def _name_of(returncode: int | None) -> str:
    if returncode == -signal.SIGKILL:
        return "SIGKILL from outside; Linux sends it when memory is short"
    if returncode is not None and returncode < 0:
        return signal.Signals(-returncode).name
    return f"exit code {returncode}"


def serve(pipe: Connection, file: int) -> None:
    """Work as the child until the parent is gone; answers are written to ``file``."""
    work: Work | None = None
    lost = mmap.mmap(file, LOST_BYTES)
    while True:
        try:
            message = pipe.recv_bytes()
        except EOFError:
            return
        try:
            if work is None:
                work, answer = pickle.loads(message), b""  # written by our own parent
                work.start()
            else:
                count_lost_seconds(lost)
                answer = work.answer(os.fsdecode(message))
            kind = _ANSWER
        except MemoryError:
            kind, answer = _NO_MEMORY, b""
        except Exception:  # noqa: BLE001  # a bug, which the parent reports
            kind, answer = _BUG, traceback.format_exc().encode(errors="replace")
        length = _written(file, answer)
        if length < len(answer):
            kind = _NO_MEMORY  # the file is in memory, or on a full disk
        os.write(pipe.fileno(), kind + length.to_bytes(_LENGTH_BYTES, "little"))


def _written(file: int, content: bytes) -> int:
    with contextlib.suppress(OSError):
        return os.pwrite(file, content, LOST_BYTES)
    return 0


def _die_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies, even while a decoder runs."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, linux/prctl.h


if __name__ == "__main__":
    _die_with_parent()
    serve(Connection(int(sys.argv[1])), int(sys.argv[2]))
