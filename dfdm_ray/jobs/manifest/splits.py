"""Assignment of videos to train, val and test: by target identity, by scene, or by file as in the paper.

In DFDM the same (target, source, scene) exists for every generator and quality, so a split by file
puts the same content on both sides and inflates every score.

A split by scene gives each split one run of consecutive scenes of each target. Scenes may be cut from one
recording without a gap; ``dfdm-ray generate`` does so. If scenes were drawn one by one, a test scene could
begin one frame after a training scene, and its nearest picture in training would give the label away.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dfdm_ray.errors import UserError
from dfdm_ray.schemas import MANIFEST

SPLITS = ("train", "val", "test")
GROUP_FRACTIONS: Mapping[str, float] = {"train": 0.70, "val": 0.15, "test": 0.15}
VIDEO_FRACTIONS: Mapping[str, float] = {"train": 0.60, "val": 0.10, "test": 0.30}
"""The paper's 70/30, with val taken from the 70; the authors choose the best epoch on the test videos."""

METADATA_METHOD = b"split_method"
METADATA_SEED = b"split_seed"
METADATA_WARNING = b"split_warning"
LEAK_WARNING = (
    "split by video: the same target, source and scene are in train and in test, so scores on test "
    "are too high; use it only to compare with the paper"
)

Method = Literal["identity", "scene", "video"]

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]
_Names = npt.NDArray[np.object_]

_COST_OF_EMPTY = 1e12
"""Cost of an empty run; more than any other run costs."""


def assign_splits(table: pa.Table, *, method: Method = "identity", seed: int = 0) -> pa.Table:
    """Return ``table``, a manifest, with ``split`` filled; the order of its rows does not matter.

    ``identity`` keeps all videos of a target identity in one split. ``scene`` keeps all videos of one
    scene of a target in one split, and gives every split a run of each target's scenes. Both leave
    ``split`` null in rows that lack these facts. ``video`` draws files at random, as the paper does; it
    leaks, and the metadata of the table contain a warning.

    Raises:
        UserError: If the seed is negative or there are too few videos to split.
    """
    if seed < 0:
        raise UserError(f"the seed of a split must be at least 0, got {seed}")
    by_video = method == "video"
    wanted = VIDEO_FRACTIONS if by_video else GROUP_FRACTIONS
    rng = np.random.default_rng(seed)
    splits = _split_by_video(table, wanted, rng) if by_video else _split_by_group(table, wanted, rng, method)
    return with_splits(table, splits, method=method, seed=seed)


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


def pairs_of(table: pa.Table) -> pa.Array:
    """Return the unordered pair of identities of each row, ``id0+id1``; null if one is unknown.

    A network is trained on a pair and swaps in both directions.
    """
    sides = zip(table["target_identity"].to_pylist(), table["source_identity"].to_pylist(), strict=True)
    pairs = ["+".join(sorted(pair, key=_natural)) if None not in pair else None for pair in sides]
    return pa.array(pairs, pa.string())


def _split_by_video(table: pa.Table, wanted: Mapping[str, float], rng: np.random.Generator) -> _Names:
    if table.num_rows < len(wanted):
        raise UserError(f"cannot split {table.num_rows} videos into {', '.join(wanted)}: too few")
    ends = np.round(np.cumsum(list(wanted.values())) * table.num_rows).astype(np.int64)
    rank_of_drawn = rng.permutation(table.num_rows)
    codes = np.empty(table.num_rows, dtype=np.int64)
    # Ranks are assigned in the order of video_id, so that the order of the rows does not matter.
    codes[pc.sort_indices(table["video_id"]).to_numpy()] = np.searchsorted(ends, rank_of_drawn, side="right")
    return np.array(list(wanted), dtype=object)[codes]


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """Return a sort key that puts ``id2/9`` before ``id2/10``."""
    parts = re.split(r"(\d+)", name)
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]


def _split_by_group(
    table: pa.Table, wanted: Mapping[str, float], rng: np.random.Generator, method: Method
) -> _Names:
    groups = table["target_identity"]
    if method == "scene":
        groups = pc.binary_join_element_wise(groups, table["scene"], "/")
    grouped = _grouped(table, groups)
    names = grouped.names
    if len(names) < len(wanted):
        kind = {"identity": "target identities", "scene": "scenes of a target"}[method]
        raise UserError(
            f"cannot split by {method}: {len(names)} {kind} are known, {len(wanted)} splits "
            f"({', '.join(wanted)}) need at least {len(wanted)}; give --split none to list without a split"
        )
    fractions = np.array(list(wanted.values()))
    if method == "scene":
        targets = np.unique([name.rpartition("/")[0] for name in names], return_inverse=True)[1]
        return grouped.spread(_choose_runs(grouped.counts, targets, fractions, rng), wanted)
    return grouped.spread(_choose(grouped.counts, fractions, rng), wanted)


def split_groups(
    table: pa.Table, groups: pa.Array, wanted: Mapping[str, float], rng: np.random.Generator
) -> _Names:
    """Return a split for each row, ``None`` where its group is null; rows of one group share a split.

    Args:
        wanted: Share of each split in every generator and quality; none is empty if the groups suffice.
    """
    grouped = _grouped(table, groups)
    return grouped.spread(_choose(grouped.counts, np.array(list(wanted.values())), rng), wanted)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Groups:
    names: list[str]  # G, in natural order
    of_row: _Ints  # (N,) index of the group of each row, -1 if unknown
    counts: _Floats  # (G, cells) videos of each generator and quality

    def spread(self, chosen: _Ints, names: Any) -> _Names:
        """Return the name of the split of each row, ``(N,)``, from the index for each group, ``(G,)``."""
        splits: _Names = np.array([*names, None], dtype=object)[np.append(chosen, len(names))[self.of_row]]
        return splits


def _grouped(table: pa.Table, groups: pa.Array) -> _Groups:
    names = sorted(groups.drop_null().unique().to_pylist(), key=_natural)
    of_row = pc.fill_null(pc.index_in(groups, pa.array(names, pa.string())), -1).to_numpy().astype(np.int64)
    cells = table.filter(pa.array(of_row >= 0)).select(["generator", "crf"])
    counts = _counts_by(cells, of_row[of_row >= 0], num_groups=len(names))
    return _Groups(names=names, of_row=of_row, counts=counts)


def _counts_by(cells: pa.Table, groups: _Ints, *, num_groups: int) -> _Floats:
    """Return the number of rows in each group and cell, ``(num_groups, cells)``.

    Rows with equal values in ``cells`` are in one cell; null is a value.
    """
    keys = [repr(row) for row in cells.to_pylist()]
    kinds, kind_of_row = np.unique(np.array(keys, dtype=str), return_inverse=True)
    counts = np.zeros((num_groups, len(kinds)), dtype=np.float64)
    np.add.at(counts, (groups, kind_of_row), 1)
    return counts


def _choose(counts: _Floats, fractions: _Floats, rng: np.random.Generator) -> _Ints:
    """Return the split of each group, ``(G,)``, from its videos in each cell, ``(G, cells)``.

    Greedy, largest group first: each goes to the split where the sum over cells of
    ``(count - wanted count)^2 / videos in the cell`` grows least.
    """
    order = rng.permutation(len(counts))
    # Groups of similar size (within a factor of two) stay shuffled, so that the seed matters.
    order = order[np.argsort(-np.floor(np.log2(counts.sum(axis=1)))[order], kind="stable")]
    per_cell = counts.sum(axis=0)
    missing = fractions[:, None] * per_cell
    chosen = np.zeros(len(counts), dtype=np.int64)
    empty = set(range(len(fractions)))
    for num_done, index in enumerate(order):
        growth = (counts[index] * (counts[index] - 2 * missing) / per_cell).sum(axis=1)
        if len(order) - num_done == len(empty):  # every remaining group must fill an empty split
            growth[[split for split in range(len(fractions)) if split not in empty]] = np.inf
        best = int(np.argmin(growth))
        chosen[index] = best
        missing[best] -= counts[index]
        empty.discard(best)
    return chosen


def _choose_runs(counts: _Floats, targets: _Ints, fractions: _Floats, rng: np.random.Generator) -> _Ints:
    """Return the split of each scene, ``(G,)``, from its videos in each cell, ``(G, cells)``.

    The scenes of a target form one run for each split, in the order of the splits or its reverse, at
    random. No run is empty if there are enough scenes. Targets follow in random order. Runs end where
    the sum over splits and cells of ``(count - wanted count)^2 / videos of the target in the cell`` is
    least; the next target makes up for what a split lacks or has too much of. ``targets`` is the index of the
    target of each scene; the scenes of a target are in order.
    """
    missing = np.zeros((len(fractions), counts.shape[1]))
    filled = np.zeros(len(fractions), dtype=bool)
    chosen = np.zeros(len(counts), dtype=np.int64)
    for target in rng.permutation(np.unique(targets)):
        scenes = np.flatnonzero(targets == target)[:: rng.choice([1, -1])]
        own = counts[scenes].sum(axis=0)
        missing += fractions[:, None] * own
        needed = ~filled | (len(scenes) >= len(fractions))
        starts = _best_starts(counts[scenes], missing, 1 / np.maximum(own, 1), needed)
        for split, run in enumerate(np.split(scenes, starts[1:])):
            chosen[run] = split
            missing[split] -= counts[run].sum(axis=0)
            filled[split] |= len(run) > 0
    return chosen


def _best_starts(
    counts: _Floats, missing: _Floats, weights: _Floats, needed: npt.NDArray[np.bool_]
) -> list[int]:
    """Return the index of the scene at which each split's run starts, for one target.

    ``counts`` are the videos of each scene, ``(scenes, cells)``, ``missing`` those that each split still
    lacks, ``(splits, cells)``. The runs of splits in ``needed`` must not be empty.
    """
    before = np.vstack([np.zeros(counts.shape[1]), counts.cumsum(axis=0)])
    products = (before * weights) @ before.T
    squares = products.diagonal()[:, None] + products.diagonal() - 2 * products
    best = np.where(np.arange(len(before)) == 0, 0.0, np.inf)  # cost of all splits so far, by their end
    came_from: list[_Ints] = []
    for wanted, is_needed in zip(missing, needed, strict=True):
        linear = (before * weights) @ wanted
        cost = squares - 2 * (linear - linear[:, None])  # of a run, by its start and end
        cost[np.tril_indices_from(cost, k=-1)] = np.inf
        np.fill_diagonal(cost, _COST_OF_EMPTY if is_needed else 0.0)
        whole = best[:, None] + cost
        came_from.append(whole.argmin(axis=0))
        best = whole.min(axis=0)
    starts = [len(counts)]
    for start in reversed(came_from):
        starts.append(int(start[starts[-1]]))
    return starts[:0:-1]
