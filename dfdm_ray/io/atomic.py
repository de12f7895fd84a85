"""Local files that appear whole: they are written under another name and renamed."""

import contextlib
import os
import re
import uuid
from collections.abc import Iterator
from typing import BinaryIO

from dfdm_ray.errors import writing

UNFINISHED = re.compile(r".+\.[0-9a-f]{8}\.part")
"""Names made by :func:`unfinished_name`."""


def unfinished_name(path: str) -> str:
    """Return a name for the local file ``path`` while it is written; every writer has another."""
    return f"{path}.{uuid.uuid4().hex[:8]}.part"


@contextlib.contextmanager
def atomic_stream(path: str) -> Iterator[BinaryIO]:
    """Yield a stream to a file that appears when the block ends, as :func:`appearing` does.

    Raises:
        WriteError: If it cannot be written.
    """
    with writing(path), appearing(path) as stream:
        yield stream


@contextlib.contextmanager
def appearing(path: str) -> Iterator[BinaryIO]:
    """Yield a stream to a file that appears, with its folders, when the block ends without an error."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    part = unfinished_name(path)
    try:
        with open(part, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)
