"""What an earlier run into the same folder did, and what is left to do."""

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from dfdm_ray.engine.folder import RunFolder, unfinished
from dfdm_ray.io import storage
from dfdm_ray.schemas import MANIFEST, check_manifest

CHANGED = "changed"
"""Word of ``--retry`` for videos whose file was replaced since."""


@dataclass(frozen=True, kw_only=True)
class Resumed:
    """A folder made ready."""

    manifest: pa.Table
    """All that is planned, :data:`schemas.MANIFEST`: what is listed now, and what no longer is but has rows.

    Videos that keep their rows have the sizes of the files that these were made of.
    """
    earlier: pa.Table
    """Rows that stay."""
    todo: pa.Table
    """Rows of the manifest that have no row yet."""
    remarks: list[str]
    """What the user should know."""


def none_lost(rows: pa.Table) -> pa.Array:
    """Return the mask of ``rows`` that lack nothing."""
    return pa.repeat(False, rows.num_rows)


def resume(
    folder: RunFolder,
    manifest: pa.Table,
    *,
    overwrite: bool,
    retry: Sequence[str],
    lost: Callable[[pa.Table], pa.Array] = none_lost,
) -> Resumed:
    """Open ``folder`` and find what is left to do of ``manifest``.

    Args:
        folder: Of the run.
        manifest: :data:`schemas.MANIFEST`, or more.
        overwrite: Whether to do all of it.
        retry: Reject codes whose videos are done again, and :data:`CHANGED`.
        lost: Tells of rows, as a mask, which lack the crops that lay beside them; these are made again.

    Raises:
        UserError: If the folder holds something else, or a run with other settings.
    """
    before = None if overwrite else _earlier_manifest(folder)
    replaced = _replaced(manifest, before)
    wanted = pa.array(replaced if CHANGED in retry else [], pa.string())
    codes = pa.array([*retry], pa.string())
    without_crops: list[str] = []

    def again(rows: pa.Table) -> pa.Array:
        are_lost = lost(rows)
        without_crops.extend(rows["video_id"].filter(are_lost).to_pylist())
        are_rejected = pc.is_in(rows["reject_code"], value_set=codes)
        return pc.or_(pc.or_(are_lost, are_rejected), pc.is_in(rows["video_id"], value_set=wanted))

    earlier = folder.open(overwrite=overwrite, again=again)
    done = set(earlier["video_id"].to_pylist())
    unlisted = _unlisted(manifest, before, earlier)
    listed = _with_sizes(manifest.select(MANIFEST.names), before, done)
    planned = pa.concat_tables([listed, unlisted])
    remarks = _remarks(
        f"{len(done)} of {planned.num_rows}" if done else "",
        unlisted=unlisted["video_id"].to_pylist(),
        without_crops=without_crops,
        stale=[name for name in replaced if name in done],
    )
    return Resumed(manifest=planned, earlier=earlier, todo=unfinished(manifest, earlier), remarks=remarks)


def _remarks(
    done: str, *, unlisted: Sequence[str], without_crops: Sequence[str], stale: Sequence[str]
) -> list[str]:
    remarks = [f"continuing: {done} videos are done already"] if done else []
    if unlisted:
        remarks.append(
            f"{len(unlisted)} of them are no longer listed, such as {unlisted[0]}; their rows stay"
        )
    if without_crops:
        some = f"{len(without_crops)} videos lost their crops, such as {without_crops[0]}"
        remarks.append(f"{some}; those listed are done again")
    if stale:
        remarks.append(
            f"warning: {len(stale)} files changed since, such as {stale[0]}, and keep their old rows; "
            f"--retry {CHANGED} does them again"
        )
    return remarks


def _earlier_manifest(folder: RunFolder) -> pa.Table | None:
    if not storage.exists(folder.manifest):
        return None
    table = storage.read_parquet(folder.manifest, what="manifest of the earlier run")
    return check_manifest(table, origin=folder.manifest)


def _replaced(manifest: pa.Table, before: pa.Table | None) -> list[str]:
    """Return the ids of videos that had another size when the earlier run was planned."""
    sizes = {} if before is None else _sizes(before)
    return [name for name, size in _sizes(manifest).items() if sizes.get(name, size) != size]


def _with_sizes(manifest: pa.Table, before: pa.Table | None, done: Container[str]) -> pa.Table:
    """Return ``manifest`` with the sizes of ``before`` for what is ``done``: a change is told again."""
    if before is None:
        return manifest
    sizes = _sizes(manifest) | {name: size for name, size in _sizes(before).items() if name in done}
    column = pa.array([sizes[name] for name in manifest["video_id"].to_pylist()], pa.int64())
    position = manifest.schema.get_field_index("size_bytes")
    return manifest.set_column(position, manifest.schema.field(position), column)


def _sizes(manifest: pa.Table) -> dict[str, int]:
    return dict(zip(manifest["video_id"].to_pylist(), manifest["size_bytes"].to_pylist(), strict=True))


def _unlisted(manifest: pa.Table, before: pa.Table | None, earlier: pa.Table) -> pa.Table:
    """Return the rows of the earlier manifest that have a result and that ``manifest`` lacks."""
    if before is None:
        return MANIFEST.empty_table()
    missing = unfinished(before, manifest)
    return missing.filter(pc.is_in(missing["video_id"], value_set=earlier["video_id"].combine_chunks()))
