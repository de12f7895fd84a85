"""A run into a crops dataset, from videos or from crops that others made.

::

    manifest -> SaveCrops (CPU workers): make the crops, write crops/.../<video>.parquet
             -> the driver: videos/part-*.parquet as blocks finish, run.json   [no pixels come here]
             -> crops/ is compared with the rows, contact_sheet.png
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from dfdm_ray.clips.child import ClipWork
from dfdm_ray.clips.crops_dataset import CROPS_FOLDER, INDEX_FOLDER, prepared, read_crops
from dfdm_ray.clips.stage import SaveCrops
from dfdm_ray.config import DecodeConfig, RunConfig
from dfdm_ray.engine.folder import RunFolder
from dfdm_ray.engine.record import changes, cost_line, show_rejects
from dfdm_ray.engine.run import open_run
from dfdm_ray.engine.session import nodes_to_come, ray_session, worker_nodes
from dfdm_ray.engine.shares import decode_only, decode_pool_size, file_limits, total
from dfdm_ray.engine.stage import Stage
from dfdm_ray.errors import UserError, writing_to
from dfdm_ray.io import storage
from dfdm_ray.io.images import contact_sheet, png
from dfdm_ray.io.terminal import say
from dfdm_ray.labels import class_order
from dfdm_ray.schemas import CROPS_INDEX, REJECTED, SCORED

_ON_SHEET = 24
"""Videos on the contact sheet."""
_FACTS = ["generator", "crf", "target_identity", "source_identity", "scene", "split"]


@dataclass(frozen=True, kw_only=True)
class CropsJob:
    """A crops dataset to be made."""

    out: str
    manifest: pa.Table
    """:data:`schemas.MANIFEST`"""
    not_listed: Sequence[str]
    """Places that could not be listed, each with the reason."""
    work: ClipWork
    """Makes the crops of a file."""
    detector: str
    shape: tuple[int, int, int, int, int]
    """Shape of a video's crops, (C, T, S, S, 3)."""
    settings: Mapping[str, Any]
    """Values on which the crops depend."""


def make_dataset(config: RunConfig, resources: DecodeConfig, job: CropsJob, console: Console) -> pa.Table:
    """Bring the videos of ``job`` into its crops dataset and return the index.

    Raises:
        UserError: If the output folder contains something else, or too many videos are rejected.
    """
    out = storage.absolute(job.out)  # workers have another working directory
    folder = RunFolder(
        out, job="crops", settings=job.settings, rows=INDEX_FOLDER, schema=CROPS_INDEX, files=CROPS_FOLDER
    )
    if not config.overwrite:
        require_same_facts(out, job.manifest, folder.read())
    with open_run(config, folder, job.manifest, console, verb="prepared", not_listed=job.not_listed) as run:
        if run.todo.num_rows:
            with ray_session(config.ray_address):
                nodes = worker_nodes()
                workers, cpus = decode_only(resources, nodes, nodes_to_come())
                limits = file_limits(config.limits, total(nodes), workers=workers)
                kwargs = {"out": out, "work": job.work, "detector": job.detector, "shape": job.shape}
                save = Stage(
                    fn=SaveCrops,
                    kwargs={**kwargs, **limits},
                    num_workers=workers,
                    most_workers=resources.decode_workers or resources.max_decode_workers,
                    num_cpus=cpus,
                )
                sizes = partial(decode_pool_size, resources, cpus)
                run.through([save], nodes, {"decode_workers": workers, "decode_cpus": cpus}, sizes)
    with writing_to(out):
        run.record["crops_bytes"] = tidy(folder, run.rows, begun_ns=storage.modified_ns(folder.manifest))
        folder.write_record(run.record)
        if clips := _first_clips(out, run.rows):
            storage.write_atomic(storage.join(out, "contact_sheet.png"), png(contact_sheet(clips)))
    show_crops(run.rows, run.record, folder=job.out, console=console)
    return run.rows


def require_same_facts(out: str, manifest: pa.Table, done: pa.Table) -> None:
    """Refuse a manifest that moves finished videos, for instance to another split: their files would stay.

    Raises:
        UserError: If generator, quality, identities, scene or split of a finished video differ.
    """
    now = {row.pop("video_id"): row for row in manifest.select(["video_id", *_FACTS]).to_pylist()}
    before = {row.pop("video_id"): row for row in done.select(["video_id", *_FACTS]).to_pylist()}
    moved = {name: changes(before[name], now[name]) for name in before.keys() & now.keys()}
    changed = sorted(f"{name}: {', '.join(texts)}" for name, texts in moved.items() if texts)
    if changed:
        raise UserError(
            f"--out {out} contains {len(changed)} videos for which the manifest has other facts (such as "
            f"{changed[0]}); give the manifest it was made from, --overwrite to replace it, or a new --out"
        )


def tidy(folder: RunFolder, index: pa.Table, *, begun_ns: int) -> int:
    """Delete files of killed workers and return the bytes of the files that rows name.

    Files written since this run began stay: another run may not have stored their rows yet.

    Args:
        begun_ns: Start of this run by the clock of the dataset's storage, ns since 1970.

    Raises:
        UserError: If a file that a row names is gone.
    """
    sizes = folder.stored_files()
    named = set(prepared(index)["file"].to_pylist())
    if gone := sorted(named - sizes.keys()):
        raise UserError(
            f"{len(gone)} files of crops are gone from {folder.root}, such as {gone[0]}; run the same "
            "command again to make them again"
        )
    for uri in (storage.join(folder.root, *file.split("/")) for file in sizes.keys() - named):
        with suppress(FileNotFoundError):  # another run was quicker
            if storage.modified_ns(uri) < begun_ns:
                storage.remove(uri)
    return sum(sizes[file] for file in named)


def _first_clips(out: str, index: pa.Table) -> list[tuple[str, Any]]:
    """Return name and first clip, ``(T, S, S, 3)``, of videos from all over the dataset."""
    rows = prepared(index).select(["video_id", "file"]).to_pylist()
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(_ON_SHEET, len(rows))).round().astype(int))
    return [(rows[row]["video_id"], read_crops(out, rows[row]["file"])[0]) for row in chosen]


def show_crops(index: pa.Table, record: dict[str, Any], *, folder: str, console: Console) -> None:
    """Print a summary of a crops dataset: videos by quality, split and generator, rejects, cost, files."""
    with_crops = index.filter(pc.equal(index["status"], SCORED))
    if with_crops.num_rows:
        console.print(_crops_table(with_crops))
    show_rejects(index.filter(pc.equal(index["status"], REJECTED)), console)
    say(console, cost_line(record, verb="prepared"))
    where = f"in {folder}/crops; see {folder}/contact_sheet.png" if with_crops.num_rows else ""
    counts = f"planned {record['planned']} = prepared {record['prepared']} + rejected {record['rejected']}"
    say(console, f"{counts}; {record['crops_bytes'] / 1e6:.1f} MB of crops {where}".rstrip())


def _crops_table(with_crops: pa.Table) -> Table:
    """Return the number of videos of each quality and split, by generator."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for row in with_crops.select(["crf", "split", "generator"]).to_pylist():
        crf = "unknown" if row["crf"] is None else str(row["crf"])
        counts[crf, row["split"] or "none", row["generator"] or "unknown"] += 1
    columns = class_order(generator for _, _, generator in counts)
    table = Table(title="Videos with crops", box=SIMPLE_HEAD)
    for heading in ("crf", "split", *columns, "total"):
        table.add_column(heading, justify="left" if heading == "split" else "right")
    cells = {(crf, split) for crf, split, _ in counts}
    for crf, split in sorted(cells, key=lambda cell: (cell[0].rjust(8), cell[1])):
        numbers = [counts[crf, split, name] for name in columns]
        table.add_row(crf, split, *map(str, numbers), str(sum(numbers)))
    return table
