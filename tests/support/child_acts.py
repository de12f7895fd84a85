"""Acts of a child process, for the tests of isolation; every child imports this, so it imports little."""

import ctypes
import os
import resource
import signal
import sys
import time
from functools import partial
from pathlib import Path

from dfdm_ray.clips.isolation import Work


def act(name: str, prefix: str, uri: str) -> bytes:
    """Do what ``uri`` says."""
    match uri:
        case "segfault":
            ctypes.string_at(0)
        case "hang":
            time.sleep(1000)
        case "hang in C":
            ctypes.PyDLL(None).sleep(1000)  # holds the interpreter's lock, as a decoder may
        case "swell":
            held = [bytearray(b"1") * 2**27 for _ in range(100)]
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
        case "bug":
            raise ZeroDivisionError("a bug in the work")
    return f"{prefix}{uri} {os.getpid()}".encode()


def make(prefix: str) -> Work:
    return partial(act, "a name", prefix)


def killed(folder: str, times: int) -> Work:
    """Die the first ``times`` times that this work is made."""
    started = len(os.listdir(folder))
    Path(folder, str(started)).touch()
    if started < times:
        os.kill(os.getpid(), signal.SIGKILL)
    return make("did ")


def broken() -> Work:
    raise ImportError("no such decoder")
