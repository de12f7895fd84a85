"""Works for child processes that crash, hang or lie as the name of their file says; imports nothing heavy."""

import ctypes
import os
import resource
import signal
import sys
import time
from pathlib import Path

from dfdm_ray.io.object_store import persistently


class Act:
    """Answers with a prefix, the URI and the process number; some URIs are deadly."""

    def __init__(self, prefix: str = "did ") -> None:
        self.prefix = prefix

    def start(self) -> None:
        """Nothing is to be loaded."""

    def answer(self, uri: str) -> bytes:
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
            case "lie" | "boast" | "babble":  # as a decoder that was taken over might
                kind, length = {"lie": (b"=", 100), "boast": (b"=", 10**15), "babble": (b"?", 0)}[uri]
                os.write(int(sys.argv[1]), kind + length.to_bytes(8, "little"))
                os._exit(3)
            case "half":
                os.write(int(sys.argv[1]), b"=")
                time.sleep(1000)
            case "deaf":
                os.write(int(sys.argv[1]), (b"=" + bytes(8)) * 20)  # the second one for the next file
                time.sleep(1000)
            case "no room":
                resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
                return bytes(200)
            case "token":
                return os.environ.get("RAY_AUTH_TOKEN", "none").encode()
            case "silent store":
                persistently(lambda: time.sleep(1000))
            case "late store":
                failures = iter([OSError("HTTP status 503"), None])
                persistently(lambda: fail(next(failures)))
                time.sleep(1000)
            case "bug":
                raise ZeroDivisionError("a bug in the work")
        return f"{self.prefix}{uri} {os.getpid()}".encode()


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
