"""Counts of what each split of a manifest contains and of what the splits share."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from dfdm_ray.io.terminal import say
from dfdm_ray.jobs.manifest.splits import METADATA_METHOD, METADATA_SEED, SPLITS
from dfdm_ray.labels import class_order
from dfdm_ray.manifest.networks import pairs_of

_KINDS = {
    "target identities": ("target_identity",),
    "source identities": ("source_identity",),
    "people": ("person",),
    "networks": ("pair", "generator"),
    "swaps": ("target_identity", "source_identity", "scene"),
}
"""What splits may share, and the columns that identify it; a person counts as target and as source."""
_LEAKS = {
    "swaps": ("splits share content, so scores on test are too high", "bold red"),
    "networks": ("splits share networks and people, so scores on test do not hold for others", "yellow"),
    "people": ("splits share people, but no network; scores on test do not hold for other people", "yellow"),
}
"""What leaks, worst first, with the consequence and the style of the line."""


@dataclass(frozen=True, kw_only=True)
class SplitCounts:
    """Contents of one split."""

    name: str
    num_videos: int
    num_target_identities: int
    num_networks: int
    """Unordered pairs of identities, each with each generator; unknown ones are left out."""
    num_videos_of: dict[str, int]
    """By generator; videos of unknown generator are left out."""


@dataclass(frozen=True, kw_only=True)
class SplitReport:
    """Contents of all splits, and what they share."""

    method: str | None
    seed: int | None
    splits: tuple[SplitCounts, ...]
    num_left_out: int
    """Videos without a split though target and source are known; if split by lists, all without a split."""
    num_unknown: int
    """Other videos without a split."""
    shared: dict[str, tuple[int, int]]
    """Number of target identities, source identities, people, networks and swaps (target, source, scene) in
    more than one split, and in any."""

    @property
    def leak(self) -> str | None:
        """The worst that two splits share: swaps, networks or people; ``None`` if they share none of them."""
        return next((kind for kind in _LEAKS if self.shared[kind][0]), None)


def split_report(table: pa.Table) -> SplitReport:
    """Count what the splits of ``table``, a manifest, contain and share."""
    metadata = {key: value.decode() for key, value in (table.schema.metadata or {}).items()}
    seed = metadata.get(METADATA_SEED)
    pairs = pairs_of(table)
    without = pc.is_null(table["split"])
    by_lists = metadata.get(METADATA_METHOD) == "lists"
    num_left_out = pc.sum(without if by_lists else pc.and_(without, pairs.is_valid())).as_py() or 0
    table = table.append_column("pair", pairs).filter(pc.invert(without))
    return SplitReport(
        method=metadata.get(METADATA_METHOD),
        seed=None if seed is None else int(seed),
        splits=tuple(_counts(table, name) for name in SPLITS if name in table["split"].unique().to_pylist()),
        num_left_out=num_left_out,
        num_unknown=len(pairs) - table.num_rows - num_left_out,
        shared={kind: _num_shared(table, columns) for kind, columns in _KINDS.items()},
    )


def show_splits(report: SplitReport, console: Console) -> None:
    """Print ``report`` as a table, what the splits share, and one line that says what leaks."""
    say(console, _label(report), _LEAKS[report.leak][1] if report.leak else "")
    console.print(_table(report))
    shared = ", ".join(f"{number:,} of {total:,} {kind}" for kind, (number, total) in report.shared.items())
    say(console, f"in more than one split: {shared} (target, source, scene)")
    if report.leak:
        number, total = report.shared[report.leak]
        consequence, style = _LEAKS[report.leak]
        say(console, f"LEAKS {report.leak}, {number:,} of {total:,}: {consequence}", style)
    elif report.shared["networks"][1]:
        say(console, "no leak: no person, network or swap is in more than one split", "green")
    if report.num_left_out:
        unnamed = "neither list names them, or both do"
        reason = unnamed if report.method == "lists" else "their two people are in different splits"
        say(console, f"left out, because {reason}: {report.num_left_out:,}", "yellow")
    if report.num_unknown:
        say(console, f"without a split, because an identity or the scene is unknown: {report.num_unknown:,}")


def _label(report: SplitReport) -> str:
    label = f"split by {report.method or 'unknown method'}"
    if report.seed is not None:
        label += f", seed {report.seed}"
    return f"{label} - LEAKS {report.leak}" if report.leak else label


def _table(report: SplitReport) -> Table:
    view = Table(box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    view.add_column("")
    for split in report.splits:
        view.add_column(split.name, justify="right")
    sizes = ("videos", "num_videos"), ("targets", "num_target_identities"), ("networks", "num_networks")
    for name, size in sizes:
        view.add_row(name, *(f"{getattr(split, size):,}" for split in report.splits))
    view.add_section()
    for name in class_order(name for split in report.splits for name in split.num_videos_of):
        view.add_row(name, *(f"{split.num_videos_of.get(name, 0):,}" for split in report.splits))
    return view


def _counts(table: pa.Table, name: str) -> SplitCounts:
    part = table.filter(pc.equal(table["split"], name))
    generators = part["generator"].drop_null().value_counts()
    return SplitCounts(
        name=name,
        num_videos=part.num_rows,
        num_target_identities=len(part["target_identity"].drop_null().unique()),
        num_networks=_num_shared(part, _KINDS["networks"])[1],
        num_videos_of={pair["values"]: pair["counts"] for pair in generators.to_pylist()},
    )


def _num_shared(table: pa.Table, columns: Sequence[str]) -> tuple[int, int]:
    """Return how many values of ``columns`` are in more than one split, and in any."""
    if columns == ("person",):
        sides = [table.select([f"{side}_identity", "split"]) for side in ("target", "source")]
        table = pa.concat_tables([side.rename_columns(["person", "split"]) for side in sides])
    known = table.select([*columns, "split"]).drop_null()
    pairs = known.group_by([*columns, "split"]).aggregate([])
    num_splits = pairs.group_by([*columns]).aggregate([([], "count_all")])
    return int(pc.sum(pc.greater(num_splits["count_all"], 1)).as_py() or 0), num_splits.num_rows
