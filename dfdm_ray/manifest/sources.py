"""List of a source of videos: a folder, a pattern, one video, a list file or a remote prefix."""

import glob
import os
import posixpath
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from urllib.parse import quote

from dfdm_ray.errors import UserError, refuse_keys
from dfdm_ray.io import listing, storage
from dfdm_ray.io.listing import FileEntry, ListingProblem
from dfdm_ray.io.terminal import visible

VIDEO_EXTENSIONS = (
    *("mp4", "m4v", "mov", "mkv", "webm", "avi", "mpg", "mpeg"),
    *("ts", "m2ts", "mts", "wmv", "flv", "3gp", "ogv"),
)
"""Extensions that make a file a video, lower case, without the dot."""

NUM_STAT_THREADS = 16  # an object store needs tens of milliseconds for each size
_CHOICES = (
    "give a folder, a pattern such as 'videos/**/*.mp4', a video, a list of videos (.txt) or an s3:// prefix"
)


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Entries of a source; ``relative`` of an entry is the ``video_id``."""

    root: str
    """Path above the relative ids."""
    files: tuple[FileEntry, ...]
    unreadable: tuple[ListingProblem, ...]
    """Entries of a folder or a list file that are no readable files."""
    doubled: tuple[ListingProblem, ...] = ()
    """Lines of a list file that repeat a file."""
    is_list: bool = False
    """Whether the source is a list file; then files without a video's extension count too."""


def list_source(source: str) -> Listing:
    """Return the entries of ``source``.

    Raises:
        UserError: If it does not exist or cannot contain videos.
    """
    storage.require_known(source)
    if storage.is_remote(source):
        return _remote_source(source)
    path = storage.local_path(source)
    if os.path.isdir(path):
        return _sorted_out(
            listing.list_files(source, file_extensions=VIDEO_EXTENSIONS), os.path.abspath(path)
        )
    if os.path.isfile(path):
        return _file_source(source)
    if glob.has_magic(path):
        return _glob_source(path)
    reason = "not a regular file" if os.path.exists(path) else "no such file or folder"
    raise UserError(f"{reason}: {visible(source) or repr(source)}; {_CHOICES}")


def nothing_found(source: str, listed: Listing, num_other_files: dict[str, int]) -> UserError:
    """Return the error for a source without videos, with what it contains instead."""
    most = sorted(num_other_files.items(), key=lambda item: -item[1])[:5]
    found = ", ".join(f"{count} {visible(name) or 'without extension'}" for name, count in most)
    problems = listed.unreadable
    text = f"no videos in {visible(source)}: no name ends in {', '.join(VIDEO_EXTENSIONS)}"
    text += f"; other files: {sum(num_other_files.values())}" + (f" ({found})" if found else "")
    if problems:
        first = f"{visible(problems[0].relative)}: {visible(problems[0].reason)}"
        text += f"; problems: {len(problems)}, the first is {first}"
    return UserError(f"{text}; {_CHOICES}")


def _sorted_out(entries: Iterable[FileEntry | ListingProblem], root: str) -> Listing:
    found = list(entries)
    return Listing(
        root=root,
        files=tuple(entry for entry in found if isinstance(entry, FileEntry)),
        unreadable=tuple(entry for entry in found if isinstance(entry, ListingProblem)),
    )


def _remote_source(source: str) -> Listing:
    path = storage.path_of(source)
    if "*" in path:
        raise UserError(
            f"patterns work on local files only, not in {visible(source)}; give the prefix before the "
            "first * or a list of videos (.txt)"
        )
    kind = listing.extension(path)
    if kind == "txt" or (kind in VIDEO_EXTENSIONS and _is_remote_file(source)):
        return _file_source(source)
    return _sorted_out(listing.list_files(source), path)


def _is_remote_file(uri: str) -> bool:
    try:
        storage.size_bytes(uri)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise UserError(f"cannot read {visible(uri)}: {error}") from error
    return True


def _file_source(uri: str) -> Listing:
    path = storage.path_of(uri)
    kind = listing.extension(path)
    if kind == "txt":
        return _list_file_source(uri)
    if kind not in VIDEO_EXTENSIONS:
        raise UserError(
            f"{visible(uri)} has no extension of a video ({', '.join(VIDEO_EXTENSIONS)}); if it is one, "
            "put its path into a list file (.txt)"
        )
    if not storage.is_remote(uri):
        folder = os.path.dirname(os.path.abspath(path))
        return _sorted_out([listing.local_entry(os.path.abspath(path), relative_to=folder)], folder)
    folder, _, name = path.rpartition("/")
    return _sorted_out([listing.remote_entry(uri, storage.file_info(uri), relative=name)], folder)


def read_lines(uri: str, *, what: str = "list of videos") -> Iterator[tuple[int, str]]:
    """Yield number and text of each line of a list that is neither blank nor a comment (``#``).

    Raises:
        UserError: If the list cannot be read or is no text.
    """
    content = storage.read_bytes(uri, what=what)
    if b"\0" in content:
        raise UserError(f"the {what} {visible(uri)} is not UTF-8 text (UTF-16?); save it as UTF-8")
    for number, raw in enumerate(content.decode("utf-8-sig", "surrogateescape").split("\n"), start=1):
        line = raw.strip()
        if line and not line.startswith("#"):
            yield number, line


def _list_file_source(uri: str) -> Listing:
    folder = storage.split(uri if storage.is_remote(uri) else os.path.abspath(storage.local_path(uri)))[0]
    lines: dict[str, tuple[int, str]] = {}
    doubled = []
    for number, line in read_lines(uri):
        line_uri = located(line, folder)
        if line_uri in lines:
            reason = f"line {number} names the same file as line {lines[line_uri][0]}; the file counts once"
            doubled.append(ListingProblem(uri=line_uri, relative=line_id(line), reason=reason))
        else:
            lines[line_uri] = (number, line)
    refuse_keys(lines, origin=f"the list of videos {visible(uri)}")
    with ThreadPoolExecutor(NUM_STAT_THREADS) as pool:
        entries = pool.map(_line_entry, lines, [line for _, line in lines.values()])
        listed = _sorted_out(entries, storage.path_of(folder))
    return replace(listed, doubled=tuple(doubled), is_list=True)


def line_id(line: str) -> str:
    """Return the ``video_id`` of a line of a list file: the line, percent-encoded if it is not UTF-8."""
    return line if storage.local_uri(line) == line else quote(os.fsencode(line))


def located(line: str, folder: str) -> str:
    """Return the URI of a line of a list file, or of an entry of a manifest, in ``folder``."""
    if "://" in line and not line.startswith("file://"):
        return line
    if storage.is_remote(folder) and not line.startswith(("file://", "/")):
        is_dotted = not {".", ".."}.isdisjoint(line.split("/"))
        return storage.join(folder, posixpath.normpath(line) if is_dotted else line)
    return storage.local_uri(os.path.abspath(os.path.join(folder, storage.local_path(line))))


def _line_entry(uri: str, line: str) -> FileEntry | ListingProblem:
    name = line_id(line)
    if "://" not in uri or uri.startswith("file://"):
        return replace(listing.local_entry(storage.local_path(uri), relative_to="/"), relative=name)
    try:
        storage.resolve(uri)  # raises for unknown schemes
        return listing.remote_entry(uri, storage.file_info(uri), relative=name)
    except FileNotFoundError:
        return ListingProblem(uri=uri, relative=name, reason="No such file or directory")
    except (OSError, UserError) as error:
        return ListingProblem(uri=uri, relative=name, reason=str(error))


def _glob_source(pattern: str) -> Listing:
    absolute = os.path.abspath(pattern)
    parts = absolute.split("/")
    num_fixed = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    base = "/".join(parts[:num_fixed]) or "/"
    unlistable: list[OSError] = []
    entries: list[FileEntry | ListingProblem] = []
    for path in dict.fromkeys(_matches(base, parts[num_fixed:], unlistable)):
        if os.path.isdir(path):
            reason = "a folder, not a file; end the pattern in /** to include its files"
            entries.append(listing.listing_problem(path, reason, relative_to=base))
        else:
            entries.append(listing.local_entry(path, relative_to=base))
    entries += [
        listing.listing_problem(str(error.filename), error.strerror or str(error), relative_to=base)
        for error in unlistable
    ]
    return _sorted_out(entries, base)


def _matches(folder: str, parts: list[str], unlistable: list[OSError]) -> Iterator[str]:
    """Yield the paths below ``folder`` that match the ``parts`` of a pattern, in sorted order.

    As in a shell, ``*`` does not match a leading dot, and ``**`` is any number of folders. Unlike
    ``glob.glob``, ``**`` follows no links (they may loop), and errors of folders go to ``unlistable``.
    """
    if not parts:
        yield folder
        return
    head, *rest = parts
    if not glob.has_magic(head):
        path = os.path.join(folder, head)
        if os.path.lexists(path):
            yield from _matches(path, rest, unlistable)
        return
    try:
        with os.scandir(folder) as scan:
            found = sorted(scan, key=lambda entry: entry.name)
    except NotADirectoryError:
        return
    except OSError as error:
        unlistable.append(error)
        return
    if head == "**" and rest:
        yield from _matches(folder, rest, unlistable)
    for entry in found:
        if entry.name.startswith(".") and not head.startswith("."):
            continue
        if head == "**":
            if entry.is_dir(follow_symlinks=False):
                yield from _matches(entry.path, parts, unlistable)
            elif not rest:
                yield entry.path
        elif fnmatchcase(entry.name, head):
            yield from _matches(entry.path, rest, unlistable)
