"""Works for child processes that crash, hang or lie as the name of their file says; imports nothing heavy.

The child learns no path: the name is that of a file in a folder.
"""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from dfdm_ray.io.lending import Files
from dfdm_ray.io.listing import FileEntry
from dfdm_ray.io.object_store import persistently


class Act:
    """Answers with a prefix, the URI and the process number; some URIs are deadly."""

    def __init__(self, prefix: str = "did ") -> None:
        self.prefix = prefix

    def start(self) -> None:
        """Nothing is to be loaded."""

    def files(self, uri: str) -> list[FileEntry]:
        """Return a file with the name ``uri``, sooner or later."""
        if uri == "silent store":
            persistently(lambda: time.sleep(1000))
        if uri == "late store":
            failures = iter([OSError("HTTP status 503"), None])
            persistently(lambda: fail(next(failures)))
        return [FileEntry(uri="/gone", relative=uri, size_bytes=0)]

    def answer(self, files: Files) -> Iterator[bytes]:
        """Do what the name says."""
        yield from self.act(files.names()[0])

    def act(self, uri: str) -> Iterator[bytes]:
        """Do what ``uri`` says."""
        match uri:
            case "segfault":
                ctypes.string_at(0)
            case "hang":
                time.sleep(1000)
            case "hang in C":
                ctypes.PyDLL(None).sleep(1000)  # holds the interpreter's lock, as a decoder may
            case "swell":
                held = [b"1" * 2**27 for _ in range(100)]
                time.sleep(len(held))
            case "absurd":
                bytes(2**62)
            case "exit":
                os._exit(3)
            case "boast" | "babble":  # as a decoder that was taken over might
                kind, length = {"boast": (b"=", 10**15), "babble": (b"?", 0)}[uri]
                os.write(int(sys.argv[1]), kind + length.to_bytes(8, "little"))
                os._exit(3)
            case "half":
                os.write(int(sys.argv[1]), b"=")
                time.sleep(1000)
            case "deaf":
                os.write(int(sys.argv[1]), (b"=" + bytes(8)) * 20)  # the second one for the next file
                time.sleep(1000)
            case "no room":
                yield bytes(2**32 + 1)
            case "environment":
                yield ",".join(sorted(os.environ)).encode()
                return
            case "late store":
                time.sleep(1000)
            case "pieces":
                yield from (b"one ", b"two ", b"three ")
            case "bug":
                raise ZeroDivisionError("a bug in the work")
        yield f"{self.prefix}{uri} {os.getpid()}".encode()


def fail(error: Exception | None) -> None:
    """Raise ``error``, if it is one."""
    if error:
        raise error


class KilledAtStart(Act):
    """Is killed while it starts, the first ``times`` times."""

    def __init__(self, folder: str, times: int) -> None:
        super().__init__()
        self.folder, self.times = folder, times

    def start(self) -> None:
        """Leave a trace, and maybe die."""
        started = len(os.listdir(self.folder))
        Path(self.folder, str(started)).touch()
        if started < self.times:
            os.kill(os.getpid(), signal.SIGKILL)


class Broken(Act):
    """Cannot start."""

    def start(self) -> None:
        """Fail."""
        raise ImportError("no such decoder")
