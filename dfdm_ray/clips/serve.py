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


def serve(pipe: Connection, memory: int, files: Files) -> None:
    """Work as the child until the parent is gone; answers are written to ``memory``.

    What the work needs is loaded before the sandbox closes, and no file is read before that.
    """
    work: Work | None = None
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
                last = _but_last(pipe, memory, work.answer(files, *pickle.loads(message)))
            kind = ANSWER
        except MemoryError:
            kind, last = NO_MEMORY, b""
        except Exception:  # noqa: BLE001  # a bug, which the parent reports
            kind, last = BUG, traceback.format_exc().encode(errors="replace")
        _send(pipe, memory, kind, last)


def _but_last(pipe: Connection, memory: int, pieces: Iterable[bytes]) -> bytes:
    """Send all ``pieces`` but the last, and return that."""
    last: bytes | None = None
    for piece in pieces:
        if last is not None:
            _send(pipe, memory, PIECE, last)
            pipe.recv_bytes()
        last = piece
    return last or b""


def _send(pipe: Connection, memory: int, kind: bytes, content: bytes) -> None:
    try:
        if content:
            with mmap.mmap(memory, len(content)) as mapped:  # a limit on files is one on write() as well
                mapped[:] = content
    except (OSError, ValueError, MemoryError):
        kind = NO_MEMORY  # there is no room for so much
    os.write(pipe.fileno(), kind + len(content).to_bytes(LENGTH_BYTES, "little"))


def _die_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies, even while a decoder runs."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, linux/prctl.h


if __name__ == "__main__":
    _die_with_parent()
    connection = socket.socket(fileno=int(sys.argv[3]))
    serve(Connection(int(sys.argv[1])), int(sys.argv[2]), BorrowedFiles(connection))
