"""Assignment of videos to train, val and test.

In DFDM the same (target, source, scene) exists for every generator and quality, so a split by file
puts the same content on both sides and inflates every score. A network is trained on an unordered pair of
identities and swaps in both directions, so a split by target puts ``id0_id1`` and ``id1_id0``, which are
one network, and the sources on both sides.

A split by scene gives each split one run of consecutive scenes of each target. Scenes may be cut from one
recording without a gap; ``dfdm-ray generate`` does so. If scenes were drawn one by one, a test scene could
begin one frame after a training scene, and its nearest picture in training would give the label away.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dfdm_ray.errors import UserError
from dfdm_ray.jobs.manifest.partition import Floats, Ints, choose, choose_runs
from dfdm_ray.jobs.manifest.people import People
from dfdm_ray.manifest.networks import natural, pairs_of
from dfdm_ray.schemas import MANIFEST

SPLITS = ("train", "val", "test")
GROUP_FRACTIONS: Mapping[str, float] = {"train": 0.70, "val": 0.15, "test": 0.15}
VIDEO_FRACTIONS: Mapping[str, float] = {"train": 0.60, "val": 0.10, "test": 0.30}
"""The paper's 70/30, with val taken from the 70; the authors choose the best epoch on the test videos."""
MAX_LEFT_OUT = 1 / 3
"""Share of the videos that the default split may leave out to keep all people apart."""

METADATA_METHOD = b"split_method"
METADATA_SEED = b"split_seed"
METADATA_WARNING = b"split_warning"
LEAK_WARNING = (
    "split by video: the same target, source and scene are in train and in test, so scores on test "
    "are too high; use it only to compare with the paper"
)

Method = Literal["strict", "network", "identity", "scene", "video"]
_DEFAULTS: tuple[Method, ...] = ("strict", "network", "scene")
_GROUPS = {
    "strict": ("pair of identities is", "pairs of identities are"),
    "network": ("pair of identities is", "pairs of identities are"),
    "identity": ("target identity is", "target identities are"),
    "scene": ("scene of a target is", "scenes of a target are"),
}

_Names = npt.NDArray[np.object_]


def assign_splits(table: pa.Table, *, method: Method, seed: int = 0) -> pa.Table:
    """Return ``table``, a manifest, with ``split`` filled; the order of its rows does not matter.

    ``strict`` keeps every person in one split, as target and as source; it leaves out the videos of two
    people in different splits. ``network`` keeps every unordered pair of identities in one split.
    ``identity`` keeps all videos of a target identity in one split. ``scene`` keeps all videos of one
    scene of a target in one split, and gives every split a run of each target's scenes. A video without a
    source, hence of no network, goes with its target. ``split`` is null in rows that lack these facts.
    ``video`` draws files at random, as the paper does; it leaks, and the table's metadata contain a warning.
    Several seeds may give the same strict split, as it is the best of several attempts.

    Raises:
        UserError: If the seed is negative or there are too few videos to split.
    """
    if seed < 0:
        raise UserError(f"the seed of a split must be at least 0, got {seed}")
    split = {
        **{"strict": _by_person, "network": _by_network, "identity": _by_target},
        **{"scene": _by_scene, "video": _by_video},
    }[method]
    return with_splits(table, split(table, np.random.default_rng(seed)), method=method, seed=seed)


def split_by_default(table: pa.Table, *, seed: int = 0) -> tuple[pa.Table, str]:
    """Split ``table`` by the first method that fits: strict, network, scene; return also which, and why.

    Strict fits if it leaves out at most :data:`MAX_LEFT_OUT` of the videos.

    Raises:
        UserError: If no method fits.
    """
    unfit: dict[str, list[str]] = {}
    for method in _DEFAULTS:
        try:
            done = assign_splits(table, method=method, seed=seed)
        except UserError as error:
            if method == _DEFAULTS[-1]:
                raise
            reason = str(error).partition(";")[0].partition(": ")[2]
            unfit.setdefault(f"cannot split: {reason}", []).append(method)
            continue
        left_out = done.filter(pc.is_valid(done["target_identity"]))["split"]
        share = left_out.null_count / len(left_out)
        if method == "strict" and share > MAX_LEFT_OUT:
            unfit[f"would leave out {share:.0%} of the videos"] = [method]
            continue
        reasons = "; ".join(f"{' and '.join(methods)} {reason}" for reason, methods in unfit.items())
        return done, f"default split: {method}" + (f", because {reasons}" if reasons else "")
    raise AssertionError


def with_splits(table: pa.Table, splits: _Names, *, method: str, seed: int) -> pa.Table:
    """Return ``table`` with ``splits``, the split of each row or ``None``, and with metadata on them."""
    metadata: dict[bytes, bytes] = dict(table.schema.metadata or {})
    metadata.pop(METADATA_WARNING, None)
    metadata |= {METADATA_METHOD: method.encode(), METADATA_SEED: str(seed).encode()}
    if method == "video":
        metadata[METADATA_WARNING] = LEAK_WARNING.encode()
    column = pa.array(splits, pa.string())
    index = table.column_names.index("split")
    return table.set_column(index, MANIFEST.field("split"), column).replace_schema_metadata(metadata)


def split_groups(
    table: pa.Table, groups: pa.Array, wanted: Mapping[str, float], rng: np.random.Generator
) -> _Names:
    """Return a split for each row, ``None`` where its group is null; rows of one group share a split.

    Args:
        wanted: Share of each split in every generator and quality; none is empty if the groups suffice.
    """
    grouped = _grouped(table, groups)
    return grouped.spread(choose(grouped.counts, np.array(list(wanted.values())), rng), wanted)


def _by_person(table: pa.Table, rng: np.random.Generator) -> _Names:
    grouped = _grouped(table, pairs_of(table))
    if not grouped.names:
        return _by_target(table, rng)
    _require(len(grouped.names), "strict")
    pairs = [name.split("+") for name in grouped.names]
    people = sorted({person for pair in pairs for person in pair}, key=natural)
    number = {person: index for index, person in enumerate(people)}
    edges = np.array([[number[person] for person in pair] for pair in pairs])
    chosen = People(edges, grouped.counts, np.array(list(GROUP_FRACTIONS.values()))).split(rng)
    if len({chosen[a] for a, b in edges if chosen[a] == chosen[b]}) < len(SPLITS):
        raise UserError(
            f"cannot split by strict: no {len(SPLITS)} groups of people have videos only among themselves; "
            "give --split network or scene"
        )
    split_of = {person: SPLITS[index] for person, index in zip(people, chosen, strict=True)}
    targets, sources = (table[f"{side}_identity"].combine_chunks() for side in ("target", "source"))
    alone = pc.if_else(pc.is_in(targets, pa.array(people)), None, targets)  # in no swap
    others = split_groups(table, alone, GROUP_FRACTIONS, rng)
    rows = zip(others, targets.to_pylist(), sources.to_pylist(), strict=True)
    splits = [
        other or (split_of.get(target) if split_of.get(source or target) == split_of.get(target) else None)
        for other, target, source in rows
    ]
    return np.array(splits, dtype=object)


def _by_network(table: pa.Table, rng: np.random.Generator) -> _Names:
    pairs = pairs_of(table)
    _require(len(pairs.drop_null().unique()), "network")
    alone = pc.if_else(pairs.is_null(), table["target_identity"].combine_chunks(), None)
    swaps, others = (split_groups(table, groups, GROUP_FRACTIONS, rng) for groups in (pairs, alone))
    splits: _Names = np.where(pairs.is_valid().to_numpy(zero_copy_only=False), swaps, others)
    return splits


def _by_target(table: pa.Table, rng: np.random.Generator) -> _Names:
    targets = table["target_identity"]
    _require(len(targets.drop_null().unique()), "identity")
    return split_groups(table, targets, GROUP_FRACTIONS, rng)


def _by_scene(table: pa.Table, rng: np.random.Generator) -> _Names:
    grouped = _grouped(table, pc.binary_join_element_wise(table["target_identity"], table["scene"], "/"))
    _require(len(grouped.names), "scene")
    fractions = np.array(list(GROUP_FRACTIONS.values()))
    targets = np.unique([name.rpartition("/")[0] for name in grouped.names], return_inverse=True)[1]
    return grouped.spread(choose_runs(grouped.counts, targets, fractions, rng), GROUP_FRACTIONS)


def _by_video(table: pa.Table, rng: np.random.Generator) -> _Names:
    wanted = VIDEO_FRACTIONS
    if table.num_rows < len(wanted):
        raise UserError(f"cannot split {table.num_rows} videos into {', '.join(wanted)}: too few")
    ends = np.round(np.cumsum(list(wanted.values())) * table.num_rows).astype(np.int64)
    rank_of_drawn = rng.permutation(table.num_rows)
    codes = np.empty(table.num_rows, dtype=np.int64)
    # Ranks are assigned in the order of video_id, so that the order of the rows does not matter.
    codes[pc.sort_indices(table["video_id"]).to_numpy()] = np.searchsorted(ends, rank_of_drawn, side="right")
    return np.array(list(wanted), dtype=object)[codes]


def _require(number: int, method: str) -> None:
    if number < len(SPLITS):
        other = "scene, or none" if method in ("strict", "network") else "none"
        raise UserError(
            f"cannot split by {method}: {number} {_GROUPS[method][number != 1]} known, {len(SPLITS)} splits "
            f"({', '.join(SPLITS)}) need at least {len(SPLITS)}; give --split {other} to list without a split"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Groups:
    names: list[str]  # G, in natural order
    of_row: Ints  # (N,) index of the group of each row, -1 if unknown
    counts: Floats  # (G, cells) videos of each generator and quality

    def spread(self, chosen: Ints, names: Any) -> _Names:
        """Return the name of the split of each row, ``(N,)``, from the index for each group, ``(G,)``."""
        splits: _Names = np.array([*names, None], dtype=object)[np.append(chosen, len(names))[self.of_row]]
        return splits


def _grouped(table: pa.Table, groups: pa.Array) -> _Groups:
    names = sorted(groups.drop_null().unique().to_pylist(), key=natural)
    of_row = pc.fill_null(pc.index_in(groups, pa.array(names, pa.string())), -1).to_numpy().astype(np.int64)
    cells = table.filter(pa.array(of_row >= 0)).select(["generator", "crf"])
    counts = _counts_by(cells, of_row[of_row >= 0], num_groups=len(names))
    return _Groups(names=names, of_row=of_row, counts=counts)


def _counts_by(cells: pa.Table, groups: Ints, *, num_groups: int) -> Floats:
    """Return the number of rows in each group and cell, ``(num_groups, cells)``.

    Rows with equal values in ``cells`` are in one cell; null is a value.
    """
    keys = [repr(row) for row in cells.to_pylist()]
    kinds, kind_of_row = np.unique(np.array(keys, dtype=str), return_inverse=True)
    counts = np.zeros((num_groups, len(kinds)), dtype=np.float64)
    np.add.at(counts, (groups, kind_of_row), 1)
    return counts
