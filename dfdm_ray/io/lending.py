"""Files lent to a process that may open none: descriptors of local files, byte ranges of remote ones.

::

    borrower --(a letter, the number of a file or an offset, a length)--> lender
             <--(a letter, a size, then the content or, with a local file, its descriptor)--

The borrower learns neither paths nor keys. Its requests are no more than numbers.
"""

import contextvars
import io
import json
import logging
import os
import socket
import stat
import struct
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, BinaryIO, NamedTuple, TypeAlias, cast

from dfdm_ray.errors import RejectCode, UserError, VideoRejectedError
from dfdm_ray.io import storage
from dfdm_ray.io.listing import FileEntry, ListingProblem
from dfdm_ray.io.object_store import Losses, RangeReader, losses, unreadable

logger = logging.getLogger(__name__)

Entry: TypeAlias = str | FileEntry | ListingProblem
"""A URI, or a file of a folder that was listed."""

_REQUEST, _REPLY = struct.Struct("<cQQ"), struct.Struct("<cQ")
_NAMES, _OPEN, _READ, _CLOSE = b"n", b"o", b"r", b"c"
_CONTENT, _DESCRIPTOR, _RANGES, _REJECTED = b"=", b"d", b"s", b"!"
_MOST_BYTES = 1 << 24
"""Largest content of one reply."""


class OpenedFile(NamedTuple):
    """An open file and its size."""

    stream: BinaryIO
    size_bytes: int


class Files:
    """The files of one input, opened by this process."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = entries

    def names(self) -> list[str]:
        """Return the name of each file in the folder that was listed, ``""`` for a URI."""
        return ["" if isinstance(entry, str) else entry.relative for entry in self._entries]

    def open(self, number: int = 0) -> OpenedFile:
        """Open one file.

        Raises:
            VideoRejectedError: If it cannot be read.
        """
        entry = self._entries[number]
        if isinstance(entry, ListingProblem):
            raise VideoRejectedError(RejectCode.UNREADABLE, entry.reason)
        if isinstance(entry, str):
            return open_regular(entry)
        try:
            return OpenedFile(storage.open_input(entry.uri), entry.size_bytes)
        except (OSError, UserError) as error:
            raise unreadable(error) from error


def open_regular(uri: str) -> OpenedFile:
    """Open the file at ``uri``; an empty one needs no request. Reading a pipe would block for ever.

    Raises:
        VideoRejectedError: If it cannot be read or is no regular file.
    """
    try:
        size = storage.size_bytes(uri)
        mode = stat.S_IFREG if storage.is_remote(uri) else os.stat(storage.local_path(uri)).st_mode
        if not stat.S_ISREG(mode):
            raise VideoRejectedError(RejectCode.UNREADABLE, "not a regular file")
        return OpenedFile(storage.open_input(uri) if size else io.BytesIO(), size)
    except (OSError, UserError) as error:
        raise unreadable(error) from error


class Lender:
    """Serves one borrower, from a thread that ends with it.

    The thread alone opens, reads and closes, so a store that does not answer holds up nothing else.
    """

    def __init__(self) -> None:
        self._socket, self.theirs = socket.socketpair()
        """``theirs`` is the borrower's end; close it once the borrower has it."""
        self._find: Callable[[], Sequence[Entry]] = tuple
        self._files: Files | None = None
        self._open: OpenedFile | None = None
        self.losses = Losses()
        """Failed requests for the input that is lent."""
        threading.Thread(target=self._serve, daemon=True, name="lender").start()

    def lend(self, find: Callable[[], Sequence[Entry]]) -> None:
        """Lend another input, whose files ``find`` returns; it may raise :class:`VideoRejectedError`."""
        self._find, self._files, self.losses = find, None, Losses()

    def _serve(self) -> None:
        with suppress(OSError), self._socket:  # the borrower has died
            while len(request := self._socket.recv(_REQUEST.size, socket.MSG_WAITALL)) == _REQUEST.size:
                contextvars.copy_context().run(self._answer, *_REQUEST.unpack(request))
        self._close()

    def _answer(self, kind: bytes, number: int, length: int) -> None:
        losses.set(self.losses)
        try:
            self._do(kind, number, length)
        except VideoRejectedError as rejected:
            self._refuse(rejected)
        except OSError as error:
            if isinstance(error, BrokenPipeError | ConnectionResetError):
                raise
            self._refuse(unreadable(error))
        except Exception as error:
            logger.exception("a file could not be lent")
            self._refuse(VideoRejectedError(RejectCode.INTERNAL_ERROR, repr(error)))

    def _do(self, kind: bytes, number: int, length: int) -> None:
        if kind == _CLOSE:
            self._close()
        elif kind == _READ and self._open:
            stream = getattr(self._open.stream, "raw", self._open.stream)  # the borrower has the buffer
            stream.seek(number)
            self._send(_CONTENT, stream.read(min(length, _MOST_BYTES)))
        elif kind == _NAMES:
            self._send(_CONTENT, json.dumps(self._lent().names()).encode())
        elif kind == _OPEN and number < len(self._lent().names()):
            self._close()
            self._open = file = self._lent().open(number)
            try:
                descriptor = file.stream.fileno()
            except OSError:  # remote
                self._socket.sendall(_REPLY.pack(_RANGES, file.size_bytes))
            else:
                socket.send_fds(self._socket, [_REPLY.pack(_DESCRIPTOR, file.size_bytes)], [descriptor])
                self._close()
        else:
            raise VideoRejectedError(RejectCode.CRASHED, "the decoding process asked for what is not lent")

    def _lent(self) -> Files:
        if self._files is None:
            self._files = Files(self._find())
        return self._files

    def _refuse(self, rejected: VideoRejectedError) -> None:
        self._send(_REJECTED, json.dumps([rejected.code, rejected.detail]).encode())

    def _send(self, kind: bytes, content: bytes) -> None:
        self._socket.sendall(_REPLY.pack(kind, len(content)) + content)

    def _close(self) -> None:
        if self._open:
            self._open.stream.close()
            self._open = None


class BorrowedFiles(Files):
    """The files of the input that is lent at the other end of ``connection``."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(())
        self._socket = connection

    def names(self) -> list[str]:
        """Return the name of each file, see :meth:`Files.names`.

        Raises:
            VideoRejectedError: If they cannot be listed.
        """
        names: list[str] = json.loads(self._content(_NAMES))
        return names

    def open(self, number: int = 0) -> OpenedFile:
        """Open one file: its descriptor, or one that reads byte ranges.

        Raises:
            VideoRejectedError: If it cannot be read; reading may raise it too.
        """
        os.write(self._socket.fileno(), _REQUEST.pack(_OPEN, number, 0))
        reply, descriptors, _, _ = socket.recv_fds(self._socket, _REPLY.size, 1)
        kind, size = self._received(reply)
        if descriptors:
            return OpenedFile(open(descriptors[0], "rb"), size)
        if kind != _RANGES:
            raise EOFError
        ranges = io.BufferedReader(_Ranges(self, size), buffer_size=storage.READ_AHEAD_BYTES)
        return OpenedFile(cast(BinaryIO, ranges), size)

    def read(self, offset: int, length: int) -> bytes:
        """Return up to ``length`` bytes of the remote file that is open."""
        return self._content(_READ, offset, length)

    def close(self) -> None:
        """Close the remote file that is open."""
        os.write(self._socket.fileno(), _REQUEST.pack(_CLOSE, 0, 0))

    def _content(self, kind: bytes, number: int = 0, length: int = 0) -> bytes:
        os.write(self._socket.fileno(), _REQUEST.pack(kind, number, length))
        return self._exactly(self._received(self._exactly(_REPLY.size))[1])

    def _received(self, reply: bytes) -> tuple[bytes, int]:
        """Return kind and size of a reply; raise the rejection that it announces."""
        kind, size = _REPLY.unpack(reply)
        if kind == _REJECTED:
            code, detail = json.loads(self._exactly(size))
            raise VideoRejectedError(RejectCode(code), detail)
        return kind, size

    def _exactly(self, length: int) -> bytes:
        content = bytearray(length)
        done = 0
        while done < length:  # recv needs a system call that the sandbox refuses
            done += (received := os.readv(self._socket.fileno(), [memoryview(content)[done:]]))
            if not received:
                raise EOFError
        return bytes(content)


class _Ranges(RangeReader):
    """A remote file, read through its lender."""

    def __init__(self, files: BorrowedFiles, size_bytes: int) -> None:
        super().__init__(size_bytes)
        self._files = files

    def readinto(self, buffer: Any) -> int:
        content = self._files.read(self._position, len(buffer)) if self._position < self._size else b""
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)

    def close(self) -> None:
        if not self.closed:
            with suppress(OSError):
                self._files.close()
        super().close()
