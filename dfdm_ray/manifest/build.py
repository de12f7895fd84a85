"""List videos and parse their names into a manifest; oddities become problems, nothing is dropped."""

import csv
import io
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

import pyarrow as pa

from dfdm_ray.errors import UserError, refuse_keys
from dfdm_ray.io import listing, storage
from dfdm_ray.io.listing import FileEntry, ListingProblem
from dfdm_ray.io.terminal import visible
from dfdm_ray.labels import REAL
from dfdm_ray.manifest.names import DfdmFacts, Original, find_copies, parse_path, system_part
from dfdm_ray.manifest.read import is_csv, load_manifest
from dfdm_ray.manifest.sources import (
    VIDEO_EXTENSIONS,
    Listing,
    line_id,
    list_source,
    located,
    nothing_found,
)
from dfdm_ray.schemas import MANIFEST, with_values

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
    """Number of files without a video's extension, by extension (``""`` for none), and of files of operating
    systems, by folder or as ``._*``."""
    is_dfdm: bool
    """Whether any name or folder looks like DFDM; if none does, names that do not parse are no problems."""
    original_note: str | None = None
    """How names with the tag ``1original`` were read; ``None`` if there are none."""

    @property
    def left_out(self) -> str:
        """The counts of other files in one line, ``""`` if there are none."""
        counts = self.num_other_files.items()
        kinds = ", ".join(f"{count:,} {kind or 'without extension'}" for kind, count in counts)
        return f"other files, ignored: {sum(self.num_other_files.values()):,} ({kinds})" if counts else ""


def build_manifest(source: str, *, original: Original = "faceswap") -> ManifestBuild:
    """List the videos of ``source`` and parse their names.

    ``source`` is a folder, a local pattern (``**`` is any number of folders), one video, a list file
    (.txt: one path or URI per line, relative to the folder of the list; ``#`` starts a comment line), a table
    of videos (.csv, see :func:`dfdm_ray.manifest.read.load_manifest`) or a remote prefix. An unreadable entry
    with the name of a video, or in a list file, is a problem and also has a row of size 0, so that scoring
    reports it. ``original`` is the meaning of the tag ``1original``.

    Raises:
        UserError: If ``source`` cannot be read or has no videos.
    """
    if is_csv(source):
        return _of_table(load_manifest(source))
    listed, num_system_files = _without_system_files(list_source(source))
    videos, num_other_files, clashes = _videos(listed)
    num_other_files = dict(sorted({**num_other_files, **num_system_files}.items()))
    if not videos:
        raise nothing_found(source, listed, num_other_files)
    paths = [_path(video.relative) for video in videos]
    facts = [parse_path(path, root=listed.root, original=original) for path in paths]
    is_dfdm = any(fact.looks_like_dfdm for fact in facts)
    troubles = (*listed.unreadable, *listed.doubled)
    problems = [Problem(trouble.relative, trouble.reason) for trouble in troubles] + clashes
    copies = find_copies({video.relative: video.size_bytes for video in videos})
    for video, fact in zip(videos, facts, strict=True):
        reasons = [*fact.reasons] if is_dfdm else []
        if copied := copies.get(video.relative):
            reasons.append(f"looks like a copy of {copied}, with the same size; both count")
        if reasons:
            problems.append(Problem(video.relative, "; ".join(reasons)))
    uris = {video.uri for video in videos}
    lost = [Problem(one.relative, one.reason) for one in listed.unreadable if one.uri not in uris]
    return ManifestBuild(
        table=_table(videos, facts),
        problems=tuple(problems),
        not_listed=tuple(lost),
        num_other_files=num_other_files,
        is_dfdm=is_dfdm,
        original_note=_original_note(sum(fact.is_original for fact in facts), original),
    )


def video_row(path: str, *, folder: str) -> dict[str, object]:
    """Return a row of :data:`schemas.MANIFEST` for one video that is not looked at: its size is 0.

    Args:
        path: Path or URI, which is also the ``video_id``; a relative one is below ``folder``.

    Raises:
        UserError: If it is a URI with a key.
    """
    refuse_keys([path], origin="a path")
    video = FileEntry(uri=located(path, folder), relative=line_id(path), size_bytes=0)
    (row,) = _table([video], [parse_path(_path(video.relative), root=folder)]).to_pylist()
    return dict(row)


def with_real(build: ManifestBuild, source: str) -> ManifestBuild:
    """Return ``build`` with the videos of ``source``, all of them real; their ids begin with its last folder.

    Raises:
        UserError: If ``source`` cannot be read, has no videos, or has ids of ``build``.
    """
    real = build_manifest(source)
    folder = storage.split(source.rstrip("/"))[1]
    ids = [storage.join(folder, name) for name in real.table["video_id"].to_pylist()]
    if double := {*ids} & {*build.table["video_id"].to_pylist()}:
        raise UserError(f"--real {source} contains {min(double)}, which --videos contains too")
    table = with_values(real.table, "video_id", ids)
    for column, value in (("generator", REAL), ("source_identity", None)):
        table = with_values(table, column, [value] * len(ids))
    return replace(
        build,
        table=pa.concat_tables([build.table, table]).sort_by("video_id"),
        problems=(*build.problems, *real.problems),
        not_listed=(*build.not_listed, *real.not_listed),
    )


def _of_table(table: pa.Table) -> ManifestBuild:
    sizes = zip(table["video_id"].to_pylist(), table["size_bytes"].to_pylist(), strict=True)
    problems = tuple(Problem(name, "no such file, or it is empty") for name, size in sizes if not size)
    return ManifestBuild(table=table, problems=problems, not_listed=(), num_other_files={}, is_dfdm=False)


def _original_note(count: int, original: Original) -> str | None:
    if not count:
        return None
    read, other = {"faceswap": ("Faceswap", "real"), "real": ("real videos", "faceswap")}[original]
    return (
        f"names with the tag 1original: {count:,}, read as {read}; `dfdm-ray manifest --original {other}` "
        "changes this, see docs/dfdm.md"
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


def _without_system_files(listed: Listing) -> tuple[Listing, Counter[str]]:
    """Return ``listed`` without files of operating systems, and their number by kind; lists stay whole."""
    if listed.is_list:
        return listed, Counter()
    entries: list[FileEntry | ListingProblem] = [*listed.files, *listed.unreadable]
    kinds = {one.uri: system_part(_path(one.relative)) for one in entries}
    files = tuple(one for one in listed.files if not kinds[one.uri])
    unreadable = tuple(one for one in listed.unreadable if not kinds[one.uri])
    return replace(listed, files=files, unreadable=unreadable), Counter(filter(None, kinds.values()))


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
        "modified_ns": [video.modified_ns for video in videos],
        "generator": [fact.generator and str(fact.generator) for fact in facts],
        **{name: [getattr(fact, name) for fact in facts] for name in _OTHER_FACTS},
        "split": [None] * len(videos),
    }
    return pa.table(columns, schema=MANIFEST)
