"""How much of a file the default plan reads, and in how many requests, were it on an object store."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from dfdm_ray import storage
from dfdm_ray.video.decode import VideoReader
from dfdm_ray.video.plan import plan_frames


class CountedFile(io.FileIO):
    """A local file that counts what reaches it through the read-ahead of remote files."""

    bytes_read, requests = 0, 0

    def readinto(self, buffer: Any) -> int:
        """Read, and count."""
        count = super().readinto(buffer)
        CountedFile.bytes_read += count
        CountedFile.requests += 1
        return count


@contextmanager
def _counted() -> Iterator[None]:
    usual, CountedFile.bytes_read, CountedFile.requests = storage.open_input, 0, 0

    def open_input(uri: str) -> BinaryIO:
        return cast(BinaryIO, io.BufferedReader(CountedFile(uri), buffer_size=storage.READ_AHEAD_BYTES))

    storage.open_input = open_input
    try:
        yield
    finally:
        storage.open_input = usual


def reading(path: Path) -> tuple[int, int]:
    """Return bytes and requests to decode ten frames of ``path`` in two runs, the default of ``score``.

    One request more asks for the file's size.
    """
    with _counted(), VideoReader(str(path)) as reader:
        keys, count = reader.index.keys, len(reader.index)
        plan = plan_frames("keyframe_runs", keys, num_frames=count, wanted=10, runs=2)
        for batch in reader.read_planned(plan.runs, flexible=True):
            assert len(batch.rgb)
    return CountedFile.bytes_read, CountedFile.requests + 1
