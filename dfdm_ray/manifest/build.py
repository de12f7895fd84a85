"""List videos and parse their names into a manifest; oddities become problems, nothing is dropped."""

import csv
import io
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

import pyarrow as pa

from dfdm_ray.errors import UserError
from dfdm_ray.io import listing, storage
from dfdm_ray.io.listing import FileEntry
from dfdm_ray.io.terminal import visible
from dfdm_ray.manifest.names import DfdmFacts, parse_path
from dfdm_ray.manifest.sources import VIDEO_EXTENSIONS, Listing, list_source, nothing_found
from dfdm_ray.schemas import MANIFEST

_OTHER_FACTS = ("crf", "target_identity", "source_identity", "scene")


@dataclass(frozen=True)
class Problem:
    """A fact about one input that the user should know."""

    name: str
    """The ``video_id`` if there is a row, else the path below the source."""
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


@dataclass(frozen=True, kw_only=True)
class ManifestBuild:
    """A manifest without splits, and the problems found while it was made."""

    table: pa.Table
    """:data:`schemas.MANIFEST`, sorted by ``video_id``."""
    problems: tuple[Problem, ...]
    not_listed: tuple[Problem, ...]
    """The problems that have no row: unreadable folders and links to folders, with unknown content."""
    num_other_files: dict[str, int]
    """Number of files without a video's extension, by extension; ``""`` for none."""
    is_dfdm: bool
    """Whether any name or folder looks like DFDM; if none does, names that do not parse are no problems."""


def build_manifest(source: str) -> ManifestBuild:
    """List the videos of ``source`` and parse their names.

    ``source`` is a folder, a local pattern (``**`` is any number of folders), one video, a list file
    (.txt: one path or URI per line, relative to the folder of the list; ``#`` starts a comment line) or a
    remote prefix. An unreadable entry with the name of a video, or in a list file, is a problem and also
    has a row of size 0, so that scoring reports it.

    Raises:
        UserError: If ``source`` cannot be read or has no videos.
    """
    listed = list_source(source)
    videos, num_other_files, clashes = _videos(listed)
    if not videos:
        raise nothing_found(source, listed, num_other_files)
    facts = [parse_path(_path(video.relative), root=listed.root) for video in videos]
    is_dfdm = any(fact.looks_like_dfdm for fact in facts)
    troubles = (*listed.unreadable, *listed.doubled)
    problems = [Problem(trouble.relative, trouble.reason) for trouble in troubles] + clashes
    if is_dfdm:
        reasons = [
            (video.relative, "; ".join(fact.reasons)) for video, fact in zip(videos, facts, strict=True)
        ]
        problems += [Problem(name, reason) for name, reason in reasons if reason]
    uris = {video.uri for video in videos}
    lost = [Problem(one.relative, one.reason) for one in listed.unreadable if one.uri not in uris]
    return ManifestBuild(
        table=_table(videos, facts),
        problems=tuple(problems),
        not_listed=tuple(lost),
        num_other_files=num_other_files,
        is_dfdm=is_dfdm,
    )


def write_manifest(uri: str, build: ManifestBuild, table: pa.Table) -> str | None:
    """Write ``table`` to ``uri``, and the problems of ``build`` to a CSV file beside it.

    Returns:
        URI of the CSV file; ``None`` if there are no problems, and then an old file is removed.

    Raises:
        UserError: If a file cannot be written.
    """
    folder, name = storage.split(uri)
    problems_uri = storage.join(folder, f"{name.removesuffix('.parquet')}.problems.csv")
    try:
        storage.write_parquet(uri, table)
        if build.problems:
            text = io.StringIO()
            rows = [(problem.name, problem.reason) for problem in build.problems]
            csv.writer(text, lineterminator="\n").writerows([("name", "reason"), *rows])
            storage.write_atomic(problems_uri, text.getvalue().encode("utf-8", "backslashreplace"))
            return problems_uri
        if storage.exists(problems_uri):
            storage.remove_file(problems_uri)
    except OSError as error:
        raise UserError(f"cannot write the manifest {visible(uri)}: {error.strerror or error}") from error
    return None


def _videos(listed: Listing) -> tuple[list[FileEntry], dict[str, int], list[Problem]]:
    """Return the videos sorted by id, the count of other files by extension, and clashes of ids."""
    found: list[FileEntry] = []
    num_other_files: Counter[str] = Counter()
    for entry in listed.files:
        kind = listing.extension(_path(entry.relative))
        if listed.is_list or kind in VIDEO_EXTENSIONS:
            found.append(entry)
        else:
            num_other_files[kind] += 1
    called = [one for one in listed.unreadable if listing.extension(_path(one.relative)) in VIDEO_EXTENSIONS]
    if listed.is_list and (found or called):  # else it is a text file, not a list
        called = [*listed.unreadable]
    found += [FileEntry(uri=one.uri, relative=one.relative, size_bytes=0) for one in called]
    by_id, clashes = _by_id(found)
    return [by_id[key] for key in sorted(by_id)], dict(sorted(num_other_files.items())), clashes


def _by_id(videos: Iterable[FileEntry]) -> tuple[dict[str, FileEntry], list[Problem]]:
    """Give each video its own id; the encoded form of a name that is not UTF-8 may equal another name."""
    by_id: dict[str, FileEntry] = {}
    clashes = []
    for video in sorted(videos, key=lambda video: (video.relative, video.uri)):
        if video.relative not in by_id:
            by_id[video.relative] = video
        elif video.uri not in by_id:
            by_id[video.uri] = replace(video, relative=video.uri)
            reason = f"its id is its URI, because another file has the id {video.relative}"
            clashes.append(Problem(video.uri, reason))
    return by_id, clashes


def _path(video_id: str) -> str:
    """Return the decoded path in an id; in a list file the id may be a URI, even a malformed one."""
    try:
        return storage.path_of(video_id)
    except UserError:
        return video_id


def _table(videos: list[FileEntry], facts: list[DfdmFacts]) -> pa.Table:
    columns = {
        "video_id": [video.relative for video in videos],
        "uri": [video.uri for video in videos],
        "size_bytes": [video.size_bytes for video in videos],
        "generator": [fact.generator and str(fact.generator) for fact in facts],
        **{name: [getattr(fact, name) for fact in facts] for name in _OTHER_FACTS},
        "split": [None] * len(videos),
    }
    return pa.table(columns, schema=MANIFEST)
