"""Splits from lists of names, such as DFDM's own train and test lists.

A line names a video with or without its folders and ending; a class number or another word beside the name
is ignored. A DFDM name without a folder is this swap at all qualities; without a tag, as in
``id0_id1_0000``, it is this swap by all generators.
"""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dfdm_ray.errors import UserError
from dfdm_ray.io.terminal import visible
from dfdm_ray.jobs.manifest.splits import split_groups, with_splits
from dfdm_ray.manifest.build import Problem
from dfdm_ray.manifest.names import parse_path
from dfdm_ray.manifest.networks import pairs_of
from dfdm_ray.manifest.sources import read_lines

_OF_TRAIN = {"train": 6 / 7, "val": 1 / 7}
"""Shares of the train list; those of ``--split video``, which follows the paper too."""


def split_by_lists(
    table: pa.Table, *, train_list: str, test_list: str, seed: int
) -> tuple[pa.Table, list[Problem]]:
    """Return ``table``, a manifest, split by two lists, and the names that match no video or several.

    Val is taken from the train list by pair of identities, so that no network is in train and in val. Videos
    that no list names, or both, have no split.

    Raises:
        UserError: If a list cannot be read or matches no video, or the train list has fewer than two pairs.
    """
    videos, problems = _Videos(table), []
    lines: list[dict[str, int]] = [{} for _ in range(table.num_rows)]
    for split, uri in (("train", train_list), ("test", test_list)):
        problems += _read(split, uri, videos, lines)
    for video_id, found in zip(table["video_id"].to_pylist(), lines, strict=True):
        if len(found) > 1:
            places = " and ".join(f"{split} line {number}" for split, number in found.items())
            problems.append(Problem(video_id, f"in both lists ({places}); it has no split"))
    splits = np.array([next(iter(found)) if len(found) == 1 else None for found in lines], dtype=object)
    in_train = splits == "train"
    train = table.filter(pa.array(in_train))
    pairs = pairs_of(train)
    if (num_pairs := pc.count_distinct(pairs).as_py()) < len(_OF_TRAIN):
        raise UserError(
            f"the train list {visible(train_list)} names too few pairs of identities, {num_pairs}; at least "
            "two are needed, because val is taken from it by pair"
        )
    chosen = split_groups(train, pairs, _OF_TRAIN, np.random.default_rng(seed))
    splits[in_train] = np.where(chosen == None, "train", chosen)  # noqa: E711  # elementwise
    return with_splits(table, splits, method="lists", seed=seed), problems


def _read(split: str, uri: str, videos: "_Videos", lines: list[dict[str, int]]) -> list[Problem]:
    """Note in ``lines`` which line of the list names each video, and return the problems of the list."""
    problems = []
    num_found = num_unknown = 0
    for number, line in read_lines(uri, what=f"{split} list"):
        found, reason = videos.find(line), None
        num_found, num_unknown = num_found + bool(found), num_unknown + (not found)
        if not found:
            reason = "matches no video"
        elif earlier := next((lines[row][split] for row in found if split in lines[row]), None):
            reason = f"names a video of line {earlier} again; it counts once"
        elif copies := videos.copies(found):
            reason = f"matches several videos of one quality, all now in {split}: {', '.join(copies)}"
        for row in found:
            lines[row].setdefault(split, number)
        if reason:
            problems.append(Problem(f"{split} list, line {number}: {line}", reason))
    if not num_found:
        such = f", such as {problems[0].name}" if problems else ""
        raise UserError(
            f"the {split} list {visible(uri)} names none of the videos: {num_unknown} names match no video"
            f"{visible(such)}"
        )
    return problems


class _Videos:
    """The videos of a manifest by the names that a list may give them."""

    def __init__(self, table: pa.Table) -> None:
        self._ids: list[str] = table["video_id"].to_pylist()
        self._facts = [*zip(table["crf"].to_pylist(), table["generator"].to_pylist(), strict=True)]
        self._parts = [_parts(video_id) for video_id in self._ids]
        self._by_key: dict[str, list[int]] = {}
        for index, (*_, name) in enumerate(self._parts):
            fact = parse_path(name)
            swap = f"{fact.target_identity}_{fact.source_identity}_{fact.scene}"
            for key in {name, _stem(name), *([swap] if fact.source_identity else [])}:
                self._by_key.setdefault(key, []).append(index)

    def find(self, line: str) -> list[int]:
        """Return the rows that ``line`` names: as a whole, else by its longest word."""
        for text in (line, max(re.split(r"[\s,;\"']+", line.partition(" #")[0]), key=len)):
            parts = _parts(text)
            if found := self._by_key.get(parts[-1]) or self._by_key.get(_stem(parts[-1])):
                return self._best(found, parts)
        return []

    def _best(self, found: Sequence[int], parts: list[str]) -> list[int]:
        """Return the rows of ``found`` with quality, generator and most folders of a listed path."""
        wanted = parse_path("/".join(parts))
        num_common = {}
        for index in found:
            crf, generator = self._facts[index]
            if wanted.crf in (None, crf) and (
                None in (wanted.generator, generator) or wanted.generator == generator
            ):
                pairs = zip(reversed(parts), reversed(self._parts[index]), strict=False)
                folders = [one == other for one, other in pairs][1:]
                num_common[index] = (*folders, False).index(False)
        return [index for index, number in num_common.items() if number == max(num_common.values())]

    def copies(self, found: Sequence[int]) -> list[str]:
        """Return the ids of the rows of ``found`` that share name and quality with another."""
        kinds = {index: (_stem(self._parts[index][-1]), self._facts[index][0]) for index in found}
        counts = Counter(kinds.values())
        return [self._ids[index] for index, kind in kinds.items() if counts[kind] > 1]


def _parts(path: str) -> list[str]:
    """Return folders and name, lower case; a backslash separates too."""
    return path.lower().replace("\\", "/").rstrip("/").split("/")


def _stem(name: str) -> str:
    return name.rpartition(".")[0] or name
