"""Which videos train, validate and test: by target identity or scene without a leak, or as the paper did.

In DFDM the same (target, source, scene) exists for every generator and quality, so a split by file
puts the same content on both sides and flatters every score.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dfdm_ray.errors import UserError
from dfdm_ray.jobs.manifest.scene_runs import choose_runs
from dfdm_ray.schemas import MANIFEST

SPLITS = ("train", "val", "test")
GROUP_FRACTIONS: Mapping[str, float] = {"train": 0.70, "val": 0.15, "test": 0.15}
VIDEO_FRACTIONS: Mapping[str, float] = {"train": 0.60, "val": 0.10, "test": 0.30}
"""The paper's 70/30, with val taken out of the 70: the authors choose the best epoch on the test videos."""

METADATA_METHOD = b"split_method"
METADATA_SEED = b"split_seed"
METADATA_WARNING = b"split_warning"
LEAK_WARNING = (
    "split by video: the same target, source and scene stand in train and in test, so scores on test "
    "are too high; use it only to compare with the paper"
)

SCENE_NOTE = (
    "split by scene: no footage stands in two splits, but people and recordings do; scores hold for people "
    "seen in training"
)

Method = Literal["identity", "scene", "video"]

_TRIPLE = ["target_identity", "source_identity", "scene"]


@dataclass(frozen=True, kw_only=True)
class SplitCounts:
    """What one split holds."""

    name: str
    num_videos: int
    num_target_identities: int
    num_videos_of: dict[str, int]
    """By generator, without the unknown."""


@dataclass(frozen=True, kw_only=True)
class SplitReport:
    """What the splits hold and what they share."""

    method: str | None
    seed: int | None
    warning: str | None
    splits: tuple[SplitCounts, ...]
    num_without_split: int
    num_shared_target_identities: int
    """Target identities in more than one split; 0 for the method identity."""
    num_shared_source_identities: int
    """Source identities in more than one split."""
    num_shared_triples: int
    """(target, source, scene) that stand both in train and in test."""

    @property
    def leaks(self) -> bool:
        """Whether content of one split stands in another, or people that should not."""
        people = self.num_shared_target_identities if self.method != "scene" else 0
        return bool(self.warning or people or self.num_shared_triples)


def assign_splits(
    table: pa.Table,
    *,
    method: Method = "identity",
    seed: int = 0,
    fractions: Mapping[str, float] | None = None,
) -> pa.Table:
    """Return ``table`` with ``split`` filled; the order of its rows does not matter.

    ``identity`` keeps all videos of a target identity in one split. ``scene`` keeps all videos of one
    scene of a target in one split, and gives every split a run of each target's scenes
    (:mod:`dfdm_ray.jobs.manifest.scene_runs`). Both leave rows without these facts null. ``video`` is the
    paper's way, by file at random; it leaks, and the table's metadata say so.
    ``fractions`` sum to 1; by default they are 60/10/30 by video, else 70/15/15.

    Raises:
        UserError: If the fractions make no sense or there is too little to split.
    """
    by_video = method == "video"
    wanted = _checked(fractions or (VIDEO_FRACTIONS if by_video else GROUP_FRACTIONS), seed)
    rng = np.random.default_rng(seed)
    if by_video:
        splits = _split_by_video(table, wanted, rng)
    else:
        splits = _split_by_group(table, _groups(table, method), wanted, rng, method)
    metadata: dict[bytes, bytes] = dict(table.schema.metadata or {})
    metadata.pop(METADATA_WARNING, None)
    metadata |= {METADATA_METHOD: method.encode(), METADATA_SEED: str(seed).encode()}
    if by_video:
        metadata[METADATA_WARNING] = LEAK_WARNING.encode()
    index = table.column_names.index("split")
    return table.set_column(index, MANIFEST.field("split"), splits).replace_schema_metadata(metadata)


def split_report(table: pa.Table) -> SplitReport:
    """Count what the splits of ``table`` hold and share."""
    metadata = {key: value.decode() for key, value in (table.schema.metadata or {}).items()}
    seed = metadata.get(METADATA_SEED)
    present = set(table["split"].unique().to_pylist())
    return SplitReport(
        method=metadata.get(METADATA_METHOD),
        seed=None if seed is None else int(seed),
        warning=metadata.get(METADATA_WARNING),
        splits=tuple(_counts(table, name) for name in SPLITS if name in present),
        num_without_split=table["split"].null_count,
        num_shared_target_identities=_num_shared(table, ["target_identity"]),
        num_shared_source_identities=_num_shared(table, ["source_identity"]),
        num_shared_triples=_num_shared(
            table.filter(pc.is_in(table["split"], pa.array(["train", "test"]))), _TRIPLE
        ),
    )


def _checked(fractions: Mapping[str, float], seed: int) -> dict[str, float]:
    """Return the splits that are wanted at all, in the order of :data:`SPLITS`."""
    unknown = sorted(set(fractions) - set(SPLITS))
    if unknown:
        raise UserError(f"unknown splits {unknown}; known are {', '.join(SPLITS)}")
    good = all(0 <= fraction <= 1 for fraction in fractions.values())
    if not good or abs(sum(fractions.values()) - 1) > 1e-6:
        raise UserError(f"split fractions must be 0..1 and sum to 1, got {dict(fractions)}")
    if seed < 0:
        raise UserError(f"the seed of a split must be at least 0, got {seed}")
    return {name: fractions[name] for name in SPLITS if fractions.get(name, 0) > 0}


def _split_by_video(table: pa.Table, wanted: dict[str, float], rng: np.random.Generator) -> pa.Array:
    if table.num_rows < len(wanted):
        raise UserError(f"cannot split {table.num_rows} videos into {', '.join(wanted)}: too few")
    ends = np.round(np.cumsum(list(wanted.values())) * table.num_rows).astype(np.int64)
    rank_of_drawn = rng.permutation(table.num_rows)
    codes = np.empty(table.num_rows, dtype=np.int64)
    # Ranks are dealt in the order of video_id, so that the order of the rows does not matter.
    codes[pc.sort_indices(table["video_id"]).to_numpy()] = np.searchsorted(ends, rank_of_drawn, side="right")
    return pa.array(np.array(list(wanted), dtype=object)[codes], pa.string())


def _groups(table: pa.Table, method: Method) -> pa.ChunkedArray:
    """Return the name of what must stay together for each row, null where it is unknown."""
    if method == "identity":
        return table["target_identity"]
    return pc.binary_join_element_wise(table["target_identity"], table["scene"], "/")


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """Return a key by which ``id2/9`` comes before ``id2/10``."""
    parts = re.split(r"(\d+)", name)
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]


def _split_by_group(
    table: pa.Table,
    groups: pa.ChunkedArray,
    wanted: dict[str, float],
    rng: np.random.Generator,
    method: Method,
) -> pa.Array:
    names = sorted(groups.drop_null().unique().to_pylist(), key=_natural)
    if len(names) < len(wanted):
        kind = {"identity": "target identities", "scene": "scenes of a target"}[method]
        raise UserError(
            f"cannot split by {method}: {len(names)} {kind} are known, {len(wanted)} splits "
            f"({', '.join(wanted)}) need at least as many; give --split none to list without a split"
        )
    group = pc.index_in(groups, pa.array(names, pa.string()))
    known = group.is_valid().to_numpy()
    rows = group.drop_null().to_numpy().astype(np.int64)
    cells = table.filter(pa.array(known)).select(["generator", "crf"])
    counts = _counts_by(cells, rows, num_groups=len(names))
    fractions = np.array(list(wanted.values()))
    if method == "scene":
        targets = np.unique([name.rpartition("/")[0] for name in names], return_inverse=True)[1]
        chosen = choose_runs(counts, targets, fractions, rng)
    else:
        chosen = _choose(counts, fractions, rng)
    splits = np.full(table.num_rows, None, dtype=object)
    splits[known] = np.array(list(wanted), dtype=object)[chosen[rows]]
    return pa.array(splits, pa.string())


def _counts_by(cells: pa.Table, groups: npt.NDArray[np.int64], *, num_groups: int) -> npt.NDArray[np.float64]:
    """Return how many rows of each group there are of each kind, ``(num_groups, kinds)``.

    Rows that are equal in ``cells``, unknown values included, are of one kind.
    """
    keys = [repr(row) for row in cells.to_pylist()]
    kinds, kind_of_row = np.unique(np.array(keys, dtype=str), return_inverse=True)
    counts = np.zeros((num_groups, len(kinds)), dtype=np.float64)
    np.add.at(counts, (groups, kind_of_row), 1)
    return counts


def _choose(
    counts: npt.NDArray[np.float64], fractions: npt.NDArray[np.float64], rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Return the split of each group, shape ``(G,)``, from its videos in each cell, ``(G, cells)``.

    Greedy, largest first: each identity goes where the sum over cells of
    ``(count - wanted count)^2 / videos in the cell`` grows least.
    """
    order = rng.permutation(len(counts))
    # Sizes within a factor of two stay shuffled; else a seed could not change anything but ties.
    order = order[np.argsort(-np.floor(np.log2(counts.sum(axis=1)))[order], kind="stable")]
    per_cell = counts.sum(axis=0)
    missing = fractions[:, None] * per_cell
    chosen = np.zeros(len(counts), dtype=np.int64)
    empty = set(range(len(fractions)))
    for num_done, index in enumerate(order):
        growth = (counts[index] * (counts[index] - 2 * missing) / per_cell).sum(axis=1)
        if len(order) - num_done == len(empty):  # the rest has to give every split one
            growth[[split for split in range(len(fractions)) if split not in empty]] = np.inf
        best = int(np.argmin(growth))
        chosen[index] = best
        missing[best] -= counts[index]
        empty.discard(best)
    return chosen


def _counts(table: pa.Table, name: str) -> SplitCounts:
    part = table.filter(pc.equal(table["split"], name))
    generators = part["generator"].drop_null().value_counts()
    return SplitCounts(
        name=name,
        num_videos=part.num_rows,
        num_target_identities=len(part["target_identity"].drop_null().unique()),
        num_videos_of={pair["values"]: pair["counts"] for pair in generators.to_pylist()},
    )


def _num_shared(table: pa.Table, columns: list[str]) -> int:
    """Return how many values of ``columns`` stand in more than one split."""
    known = table.select([*columns, "split"]).drop_null()
    pairs = known.group_by([*columns, "split"]).aggregate([])
    num_splits = pairs.group_by(columns).aggregate([([], "count_all")])
    return int(pc.sum(pc.greater(num_splits["count_all"], 1)).as_py() or 0)
