"""Summary of a manifest on a terminal, with what it lacks of DFDM."""

from collections.abc import Iterable
from dataclasses import dataclass, fields

import pyarrow as pa
import pyarrow.compute as pc
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from dfdm_ray.io.terminal import say, show_list
from dfdm_ray.labels import DFDM_TAGS, DFDM_VIDEOS_PER_CELL, GENERATORS, QUALITIES, REAL, Generator
from dfdm_ray.manifest.build import ManifestBuild
from dfdm_ray.manifest.names import find_copies


@dataclass(frozen=True, order=True)
class DfdmVideo:
    """One swap of DFDM by one generator at one quality."""

    target_identity: str
    source_identity: str
    scene: str
    crf: int
    generator: str

    def __str__(self) -> str:
        tag = DFDM_TAGS[Generator(self.generator)]
        return f"DFDM_crf{self.crf}: {self.target_identity}_{self.source_identity}_{self.scene}_{tag}.mp4"


def count_cells(table: pa.Table) -> dict[tuple[int, str], int]:
    """Return the number of videos of each (crf, generator), 0 included; DFDM has 430 of each."""
    known = table.select(["crf", "generator"]).drop_null()
    counted = known.group_by(["crf", "generator"]).aggregate([([], "count_all")]).to_pylist()
    found = {(row["crf"], row["generator"]): row["count_all"] for row in counted}
    return {(crf, name): found.get((crf, name), 0) for crf in QUALITIES for name in GENERATORS}


def find_missing(table: pa.Table) -> list[DfdmVideo]:
    """Return the swaps (target, source, scene) that one cell (crf, generator) lacks and another has.

    Empty cells are ignored as not downloaded; :func:`count_cells` shows them.
    """
    present = {video for video, _ in _with_facts(table)}
    swaps = {(video.target_identity, video.source_identity, video.scene) for video in present}
    cells = {(video.crf, video.generator) for video in present}
    return sorted({DfdmVideo(*swap, *cell) for swap in swaps for cell in cells} - present)


def find_doubled(table: pa.Table) -> dict[DfdmVideo, list[str]]:
    """Return each swap, generator and quality that occurs in more than one row, with the ids of the rows."""
    ids: dict[DfdmVideo, list[str]] = {}
    for video, video_id in _with_facts(table):
        ids.setdefault(video, []).append(video_id)
    return {video: sorted(names) for video, names in sorted(ids.items()) if len(names) > 1}


def _with_facts(table: pa.Table) -> list[tuple[DfdmVideo, str]]:
    """Return the rows with all facts (swap, generator and quality), each with its ``video_id``."""
    names = [field.name for field in fields(DfdmVideo)]
    rows = table.select([*names, "video_id"]).drop_null().to_pylist()
    found = [(DfdmVideo(*(row[name] for name in names)), row["video_id"]) for row in rows]
    return [pair for pair in found if pair[0].crf in QUALITIES and pair[0].generator in GENERATORS]


def show_manifest(build: ManifestBuild, console: Console) -> None:
    """Print the counts of ``build``, what it lacks of DFDM, and its problems."""
    table = build.table
    total_bytes = pc.sum(table["size_bytes"]).as_py() or 0
    say(console, f"videos: {table.num_rows:,} ({decimal(total_bytes)})")
    if build.is_dfdm:
        _show_dfdm(table, console)
    show_list(console, "problems", [*map(str, build.problems)])
    if build.left_out:
        say(console, build.left_out)


def matched_real(table: pa.Table) -> str:
    """Return how many real videos there are and how many swapped scenes have theirs; ``""`` without any."""
    rows = table.select(["target_identity", "scene", "generator"]).to_pylist()
    scenes = {
        kind: {(row["target_identity"], row["scene"]) for row in rows if (row["generator"] == REAL) == kind}
        for kind in (True, False)
    }
    number = sum(row["generator"] == REAL for row in rows)
    swapped = {scene for scene in scenes[False] if None not in scene}
    matched = f"; {len(swapped & scenes[True]):,} of {len(swapped):,} swapped scenes have theirs"
    return f"real videos: {number:,}" + (matched if swapped else "") if number else ""


def _show_dfdm(table: pa.Table, console: Console) -> None:
    counts = count_cells(table)
    if any(counts.values()):
        console.print(_cells_table(counts))
    num_real = pc.sum(pc.equal(table["generator"], REAL)).as_py() or 0
    without = table.num_rows - num_real - len(_with_facts(table))
    if without:
        say(console, f"lacking a DFDM fact (generator, quality, identities or scene): {without:,}")
    missing = [*map(str, find_missing(table))]
    show_list(console, "missing, though another generator or quality has it", missing)
    doubled = [f"{video}: {', '.join(ids)}" for video, ids in find_doubled(table).items()]
    show_list(console, "more than once", doubled)


def _cells_table(counts: dict[tuple[int, str], int]) -> Table:
    cell, row, whole = (DFDM_VIDEOS_PER_CELL * factor for factor in (1, len(GENERATORS), len(counts)))
    view = Table(
        title="videos",
        caption=f"DFDM as published: {cell:,} a cell, {row:,} a quality, {whole:,} in all",
        box=SIMPLE_HEAD,
    )
    for name in ("quality", *GENERATORS, "total"):
        view.add_column(name, justify="left" if name == "quality" else "right", no_wrap=True)
    for crf in QUALITIES:
        view.add_row(f"crf {crf}", *_against([counts[crf, name] for name in GENERATORS], cell))
    columns = [sum(counts[crf, name] for crf in QUALITIES) for name in GENERATORS]
    view.add_section()
    view.add_row("total", *_against(columns, cell * len(QUALITIES)))
    return view


def _against(counts: list[int], published: int) -> Iterable[Text]:
    """Yield each count and their sum, green if it equals the published number."""
    for count, whole in [(count, published) for count in counts] + [(sum(counts), published * len(counts))]:
        yield Text(f"{count:,}", style="green" if count == whole else "yellow")


def show_oddities(manifest: pa.Table, console: Console) -> None:
    """Print the videos that look like copies of others."""
    sizes = dict(zip(manifest["video_id"].to_pylist(), manifest["size_bytes"].to_pylist(), strict=True))
    copies = [f"{copy}, of {original}" for copy, original in find_copies(sizes).items()]
    show_list(console, "look like copies, with the same size; both count", copies)
