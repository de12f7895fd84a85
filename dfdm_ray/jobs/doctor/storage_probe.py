"""Reads and writes storage as jobs do, and leaves nothing there.

But that ``pyarrow`` marks the folder of an object it has deleted as an empty one.
"""

import hashlib
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pyarrow.fs as pafs

from dfdm_ray.errors import UserError
from dfdm_ray.io import storage
from dfdm_ray.jobs.doctor.probe import within

_DEEPEST = 6
"""Folders below each other in which a file to read is looked for."""


def look_at(
    *, reads: Sequence[str], writes: Sequence[str], marks: Sequence[str], name: str, seconds: float
) -> list[dict[str, Any]]:
    """Return the fields of :class:`dfdm_ray.jobs.doctor.facts.Stored` for each URI.

    Args:
        reads: Files, folders and prefixes.
        writes: Folders and prefixes; they need not be there.
        marks: Those of ``writes`` in which the driver has put a file called ``name``.
        name: Of that file.
        seconds: For all of it; what does not answer is told so.
    """
    until = time.monotonic() + seconds

    def seen(uri: str, use: str, call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        try:
            return {"uri": uri, "use": use, **within(max(1.0, until - time.monotonic()), call)}
        except (OSError, UserError, ValueError) as error:  # those of pyarrow and of time are among them
            return {"uri": uri, "use": use, "error": told(error)}

    found = [seen(uri, "reads", lambda uri=uri: _read(uri)) for uri in reads]  # type: ignore[misc]
    for uri in writes:
        mark = name if uri in marks else None
        found.append(seen(uri, "writes", lambda uri=uri, mark=mark: _write(uri, mark)))  # type: ignore[misc]
    return found


@contextmanager
def marked(uri: str, name: str) -> Iterator[None]:
    """Keep a small file called ``name`` in the folder ``uri`` while the block runs; raises ``OSError``."""
    with ExitStack() as undo:
        if not storage.is_remote(uri):
            for folder in _missing_folders(storage.local_path(uri)):
                undo.callback(_remove_empty, folder)
        file = storage.join(uri, name)
        storage.write_atomic(file, name.encode())
        undo.callback(storage.remove_file, file)
        yield


def told(error: Exception) -> str:
    """Return what ``error`` says, without the path of a trial file that nobody knows."""
    return " ".join(str(getattr(error, "strerror", None) or error).split())


def _write(uri: str, mark: str | None) -> dict[str, Any]:
    shared = None if mark is None else storage.exists(storage.join(uri, mark))
    with marked(uri, f".dfdm-ray-doctor-{uuid.uuid4().hex}"):
        return {"shared": shared}


def _read(uri: str) -> dict[str, Any]:
    filesystem, path = storage.resolve(uri)
    info = filesystem.get_file_info(path)
    if info.type == pafs.FileType.NotFound:
        raise FileNotFoundError("not there")
    if info.type != pafs.FileType.Directory:
        _read_byte(filesystem, path)
        return {"size_bytes": info.size}
    inside = filesystem.get_file_info(pafs.FileSelector(path))
    names = sorted(one.base_name for one in inside)
    for _ in range(_DEEPEST):
        files = [one for one in inside if one.type == pafs.FileType.File and one.size]
        if files:
            _read_byte(filesystem, files[0].path)
            break
        folders = [one for one in inside if one.type == pafs.FileType.Directory]
        if not folders:
            break
        inside = filesystem.get_file_info(pafs.FileSelector(folders[0].path))
    listed = "\n".join(names).encode("utf-8", "surrogateescape")
    return {"num_names": len(names), "names_sha256": hashlib.sha256(listed).hexdigest()}


def _read_byte(filesystem: pafs.FileSystem, path: str) -> None:
    with filesystem.open_input_file(path) as file:
        file.read(1)


def _missing_folders(path: str) -> list[str]:
    """Return the folders of ``path`` that writing into it makes, the outermost first."""
    missing: list[str] = []
    folder = os.path.abspath(path)
    while not os.path.lexists(folder):
        missing.insert(0, folder)
        folder = os.path.dirname(folder)
    return missing


def _remove_empty(folder: str) -> None:
    with suppress(OSError):  # another node's file is in it, and that node removes it
        os.rmdir(folder)
