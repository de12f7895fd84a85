"""One run into a crops dataset, wherever the crops come from.

::

    manifest -> SaveCrops (CPU workers): make the crops, write crops/.../<video>.parquet
             -> the driver: videos/part-*.parquet as blocks finish, run.json   [no pixels come here]
             -> crops/ is compared with the rows, contact_sheet.png
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console

from dfdm_ray.clips.crops_dataset import CROPS_FOLDER, INDEX_FOLDER, prepared, read_crops
from dfdm_ray.engine.folder import RunFolder, changes
from dfdm_ray.engine.reports import contact_sheet, show_crops
from dfdm_ray.engine.run import Job, Nodes, run
from dfdm_ray.engine.save_crops import SaveCrops
from dfdm_ray.engine.session import total
from dfdm_ray.engine.shares import decode_only, file_limits
from dfdm_ray.engine.stage import Stage
from dfdm_ray.errors import UserError, writing_to
from dfdm_ray.io import listing, storage
from dfdm_ray.io.images import png
from dfdm_ray.jobs.png_tree.config import PngTreeImport
from dfdm_ray.jobs.preprocess.config import PreprocessConfig
from dfdm_ray.schemas import CROPS_INDEX

_ON_SHEET = 24
"""Videos on the contact sheet."""
_FACTS = ["generator", "crf", "target_identity", "source_identity", "scene", "split"]


@dataclass(frozen=True, kw_only=True)
class CropsSource:
    """Where crops come from."""

    manifest: pa.Table
    """:data:`schemas.MANIFEST`"""
    not_listed: Sequence[str]
    """As of :class:`Job`."""
    settings: Mapping[str, Any]
    """What the crops depend on."""
    shape: tuple[int, int, int, int, int]
    """Of a video's crops, (C, T, S, S, 3)."""
    clips: Callable[[Mapping[str, Any]], Callable[[], Callable[[pa.Table], pa.Table]]]
    """Called with :func:`file_limits` once Ray runs; gives what makes the stage from
    :data:`schemas.MANIFEST` to CLIPS."""


def make_dataset(config: PreprocessConfig | PngTreeImport, source: CropsSource, console: Console) -> pa.Table:
    """Bring the videos of ``source`` into the crops dataset ``config.out`` and return its index.

    Raises:
        UserError: If the output folder holds something else, or too many videos are rejected.
    """
    out = storage.absolute(config.out)
    folder = RunFolder(
        out, rows=INDEX_FOLDER, schema=CROPS_INDEX, settings=source.settings, files=[CROPS_FOLDER]
    )
    if not config.overwrite:
        require_same_facts(out, source.manifest, storage.read_parts(folder.rows, CROPS_INDEX))
    job = Job(
        config=config,
        manifest=source.manifest,
        not_listed=source.not_listed,
        folder=folder,
        stages=lambda nodes: _stages(config, source, out, nodes),
        verb="prepared",
        check=lambda rows: _require_visible(out, rows),
        lost=without_crops(out),
    )
    index, record = run(job, console)
    with writing_to(out):
        record["crops_bytes"] = tidy(out, index, begun_ns=storage.modified_ns(folder.manifest))
        folder.write_record(record)
        if clips := _first_clips(out, index):
            storage.write_atomic(storage.join(out, "contact_sheet.png"), png(contact_sheet(clips)))
    show_crops(index, record, folder=config.out, console=console)
    return index


def _stages(
    config: PreprocessConfig | PngTreeImport, source: CropsSource, out: str, nodes: Nodes
) -> tuple[Sequence[Stage], Mapping[str, Any]]:
    workers, cpus = decode_only(config.resources, nodes)
    limits = file_limits(config.limits, total(nodes), workers=workers)
    kwargs = {"clips": source.clips(limits), "shape": source.shape, "out": out}
    stage = Stage(fn=SaveCrops, kwargs=kwargs, num_workers=workers, num_cpus=cpus)
    return [stage], {"decode_workers": workers, "decode_cpus": cpus}


def require_same_facts(out: str, manifest: pa.Table, done: pa.Table) -> None:
    """Refuse a manifest that moves finished videos, for instance to another split: their files would stay.

    Args:
        out: The dataset.
        manifest: :data:`schemas.MANIFEST`
        done: Rows of the dataset, :data:`schemas.CROPS_INDEX`.

    Raises:
        UserError: If generator, quality, identities, scene or split of a finished video differ.
    """
    now = {row.pop("video_id"): row for row in manifest.select(["video_id", *_FACTS]).to_pylist()}
    before = {row.pop("video_id"): row for row in done.select(["video_id", *_FACTS]).to_pylist()}
    moved = {name: changes(before[name], now[name]) for name in before.keys() & now.keys()}
    changed = sorted(f"{name}: {', '.join(texts)}" for name, texts in moved.items() if texts)
    if changed:
        raise UserError(
            f"--out {out} holds {len(changed)} videos of which the manifest now says other things (such as "
            f"{changed[0]}); give the manifest it was made of, --overwrite to replace it, or a new --out"
        )


def _require_visible(out: str, rows: pa.Table) -> None:
    """Refuse to go on if workers wrote to disks of their own."""
    if storage.is_remote(out):
        return
    for file in rows["file"].drop_null().to_pylist():
        if not storage.exists(storage.join(out, file)):
            raise UserError(
                f"a worker wrote {file}, but it is not in {out}: give an --out that all machines of the "
                "cluster share, or s3://"
            )


def without_crops(out: str) -> Callable[[pa.Table], pa.Array]:
    """Return what tells of rows of the index, as a mask, whose files are gone from ``crops/``."""
    files = cache(lambda: pa.array([*_stored(out)], pa.string()))  # listed once, if there is a row at all
    return lambda rows: pc.and_(
        pc.is_valid(rows["file"]), pc.invert(pc.is_in(rows["file"], value_set=files()))
    )


def _stored(out: str) -> dict[str, int]:
    """Return the bytes of each file in ``crops/``."""
    folder = storage.join(out, CROPS_FOLDER)
    found = list(listing.list_files(folder)) if storage.exists(folder) else []
    return {
        f"{CROPS_FOLDER}/{entry.relative}": entry.size_bytes
        for entry in found
        if isinstance(entry, listing.FileEntry)
    }


def tidy(out: str, index: pa.Table, *, begun_ns: int) -> int:
    """Delete what killed workers left in ``crops/`` and return the bytes of the files that rows name.

    What was written since this run began stays: another run may not have written down the rows yet.

    Args:
        out: The dataset.
        index: Its rows, :data:`schemas.CROPS_INDEX`.
        begun_ns: When this run began, by the clock of ``out``, ns since 1970.

    Raises:
        UserError: If a file that a row names is gone.
    """
    sizes = _stored(out)
    named = set(prepared(index)["file"].to_pylist())
    if gone := sorted(named - sizes.keys()):
        raise UserError(
            f"{len(gone)} files of crops are gone from {out}, such as {gone[0]}; run the same command again, "
            "which makes them again"
        )
    for uri in (storage.join(out, *file.split("/")) for file in sizes.keys() - named):
        with suppress(FileNotFoundError):  # another run was quicker
            if storage.modified_ns(uri) < begun_ns:
                storage.remove_file(uri)
    return sum(sizes[file] for file in named)


def _first_clips(out: str, index: pa.Table) -> list[tuple[str, Any]]:
    """Return name and first clip, ``(T, S, S, 3)``, of videos from all over the dataset."""
    rows = prepared(index).select(["video_id", "file"]).to_pylist()
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(_ON_SHEET, len(rows))).round().astype(int))
    return [(rows[row]["video_id"], read_crops(out, rows[row]["file"])[0]) for row in chosen]
