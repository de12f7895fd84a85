"""Counts of what each split of a manifest contains and of what the splits share."""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dfdm_ray.io.terminal import say
from dfdm_ray.jobs.manifest.splits import METADATA_METHOD, METADATA_SEED, METADATA_WARNING, SPLITS
from dfdm_ray.labels import GENERATORS

SCENE_NOTE = (
    "split by scene: no scene is in two splits, but people and recordings are; scores hold for people "
    "seen in training"
)


@dataclass(frozen=True, kw_only=True)
class SplitCounts:
    """Contents of one split."""

    name: str
    num_videos: int
    num_target_identities: int
    num_videos_of: dict[str, int]
    """By generator; videos of unknown generator are left out."""


@dataclass(frozen=True, kw_only=True)
class SplitReport:
    """Contents of all splits, and what they share."""

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
    """(target, source, scene) that are in train and in test."""

    @property
    def leaks(self) -> bool:
        """Whether two splits share content, or people that the method should keep apart."""
        people = self.num_shared_target_identities if self.method != "scene" else 0
        return bool(self.warning or people or self.num_shared_triples)


def split_report(table: pa.Table) -> SplitReport:
    """Count what the splits of ``table``, a manifest, contain and share."""
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
            table.filter(pc.is_in(table["split"], pa.array(["train", "test"]))),
            ["target_identity", "source_identity", "scene"],
        ),
    )


def show_splits(report: SplitReport, console: Console) -> None:
    """Print ``report`` as a table, with its warnings in red."""
    console.print(_table(report))
    if report.warning:
        say(console, f"LEAKS: {report.warning}", "bold red")
    if report.method == "scene":
        say(console, SCENE_NOTE, "yellow")
    say(
        console,
        f"in more than one split: {report.num_shared_target_identities:,} target identities, "
        f"{report.num_shared_source_identities:,} source identities; in train and test: "
        f"{report.num_shared_triples:,} swaps (target, source, scene)",
    )
    if report.num_without_split:
        unnamed = "neither list names them, or both do"
        reason = unnamed if report.method == "lists" else "the target identity or scene is unknown"
        say(console, f"without a split, because {reason}: {report.num_without_split:,}")


def _table(report: SplitReport) -> Table:
    label = f"split by {report.method or 'unknown method'}"
    if report.seed is not None:
        label += f", seed {report.seed}"
    view = Table(
        title=Text(label + (" - LEAKS" if report.leaks else ""), style="bold red" if report.leaks else ""),
        box=SIMPLE_HEAD,
    )
    named = [name for name in GENERATORS if any(split.num_videos_of.get(name) for split in report.splits)]
    for name in ("split", "videos", "targets", *named):
        view.add_column(name, justify="left" if name == "split" else "right")
    for split in report.splits:
        numbers = [split.num_videos, split.num_target_identities]
        numbers += [split.num_videos_of.get(name, 0) for name in named]
        view.add_row(split.name, *(f"{number:,}" for number in numbers))
    return view


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
    """Return how many values of ``columns`` are in more than one split."""
    known = table.select([*columns, "split"]).drop_null()
    pairs = known.group_by([*columns, "split"]).aggregate([])
    num_splits = pairs.group_by(columns).aggregate([([], "count_all")])
    return int(pc.sum(pc.greater(num_splits["count_all"], 1)).as_py() or 0)
