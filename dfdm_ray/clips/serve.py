"""The decoding process: the child of :mod:`dfdm_ray.clips.isolation`, which describes what they exchange."""

import json
import mmap
import os
import pickle
import signal
import socket
import sys
import traceback
from collections.abc import Iterable, Sequence
from multiprocessing.connection import Connection
from typing import Any, Protocol

from dfdm_ray.clips import sandbox
from dfdm_ray.io.lending import BorrowedFiles, Entry, Files

ANSWER, PIECE, BUG, NO_MEMORY = b"=", b"+", b"!", b"m"
"""Letters of messages: the last piece of an answer, one before it, a traceback, no memory for an answer."""
LENGTH_BYTES = 8
"""Size of the length after the letter: every message of a child has 9 bytes."""


class Work(Protocol):
    """A child's work; must pickle."""

    def start(self) -> None:
        """Load all that the work needs; called once, in the child, which can load little afterwards."""

    def files(self, uri: str) -> Sequence[Entry]:
        """Return the files of one input; called in the worker."""

    def answer(self, files: Files, *arguments: Any) -> Iterable[bytes]:
        """Return the answer for one input, in pieces."""


class _Answers:
    """The way of answers to the parent: a message, and the memory that both map."""

    def __init__(self, pipe: Connection, memory: int) -> None:
        self._pipe, self._memory = pipe, memory
        self._mapped = mmap.mmap(memory, mmap.PAGESIZE)

    def send(self, kind: bytes, content: bytes) -> None:
        """Send ``content``, or that there is no memory for it."""
        length = len(content)
        try:
            if length > len(self._mapped):  # mapped for good, because each page costs a fault
                self._mapped = mmap.mmap(self._memory, length)
            self._mapped[:length] = content
        except (OSError, ValueError, MemoryError):
            kind = NO_MEMORY
        os.write(self._pipe.fileno(), kind + length.to_bytes(LENGTH_BYTES, "little"))

    def send_all_but_last(self, pieces: Iterable[bytes]) -> bytes:
        """Send all ``pieces`` but the last, and return that."""
        last: bytes | None = None
        for piece in pieces:
            if last is not None:
                self.send(PIECE, last)
                self._pipe.recv_bytes()
            last = piece
        return last or b""


def serve(pipe: Connection, memory: int, files: Files) -> None:
    """Work as the child until the parent is gone; answers are written to ``memory``.

    What the work needs is loaded before the sandbox closes, and no file is read before that.
    """
    work: Work | None = None
    answers = _Answers(pipe, memory)
    while True:
        try:
            message = pipe.recv_bytes()
        except EOFError:
            return
        try:
            if work is None:
                work, memory_bytes = pickle.loads(message)  # written by our own parent
                work.start()
                layers = {} if memory_bytes is None else sandbox.close(memory_bytes=memory_bytes)
                last = json.dumps(layers).encode()
            else:
                last = answers.send_all_but_last(work.answer(files, *pickle.loads(message)))
            kind = ANSWER
        except MemoryError:
            kind, last = NO_MEMORY, b""
        except Exception:  # noqa: BLE001  # a bug, which the parent reports
            kind, last = BUG, traceback.format_exc().encode(errors="replace")
        answers.send(kind, last)


def _die_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies, even while a decoder runs."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, linux/prctl.h


if __name__ == "__main__":
    _die_with_parent()
    connection = socket.socket(fileno=int(sys.argv[3]))
    serve(Connection(int(sys.argv[1])), int(sys.argv[2]), BorrowedFiles(connection))
