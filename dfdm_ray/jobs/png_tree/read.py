"""Import of a tree of frames: manifest rows and clips.

::

    TREE/[Frame_10_cfr10_train/]DF_class3/Video12/Frame1.png ... Frame10.png

Every folder with frames is one video. An empty folder is a video too, and is rejected. The folder above a
video is its class, spelled as in the README of ``shanface33/Deepfake_Model_Attribution`` (``DF_class3``) or
in its loader (``df3``); folders further up may name split and quality.
"""

import os
import posixpath
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dfdm_ray.clips.child import ClipWork
from dfdm_ray.errors import RejectCode, UserError, VideoRejectedError
from dfdm_ray.io import listing, storage
from dfdm_ray.io.images import PNG_HEADER_BYTES, Image, png_size, read_png
from dfdm_ray.io.lending import Files, OpenedFile
from dfdm_ray.io.listing import FileEntry, ListingProblem
from dfdm_ray.io.object_store import unreadable
from dfdm_ray.labels import GENERATORS
from dfdm_ray.schemas import MANIFEST

if TYPE_CHECKING:
    from dfdm_ray.clips.cut import ClipFacts, FaceClips

_CLASS = re.compile(r"(?:df_class|df)([1-5])", re.IGNORECASE)
_SPLIT = re.compile(r"(?:.*[_-])?(train|val|test)", re.IGNORECASE)
_CRF = re.compile(r"(?:.*[_-])?c(?:rf|fr)_?(\d{1,2})(?:[_-].*)?", re.IGNORECASE)
_NUMBER = re.compile(r"(\d+)\.png", re.IGNORECASE)
_NAMED = 3
"""Missing frames that a message names."""


def list_tree(tree: str, *, crf: int | None = None) -> tuple[pa.Table, list[str]]:
    """Return :data:`schemas.MANIFEST` of the videos in ``tree``, and what could not be listed, with reasons.

    The rows are sorted by ``video_id``, the video's path in the tree.

    Raises:
        UserError: If there is no such folder or no frame in it.
    """
    sizes: dict[str, int] = defaultdict(int)
    times: dict[str, int] = {}
    uris: dict[str, str] = {}
    not_listed: list[str] = []
    for entry in listing.list_files(tree):
        if listing.extension(entry.relative) == "png":
            folder = posixpath.dirname(entry.relative) or "."
            uris[folder] = storage.local_uri(storage.split(entry.uri)[0])
            if isinstance(entry, FileEntry):
                sizes[folder] += entry.size_bytes
                times[folder] = max(times.get(folder, 0), entry.modified_ns or 0)
        elif isinstance(entry, ListingProblem):
            not_listed.append(f"{entry.relative}: {entry.reason}")
    if not uris:
        text = "; ".join([f"no PNG frames below {tree}", *not_listed[:1]])
        raise UserError(f"{text}; give the folder above DF_class1 ... DF_class5")
    uris |= {entry.relative: entry.uri for entry in _empty_folders(tree) if entry.relative not in uris}
    above = posixpath.basename(storage.path_of(tree).rstrip("/"))
    rows = [
        {
            "video_id": folder,
            "uri": uri,
            "size_bytes": sizes.get(folder, 0),
            "modified_ns": times.get(folder) or None,  # of the frame that changed last
            "generator": class_of(uri),
            "crf": _quality(f"{above}/{folder}") if crf is None else crf,
            "split": _last_match(_SPLIT, f"{above}/{folder}"),
        }
        for folder, uri in sorted(uris.items())
    ]
    return pa.Table.from_pylist(rows, schema=MANIFEST), not_listed


def class_of(uri: str) -> str | None:
    """Return the generator named by the folder above ``uri``."""
    match = _CLASS.fullmatch(_class_folder(uri))
    return GENERATORS[int(match[1]) - 1] if match else None


def _class_folder(uri: str) -> str:
    return posixpath.basename(posixpath.dirname(storage.path_of(uri)))


def _quality(folders: str) -> int | None:
    found = _last_match(_CRF, folders)
    return None if found is None else int(found)


def _last_match(pattern: re.Pattern[str], folders: str) -> str | None:
    """Return the group of ``pattern`` in the last folder above the video that matches it."""
    matches = [pattern.fullmatch(name) for name in folders.split("/")[:-1]]
    return next((match[1].lower() for match in reversed(matches) if match), None)


def _empty_folders(tree: str) -> Iterator[FileEntry | ListingProblem]:
    """Yield the local folders at the ends of the tree; object stores have no empty folders."""
    if storage.is_remote(tree):
        return
    root = storage.local_path(tree)
    for folder, below, _ in os.walk(root):
        if not below and folder != root:
            yield listing.local_entry(folder, relative_to=root)


def first_size(manifest: pa.Table) -> int:
    """Return the side of the first square frame, pixels.

    Raises:
        UserError: If there is none.
    """
    for uri in manifest["uri"].to_pylist():
        for entry in _frames(uri):
            try:
                # Only workers decode pictures of unknown origin, within limits; here the header is enough.
                with Files([entry]).open().stream as stream:
                    width, height = png_size(stream.read(PNG_HEADER_BYTES))
            except (VideoRejectedError, OSError, ValueError):
                continue
            if height == width:
                return height
    raise UserError("no frame of the tree is a square PNG; face crops are expected")


class ReadFolders(ClipWork):
    """Read folders of ``num_frames`` frames (T) of ``size`` pixels (S)."""

    def __init__(self, *, num_frames: int, size: int) -> None:
        self._num_frames, self._size = num_frames, size

    def files(self, uri: str) -> list[FileEntry | ListingProblem]:
        """Return the frames of the folder ``uri``.

        Raises:
            VideoRejectedError: If its class is unknown.
        """
        if class_of(uri) is None:
            folder = _class_folder(uri)
            detail = f"the folder above, {folder}, is not one of DF_class1 to DF_class5 or df1 to df5"
            raise VideoRejectedError(RejectCode.UNKNOWN_CLASS, detail)
        return list(_frames(uri))

    def clips(self, files: Files, facts: "ClipFacts") -> "Sequence[FaceClips]":
        """Return the frames of one folder, in order of their numbers, as one clip of a face.

        Raises:
            VideoRejectedError: If frames are missing, too many, damaged or of another size.
        """
        from dfdm_ray.clips.cut import FaceClips  # brings decoders, which workers go without

        started = time.perf_counter()
        names = files.names()
        facts.num_frames_in_video = len(names)
        pictures = []
        for number in in_order(names, num_frames=self._num_frames):
            picture = _read(names[number], files.open, number)
            facts.num_frames_decoded += 1
            if picture.shape != (self._size, self._size, 3):
                height, width = picture.shape[:2]
                expected = f"expected {self._size} x {self._size}"
                raise _unfit(f"{names[number]} has {width} x {height} pixels, {expected}")
            pictures.append(picture)
        facts.seconds_decode = time.perf_counter() - started
        nothing: npt.NDArray[np.float32] = np.zeros(0, np.float32)
        clips = FaceClips(
            crops=np.stack(pictures)[None],
            pts_s=nothing.astype(np.float64),
            boxes_xyxy=nothing.reshape(0, 4),
            landmarks=nothing.reshape(0, 5, 2),
            face_score=None,
        )
        return [clips]


def in_order(names: list[str], *, num_frames: int) -> list[int]:
    """Return positions of ``names`` in order of the number that ends each name: Frame9 before Frame10.

    Raises:
        VideoRejectedError: If there are not ``num_frames``, numbered without gaps from 0 or 1.
    """
    numbered: dict[int, int] = {}
    for at, name in enumerate(names):
        match = _NUMBER.search(name)
        if match is None:
            raise _unfit(f"{name} has no frame number")
        if int(match[1]) in numbered:
            raise _unfit(f"{names[numbered[int(match[1])]]} and {name} have the same number")
        numbered[int(match[1])] = at
    wanted = range(0 if 0 in numbered else 1, max(numbered, default=0) + 1)
    # Names may contain dates: of such a range only the first gaps are searched.
    missing = list(islice((number for number in wanted if number not in numbered), _NAMED + 1))
    if missing:
        listed = ", ".join(map(str, missing[:_NAMED])) + (", ..." if len(missing) > _NAMED else "")
        raise _unfit(f"frame {listed} is missing; found {len(names)}, expected {num_frames}")
    if len(numbered) != num_frames:
        raise _unfit(f"{len(numbered)} frames, expected {num_frames}")
    return [numbered[number] for number in wanted]


def _frames(uri: str) -> Iterator[FileEntry | ListingProblem]:
    try:
        for entry in listing.list_files(uri):
            if "/" not in entry.relative and listing.extension(entry.relative) == "png":
                yield entry
    except UserError as error:
        raise unreadable(error) from error


def _read(name: str, open_file: Callable[[int], OpenedFile], number: int) -> Image:
    try:
        with open_file(number).stream as stream:
            return read_png(stream.read())
    except VideoRejectedError as rejected:
        raise VideoRejectedError(rejected.code, f"{name}: {rejected.detail}") from rejected
    except OSError as error:
        raise VideoRejectedError(unreadable(error).code, f"{name}: {error}") from error
    except ValueError as error:
        raise VideoRejectedError(RejectCode.DECODE_ERROR, f"{name}: {error}") from error


def _unfit(detail: str) -> VideoRejectedError:
    return VideoRejectedError(RejectCode.UNFIT_FRAMES, detail)
