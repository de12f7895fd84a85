"""Facts in the path of a DFDM video: generator, quality, identities and scene.

An example of a path in DFDM::

    DFDM_crf23/DFL-H128/id28_id20_0008_5dfl-h128.mp4
         |        |      |    |    |      |
      quality  generator |  source | generator tag
              (a check) target   scene

The real video behind it, if there is one, is ``id28_0008.mp4``, as in Celeb-DF. Its generator is ``real``.
The target is the person in the video, the source the person whose face was put in. Other data
sets use some of these words too (FaceForensics++ has another ``FaceSwap``), so the name of a folder
counts as a generator only above a DFDM name or together with a quality folder.

The tag ``1original`` is disputed. The table of DFDM and its 430 videos per generator say Faceswap; the
authors once wrote that it marks the real videos (first issue of their repository). ``original`` decides.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from dfdm_ray.labels import DFDM_TAGS, QUALITIES, REAL, Generator, parse_generator

_NAME = re.compile(r"(id[0-9]+)_(id[0-9]+)_([0-9]+)(?:_(.*))?", re.IGNORECASE | re.DOTALL)
_REAL_NAME = re.compile(r"(id[0-9]+)_([0-9]+)", re.IGNORECASE)
"""Celeb-DF's name of the real video behind a swap: target and scene."""
_QUALITY_FOLDER = re.compile(r"(?:dfdm[_-]?)?crf[_-]?([0-9]+)", re.IGNORECASE)
_NUM_ROOT_FOLDERS = 3
"""Number of last folders of the root that count: quality, generator and one between."""
_SYSTEM_FOLDERS = {
    *("__macosx", ".appledouble", ".trash", ".trashes", ".spotlight-v100", ".fseventsd", "@eadir"),
    *("$recycle.bin", "system volume information", "#recycle", "@recycle", ".@__thumb"),
}
"""Folders of macOS, Linux, Windows, Synology and QNAP, lower case: thumbnails, indices and deleted files."""
_COPY = re.compile(
    r"^(?:cop(?:y|ie|ia)|kopie) (?:of|de|von) "
    r"|(?:(?: [-\u2013])? |_)(?:cop(?:y|ie|ia)|kopie)(?: \(?[0-9]+\)?)?$"
    r"| ?\([0-9]+\)$| [0-9]+$",
    re.IGNORECASE,
)
"""Mark of a copy: ``x (1)``, ``x copy``, ``x copy 2``, ``x - Copy (2)``, ``x 2``, ``Copy of x``."""
Original = Literal["faceswap", "real"]
"""Meaning of the tag ``1original``."""
_KNOWN_QUALITIES = ", ".join(map(str, QUALITIES))
_KNOWN_TAGS = ", ".join(DFDM_TAGS.values())


@dataclass(frozen=True, kw_only=True)
class DfdmFacts:
    """Facts in one path; ``None`` if unknown."""

    generator: str | None
    """A generator of DFDM, or :data:`dfdm_ray.labels.REAL`."""
    crf: int | None
    target_identity: str | None
    source_identity: str | None
    scene: str | None
    reasons: tuple[str, ...]
    """Why a fact is ``None``, or which folder contradicts the name."""
    looks_like_dfdm: bool
    """Whether the name has the form of DFDM or is below a quality folder."""
    is_original: bool = False
    """Whether the tag is ``1original``."""


def parse_path(path: str, *, root: str = "", original: Original = "faceswap") -> DfdmFacts:
    """Parse the ``path`` of a video below ``root``; never fails.

    The nearest quality folder and the nearest folder with the name of a generator count: first those in
    ``path``, then the last folders of ``root`` (unless ``path`` is absolute). If ``original`` is ``real``,
    a name with the tag ``1original`` is a real video and has no source.
    """
    folders, stem = _folders_and_stem(path, root)
    crf, crf_reason, has_quality_folder = _quality(folders)
    match = _NAME.fullmatch(stem)
    folder = _generator_folder(folders) if match or has_quality_folder else None
    real = _REAL_NAME.fullmatch(stem)
    tag = (match and match[4]) or ""
    is_original = "original" in tag.lower() and parse_generator(tag) is not None
    is_real = real or (is_original and original == "real")
    generator: str | None
    if is_real:
        generator, reasons = REAL, []
    elif match is None:
        reasons = ["name does not match id0_id1_0000_1original"]
        generator = parse_generator(folder) if folder else None
    else:
        reasons = [] if has_quality_folder else ["no quality folder such as DFDM_crf23 above it"]
        generator, generator_reason = _generator(match[4], folder)
        reasons = [generator_reason, *reasons] if generator_reason else reasons
    if crf_reason:
        reasons.append(crf_reason)
    return DfdmFacts(
        generator=generator,
        crf=crf,
        target_identity=named[1].lower() if (named := match or real) else None,
        source_identity=match[2].lower() if match and not is_real else None,
        scene=match[3] if match else real[2] if real else None,
        reasons=tuple(reasons),
        looks_like_dfdm=has_quality_folder or (match is not None and bool(match[4] or folder)),
        is_original=is_original,
    )


def _folders_and_stem(path: str, root: str) -> tuple[list[str], str]:
    """Return the folders above a video, nearest first, and its name without extension."""
    *folders, name = path.split("/")
    if not path.startswith("/"):
        folders = [part for part in root.split("/") if part][-_NUM_ROOT_FOLDERS:] + folders
    stem, dot, _ = name.rpartition(".")
    return folders[::-1], stem if dot else name


def _quality(folders: list[str]) -> tuple[int | None, str | None, bool]:
    """Return the crf, why it is unknown, and whether any folder looks like a quality."""
    for folder in folders:
        if match := _QUALITY_FOLDER.fullmatch(folder):
            crf = int(match[1])
            if crf in QUALITIES:
                return crf, None, True
            return None, f"unknown quality folder {folder}; known are {_KNOWN_QUALITIES}", True
    return None, None, False


def _generator_folder(folders: list[str]) -> str | None:
    # A folder "original" contains real videos in most data sets; as a tag it means Faceswap.
    return next((name for name in folders if parse_generator(name) and name.lower() != "original"), None)


def _generator(tag: str | None, folder: str | None) -> tuple[Generator | None, str | None]:
    """Return the generator that the tag, else the folder, names, and the problem if there is one."""
    if tag is None:
        if folder is None:
            return None, "name has no generator tag and no folder above it names a generator"
        return parse_generator(folder), None
    generator = parse_generator(tag)
    if generator is None:
        return None, f'unknown generator tag "{tag}"; known are {_KNOWN_TAGS}'
    if folder is not None and parse_generator(folder) != generator:
        return generator, f"the name says {generator}, but the folder is {folder}; the name is used"
    return generator, None


def system_part(path: str) -> str | None:
    """Return why ``path`` is a system's own file: its first system folder, ``._*``, or ``None``.

    macOS puts a file ``._x.mp4`` with the attributes of ``x.mp4`` beside it on exFAT disks and file servers.
    """
    *folders, name = path.split("/")
    for folder in folders:
        if folder.lower() in _SYSTEM_FOLDERS or folder.lower().startswith(".trash-"):
            return folder
    return "._*" if name.startswith("._") else None


def find_copies(sizes: Mapping[str, int]) -> dict[str, str]:
    """Return the paths that a file manager gave to copies, each with the original's.

    A copy has the size of a file whose name, or name of a folder, lacks only the mark of a copy.

    Args:
        sizes: Bytes by path.
    """
    found = {}
    for path, size in sizes.items():
        *folders, stem, end = *path.split("/")[:-1], *os.path.splitext(path.rpartition("/")[2])
        parts = [*folders, stem]
        plain = [_COPY.sub("", part) or part for part in parts]
        one_by_one = [[*parts[:at], part, *parts[at + 1 :]] for at, part in enumerate(plain)]
        originals = ("/".join(names) + end for names in [*one_by_one, plain] if names != parts)
        if original := next((one for one in originals if size and sizes.get(one) == size), None):
            found[path] = original
    return found
