"""Results of earlier runs into the same folder, and the videos that are left."""

from collections.abc import Container, Sequence
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
    """A folder ready for a run."""

    manifest: pa.Table
    """All planned videos, :data:`schemas.MANIFEST`: those listed now, and earlier ones that have rows.

    Videos that keep their rows have the sizes of the files from which the rows were made.
    """
    earlier: pa.Table
    """Rows that stay."""
    todo: pa.Table
    """Rows of the manifest without a result."""
    remarks: list[str]
    """Lines for the user."""


def resume(folder: RunFolder, manifest: pa.Table, *, overwrite: bool, retry: Sequence[str]) -> Resumed:
    """Open ``folder`` and find what is left to do of ``manifest``.

    Args:
        retry: Reject codes whose videos are processed again, and :data:`CHANGED`.

    Raises:
        UserError: If the folder contains something else, or a run with other settings.
    """
    rows = folder.open(overwrite=overwrite)
    before = _earlier_manifest(folder)
    replaced = _replaced(manifest, before)
    lost = folder.lost(rows)
    again = pc.or_(lost, pc.is_in(rows["reject_code"], value_set=pa.array([*retry], pa.string())))
    if CHANGED in retry:
        again = pc.or_(again, pc.is_in(rows["video_id"], value_set=pa.array(replaced, pa.string())))
    folder.settle(rows.filter(pc.invert(again))["video_id"].to_pylist())
    earlier = folder.read()
    done = set(earlier["video_id"].to_pylist())
    unlisted = _unlisted(manifest, before, earlier)
    listed = _with_sizes(manifest.select(MANIFEST.names), before, done)
    planned = pa.concat_tables([listed, unlisted])
    remarks = _remarks(
        f"{len(done)} of {planned.num_rows}" if done else "",
        unlisted=unlisted["video_id"].to_pylist(),
        without_crops=rows["video_id"].filter(lost).to_pylist(),
        stale=[name for name in replaced if name in done],
    )
    return Resumed(manifest=planned, earlier=earlier, todo=unfinished(manifest, earlier), remarks=remarks)


def _remarks(
    done: str, *, unlisted: Sequence[str], without_crops: Sequence[str], stale: Sequence[str]
) -> list[str]:
    remarks = [f"continuing: {done} videos are finished"] if done else []
    if unlisted:
        remarks.append(
            f"{len(unlisted)} of them are no longer listed, such as {unlisted[0]}; their rows stay"
        )
    if without_crops:
        some = f"the crops of {len(without_crops)} videos are gone, such as {without_crops[0]}"
        remarks.append(f"{some}; those that are still listed are processed again")
    if stale:
        remarks.append(
            f"warning: {len(stale)} files changed since, such as {stale[0]}, and keep their old rows; "
            f"--retry {CHANGED} processes them again"
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
    """Return ``manifest`` with earlier sizes for videos in ``done``, so that a change is reported again."""
    if before is None:
        return manifest
    sizes = _sizes(manifest) | {name: size for name, size in _sizes(before).items() if name in done}
    column = pa.array([sizes[name] for name in manifest["video_id"].to_pylist()], pa.int64())
    position = manifest.schema.get_field_index("size_bytes")
    return manifest.set_column(position, manifest.schema.field(position), column)


def _sizes(manifest: pa.Table) -> dict[str, int]:
    return dict(zip(manifest["video_id"].to_pylist(), manifest["size_bytes"].to_pylist(), strict=True))


def _unlisted(manifest: pa.Table, before: pa.Table | None, earlier: pa.Table) -> pa.Table:
    """Return the rows of the earlier manifest that have a result and are not in ``manifest``."""
    if before is None:
        return MANIFEST.empty_table()
    missing = unfinished(before, manifest)
    return missing.filter(pc.is_in(missing["video_id"], value_set=earlier["video_id"].combine_chunks()))
