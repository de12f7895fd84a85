"""List of the files below a local or remote root, with a reason for every entry that is no readable file."""

import os
import posixpath
import stat
from collections.abc import Container, Iterator
from dataclasses import dataclass
from urllib.parse import quote

import pyarrow.fs as pafs

from dfdm_ray.errors import UserError
from dfdm_ray.io import storage
from dfdm_ray.io.object_store import persistently


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """One regular file below a root."""

    uri: str
    relative: str
    """Path below the root, ``/`` between the parts; bytes that are not UTF-8 are percent-encoded."""
    size_bytes: int
    modified_ns: int | None = None
    """Last change by the clock of the storage, ns since 1970; ``None`` if unknown."""


@dataclass(frozen=True, kw_only=True)
class ListingProblem:
    """An entry below a root that is no readable file."""

    uri: str
    relative: str
    """Path below the root, as in :class:`FileEntry`."""
    reason: str


def list_files(root: str, *, file_extensions: Container[str] = ()) -> Iterator[FileEntry | ListingProblem]:
    """Yield every regular file below ``root`` in a fixed order, and a problem for every other entry.

    Links to files are followed. Links to folders are not followed (they may loop); they are problems. A
    folder whose name ends in one of ``file_extensions`` (lower case, no dot) is a problem too, but its
    files are listed.

    Raises:
        UserError: If ``root`` is not a folder.
    """
    if storage.is_remote(root):
        return _list_remote(root)
    return _list_local(storage.local_path(root), file_extensions)


def extension(path: str) -> str:
    """Return the extension of ``path`` in lower case without the dot, ``""`` if there is none."""
    return posixpath.splitext(path)[1][1:].lower()


def _list_remote(root: str) -> Iterator[FileEntry | ListingProblem]:
    filesystem, path = storage.resolve(root)
    try:
        infos = persistently(lambda: filesystem.get_file_info(pafs.FileSelector(path, recursive=True)))
    except OSError as error:
        raise UserError(f"cannot list {root}: {error}") from error
    for info in sorted(infos, key=lambda info: info.path):
        if info.type == pafs.FileType.File:
            # Keys are text: "a//b", "a/./b" and "a/b" are three objects.
            relative = info.path.removeprefix(path).removeprefix("/")
            uri = storage.join(root, relative)
            try:
                storage.require_known(uri)
            except UserError as error:
                yield ListingProblem(uri=uri, relative=relative, reason=str(error))
            else:
                yield remote_entry(uri, info, relative=relative)


def remote_entry(uri: str, info: pafs.FileInfo, *, relative: str) -> FileEntry:
    """Return the entry of an object."""
    return FileEntry(uri=uri, relative=relative, size_bytes=int(info.size), modified_ns=info.mtime_ns)


def _list_local(root: str, file_extensions: Container[str]) -> Iterator[FileEntry | ListingProblem]:
    if not os.path.isdir(root):
        raise UserError(f"no such folder: {root}")
    errors: list[OSError] = []
    for folder, names, files in os.walk(root, onerror=errors.append):
        names.sort()
        for path in (os.path.join(folder, name) for name in names):
            if os.path.islink(path):
                yield listing_problem(
                    path, "a link to a folder; such links are not followed", relative_to=root
                )
            elif extension(path) in file_extensions:
                yield listing_problem(path, "a folder, not a file", relative_to=root)
        for name in sorted(files):
            yield local_entry(os.path.join(folder, name), relative_to=root)
    for error in errors:
        yield listing_problem(str(error.filename), error.strerror or str(error), relative_to=root)


def listing_problem(path: str, reason: str, *, relative_to: str) -> ListingProblem:
    """Return ``reason`` as the problem of the local ``path``."""
    return ListingProblem(
        uri=storage.local_uri(os.path.abspath(path)), relative=_relative(path, relative_to), reason=reason
    )


def _relative(path: str, root: str) -> str:
    relative = os.path.relpath(path, root).replace(os.sep, "/")
    return relative if storage.local_uri(relative) == relative else quote(os.fsencode(relative))


def local_entry(path: str, *, relative_to: str) -> FileEntry | ListingProblem:
    """Return the entry of a local file, or its problem (a dangling link, a pipe, a folder)."""
    try:
        facts = os.stat(path)
    except OSError as error:
        return listing_problem(path, error.strerror or str(error), relative_to=relative_to)
    if not stat.S_ISREG(facts.st_mode):
        reason = "a folder, not a file" if stat.S_ISDIR(facts.st_mode) else "not a regular file"
        return listing_problem(path, reason, relative_to=relative_to)
    return FileEntry(
        uri=storage.local_uri(os.path.abspath(path)),
        relative=_relative(path, relative_to),
        size_bytes=facts.st_size,
        modified_ns=facts.st_mtime_ns,
    )
