"""What a file might try that has taken over its decoder; each attack returns if it succeeds."""

import ctypes
import io
import os
import platform
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

from dfdm_ray.clips.child import ClipWork
from dfdm_ray.clips.cut import ClipFacts, FaceClips
from dfdm_ray.io.lending import Files, OpenedFile
from dfdm_ray.io.listing import FileEntry
from dfdm_ray.video.decode import VideoReader

X86 = platform.machine() == "x86_64"


def raw(x86_64: int, aarch64: int, *arguments: Any) -> int:
    """Make a system call past Python and the functions of glibc."""
    libc = ctypes.CDLL(None, use_errno=True)
    values = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    result = libc.syscall(ctypes.c_long(x86_64 if X86 else aarch64), *values)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return int(result)


def connect_udp(port: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.sendto(b"keys", ("127.0.0.1", int(port)))


def connect_unix(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as unix:
        unix.connect(path)


def fork() -> None:
    if os.fork() == 0:
        os._exit(0)


ATTACKS: dict[str, Callable[..., Any]] = {
    # arguments: a folder of the test with `secret`, `lent.mp4` and `unix`, and a port on this machine
    "read a file": lambda folder, _: Path(folder, "secret").read_text(),
    "read a file, raw": lambda folder, _: raw(257, 56, -100, f"{folder}/secret".encode(), os.O_RDONLY),
    "list a folder": lambda folder, _: os.listdir(folder),
    "write a file": lambda folder, _: Path(folder, "new").touch(),
    "write a file, raw": lambda folder, _: raw(257, 56, -100, f"{folder}/new".encode(), 0o101, 0o600),
    "write a library": lambda *_: os.open(io.__file__, os.O_APPEND | os.O_WRONLY),
    "remove a file": lambda folder, _: os.remove(f"{folder}/secret"),
    "change the file": lambda *_: os.fchmod(LENT[0], 0o777),
    "change the file's times": lambda *_: os.utime(LENT[0], (0, 0)),
    "reopen the file": lambda *_: os.open(f"/proc/self/fd/{LENT[0]}", os.O_RDWR),
    "make a folder": lambda folder, _: os.mkdir(f"{folder}/new"),
    "connect by TCP": lambda _, port: socket.create_connection(("127.0.0.1", int(port))),
    "connect by UDP": lambda _, port: connect_udp(port),
    "connect to a Unix socket": lambda folder, _: connect_unix(f"{folder}/unix"),
    "make a socket, raw": lambda *_: raw(41, 198, socket.AF_INET, socket.SOCK_STREAM, 0),
    "start a program": lambda *_: os.execv("/bin/true", ["true"]),
    "start a program, raw": lambda *_: raw(59, 221, b"/bin/true", None, None),
    "read own environment": lambda *_: Path("/proc/self/environ").read_bytes(),
    "read the worker's environment": lambda *_: Path(f"/proc/{os.getppid()}/environ").read_bytes(),
    "signal the worker": lambda *_: os.kill(os.getppid(), 18),  # SIGCONT
    "signal the worker, raw": lambda *_: raw(234, 131, os.getppid(), os.getppid(), 18),
    "have the worker signalled": lambda *_: raw(72, 25, 0, 8, os.getppid()),  # F_SETOWN
    "fork": lambda *_: fork(),
    "fork, raw": lambda *_: raw(56, 220, 17, 0, 0, 0, 0),
    "fork by clone3": lambda *_: raw(435, 435, bytes(88), 88),
    "trace the worker": lambda *_: raw(101, 117, 16, os.getppid(), 0, 0),  # PTRACE_ATTACH
    "read the worker's memory": lambda *_: raw(310, 270, os.getppid(), None, 0, None, 0, 0),
    "limit the worker": lambda *_: raw(302, 261, os.getppid(), 7, bytes(16), None),
    "lift a limit": lambda *_: raw(302, 261, 0, 1, b"\xff" * 16, None),  # RLIMIT_FSIZE
    "outlive the worker": lambda *_: raw(157, 167, 1, 0, 0, 0, 0),  # PR_SET_PDEATHSIG
    "use io_uring": lambda *_: raw(425, 425, 1, bytes(120)),
    "open a process": lambda *_: raw(434, 434, os.getppid(), 0),
    "load BPF": lambda *_: raw(321, 280, 0, bytes(72), 72),
    "mount": lambda folder, _: raw(165, 40, b"none", folder.encode(), b"tmpfs", 0, None),
    "leave the namespace": lambda *_: raw(272, 97, 0x10000000),
    "make an anonymous program": lambda *_: raw(319, 279, b"x", 0),
}
LENT: list[int] = []
"""Descriptor of the file that is being decoded."""


class Trap(io.RawIOBase):
    """A file whose third read is an attack."""

    def __init__(self, stream: BinaryIO, attack: str) -> None:
        self._stream, self._attack, self._reads = stream, attack, 0
        LENT[:] = [stream.fileno()]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._stream.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        self._reads += 1
        if self._reads == 3:
            name, folder, port = self._attack.split("|")
            if name != "none":
                ATTACKS[name](folder, port)
                raise RuntimeError(f"succeeded: {name}")
        content = self._stream.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)


class Attacked(ClipWork):
    """Opens a video that attacks while it is decoded; the name of the file says how."""

    attack = ""
    """Name of the attack, a folder and a port, with ``|`` between them."""

    def files(self, uri: str) -> list[FileEntry]:
        """Return the video under the name of the attack."""
        return [FileEntry(uri=uri, relative=self.attack, size_bytes=os.path.getsize(uri))]

    def clips(self, files: Files, facts: ClipFacts) -> list[FaceClips]:
        """Read the video with the trap in it."""
        file = files.open()
        trap = io.BufferedReader(Trap(file.stream, files.names()[0]), buffer_size=512)
        with VideoReader(OpenedFile(cast(BinaryIO, trap), file.size_bytes)) as reader:
            frames = [frame.rgb for frame in reader.read_onwards()]
        raise ArithmeticError(f"{len(frames)} frames decoded")
