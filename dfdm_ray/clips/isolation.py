"""Work on untrusted files in a child process: a crash, a hang or a leak costs one file, not the worker.

::

    worker --(the pickled work, then its arguments for one input after another)--> child
           <--(a letter and the length of a piece of the answer, which is in memory that both map)--
    lender <--(requests for the files of the input, see :mod:`dfdm_ray.io.lending`)--

Answers are data, never code. The child gets neither paths nor keys. It serves one input after another; a dead
or killed child is replaced.
"""

import json
import logging
import math
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import Pipe
from typing import IO, Any

import psutil

from dfdm_ray.clips import sandbox, serve
from dfdm_ray.clips.serve import Work
from dfdm_ray.errors import RejectCode, VideoRejectedError
from dfdm_ray.io.lending import Lender
from dfdm_ray.io.terminal import visible

logger = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.1
"""Pause between two looks at the time and memory of a busy child."""
_MOST_PRINTED = 1 << 16
"""Bytes that a child may print while it works on one input; a pipe holds no more."""
_logged: set[str] = set()
_LARGEST_ANSWER = 1 << 32
"""Most bytes in one piece of an answer; the memory is only used as far as it is written."""
_KEPT = ("LANG", "LC_ALL", "LC_CTYPE", "PYTHONHOME", "PYTHONUTF8", "LD_LIBRARY_PATH", "LD_PRELOAD", "TZ")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_NO_THREADS = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}  # Arrow's jemalloc starts one by default
"""Variables that the child gets: those that Python and its libraries need to start as they did here."""


@dataclass(frozen=True, kw_only=True)
class Allowance:
    """Limits for one file."""

    seconds: float
    """Wall time."""
    memory_bytes: float
    """Resident memory of the child."""
    sandbox: bool = True
    """Whether the child gives up what it does not need, see :mod:`dfdm_ray.clips.sandbox`."""


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
    """Work in a child process, which starts with the first input."""

    def __init__(self, work: Work, allowance: Allowance) -> None:
        self._work = work
        self._allowance = allowance
        self._child: subprocess.Popen[bytes] | None = None
        self.layers: list[str] = []
        """Layers of the sandbox that hold, once the child has started."""

    def __call__(self, uri: str, *arguments: Any) -> bytes:
        """Return the answer for the input at ``uri``; see :meth:`pieces`."""
        return b"".join(self.pieces(uri, *arguments))

    def pieces(self, uri: str, *arguments: Any) -> Iterator[bytes]:
        """Yield the answer for the input at ``uri``; the limits hold for each piece.

        Raises:
            ChildLostError: If the child died, or was killed because it took too long or grew too large.
            WorkBugError: If this input triggers a bug in the work.
            RuntimeError: If the work cannot start.
        """
        self.start()
        is_last = False
        try:
            self._lender.lend(lambda: self._work.files(uri))
            self._pipe.send_bytes(pickle.dumps(arguments))
            while not is_last:
                is_last, piece = self._answered(self._allowance)
                yield piece
                if not is_last:
                    self._pipe.send_bytes(b"")  # the memory is free for the next piece
        except (EOFError, OSError) as error:
            raise ChildLostError(RejectCode.CRASHED, self._ending()) from error
        finally:
            if not is_last:  # a child that lives on would go on with this input
                self.close()

    def drain_failures(self) -> list[str]:
        """Return the failed requests for the files of the last input, as faults."""
        return self._lender.losses.drain()

    def close(self) -> None:
        """Kill the child."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._relay()
            for one in (self._pipe, self._answer, self._output):
                one.close()
            self._child = None

    def start(self) -> None:
        """Start a child if none runs, and once more if it was killed, as Linux does when memory is short.

        Raises:
            RuntimeError: If the work cannot start.
        """
        if self._child is not None and self._child.poll() is None:
            return
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
        self._answer.truncate(_LARGEST_ANSWER)
        self._lender = Lender()
        output, their_output = os.pipe()
        self._output = os.fdopen(output, "rb", buffering=0)
        for end in (output, their_output):
            os.set_blocking(end, False)
        with theirs, self._lender.theirs as files, open(their_output, "wb", buffering=0) as printed:
            shared = [theirs.fileno(), self._answer.fileno(), files.fileno()]
            self._child = subprocess.Popen(
                # -P: nothing in the working directory is imported.
                [sys.executable, "-P", "-m", serve.__name__, *map(str, shared)],
                pass_fds=shared,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=printed,
            )
        try:
            memory_bytes = self._allowance.memory_bytes if self._allowance.sandbox else None
            self._pipe.send_bytes(pickle.dumps((self._work, memory_bytes)))
            self._note(json.loads(self._answered(_TO_LOAD)[1]))
        except WorkBugError as bug:
            raise RuntimeError(str(bug)) from None  # every file would trigger it
        except ChildLostError as lost:
            if lost.code == RejectCode.TIMED_OUT:
                raise RuntimeError(f"the decoding process was not ready: {lost.detail}") from None
            raise
        except (EOFError, OSError) as error:
            raise RuntimeError(f"the decoding process did not start: {self._ending()}") from error
        os.set_blocking(self._pipe.fileno(), False)  # a child that listens leaves room for a message

    def _note(self, layers: dict[str, str]) -> None:
        """Note the layers of the sandbox; log once in this process why some do not hold."""
        self.layers = [name for name, reason in layers.items() if not reason]
        if (lacks := sandbox.missing(layers)) and lacks not in _logged:
            _logged.add(lacks)
            logger.warning("decoding processes on %s run without %s", socket.gethostname(), lacks)

    def _relay(self) -> None:
        """Show what the child printed; a file may have chosen the text."""
        if text := self._output.read(_MOST_PRINTED):
            sys.stderr.write(visible(text.decode(errors="replace"), keep="\n"))

    def _answered(self, allowance: Allowance) -> tuple[bool, bytes]:
        """Return whether the next piece is the last, and the piece."""
        message = self._message(allowance)
        self._relay()
        kind, length = message[:1], int.from_bytes(message[1:], "little")
        if kind in (serve.ANSWER, serve.PIECE):
            return kind == serve.ANSWER, self._read(length)
        if kind == serve.NO_MEMORY:
            self.close()
            raise ChildLostError(RejectCode.OUT_OF_MEMORY, "the decoding process was refused memory")
        if kind == serve.BUG:
            traceback_bytes = self._read(length)
            self.close()
            raise WorkBugError(traceback_bytes.decode(errors="replace"))
        raise EOFError

    def _read(self, length: int) -> bytes:
        """Return the piece in the memory; raise ``EOFError`` if the child gave a wrong length."""
        if length > min(self._allowance.memory_bytes, _LARGEST_ANSWER):
            raise EOFError
        answer = os.pread(self._answer.fileno(), length, 0)
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
        while len(message) <= serve.LENGTH_BYTES:
            if self._pipe.poll(_LOOK_EVERY_S):
                piece = os.read(self._pipe.fileno(), 1 + serve.LENGTH_BYTES - len(message))
                if not piece:
                    raise EOFError
                message += piece
            elif time.monotonic() > end:
                lost_s = self._lender.losses.lost_seconds()
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
    """Return the few variables that the child gets; the keys of a store and the cluster's token are none."""
    kept = {name: os.environ[name] for name in (*_KEPT, *_THREADS) if name in os.environ}
    path = os.pathsep.join(filter(None, sys.path))
    return {**dict.fromkeys(_THREADS, "1"), **_NO_THREADS, **kept, "PYTHONPATH": path}


def _name_of(returncode: int | None) -> str:
    if returncode == -signal.SIGSYS:
        return "SIGSYS: it asked the system for what no decoder needs (a network, a program, a process)"
    if returncode == -signal.SIGKILL:
        return "SIGKILL from outside; Linux sends it when memory is short"
    if returncode is not None and returncode < 0:
        return signal.Signals(-returncode).name
    return f"exit code {returncode}"
