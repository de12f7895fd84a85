"""How much of a file the default plan reads, and in how many requests, were it on an object store."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from floor import planned

from dfdm_ray.io import storage
from dfdm_ray.io.object_store import RemoteFile
from dfdm_ray.video.decode import VideoReader


class Counted:
    """A local file that answers as an object does, and counts."""

    def __init__(self) -> None:
        self.bytes_read, self.requests = 0, 2  # size and existence are asked before

    def open(self, uri: str) -> BinaryIO:
        """Return ``uri`` opened as a remote file."""
        self._content = Path(uri).read_bytes()
        file = RemoteFile(cast(Any, self))
        return cast(BinaryIO, io.BufferedReader(file, buffer_size=storage.READ_AHEAD_BYTES))

    def size(self) -> int:
        """Return the object's size, bytes."""
        return len(self._content)

    def read_at(self, count: int, start: int) -> bytes:
        """Return a range of the object."""
        content = self._content[start : start + count]
        self.bytes_read += len(content)
        self.requests += 1
        return content

    def close(self) -> None:
        """Close nothing."""


@contextmanager
def _counted() -> Iterator[Counted]:
    usual, counted = storage.open_input, Counted()
    storage.open_input = counted.open
    try:
        yield counted
    finally:
        storage.open_input = usual


def reading(path: Path) -> tuple[int, int]:
    """Return bytes and requests to decode ten frames of ``path`` in two runs, the default of ``score``."""
    with _counted() as counted, VideoReader(str(path)) as reader:
        for batch in reader.read_planned(planned(reader.index), flexible=True):
            assert len(batch.rgb)
    return counted.bytes_read, counted.requests
