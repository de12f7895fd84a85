"""What an earlier run into the same folder did, and what is left to do."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from dfdm_ray import storage
from dfdm_ray.pipelines.output import RunFolder, unfinished
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


def resume(folder: RunFolder, manifest: pa.Table, *, overwrite: bool, retry: Sequence[str]) -> Resumed:
    """Open ``folder`` and find what is left to do of ``manifest``.

    Args:
        folder: Of the run.
        manifest: :data:`schemas.MANIFEST`, or more.
        overwrite: Whether to do all of it.
        retry: Reject codes whose videos are done again, and :data:`CHANGED`.

    Raises:
        UserError: If the folder holds something else, or a run with other settings.
    """
    before = None if overwrite else _earlier_manifest(folder)
    replaced = _replaced(manifest, before)
    earlier = folder.open(
        overwrite=overwrite,
        again=lambda rows: pc.or_(
            pc.is_in(rows["reject_code"], value_set=pa.array([*retry], pa.string())),
            pc.is_in(rows["video_id"], value_set=replaced if CHANGED in retry else replaced.slice(0, 0)),
        ),
    )
    gone = _unlisted(manifest, before, earlier)
    planned = pa.concat_tables([_with_earlier_sizes(manifest.select(MANIFEST.names), before, earlier), gone])
    remarks = []
    if earlier.num_rows:
        remarks.append(f"continuing: {earlier.num_rows} of {planned.num_rows} videos are done already")
    if gone.num_rows:
        remarks.append(
            f"{gone.num_rows} of them are no longer listed, such as {gone['video_id'][0]}; their rows stay"
        )
    if len(replaced) and CHANGED not in retry:
        remarks.append(
            f"warning: {len(replaced)} files changed since, such as {replaced[0]}, and keep their old rows; "
            f"--retry {CHANGED} does them again"
        )
    return Resumed(
        manifest=planned,
        earlier=earlier,
        todo=unfinished(manifest, earlier),
        remarks=remarks,
    )


def _earlier_manifest(folder: RunFolder) -> pa.Table | None:
    if not storage.exists(folder.manifest):
        return None
    table = storage.read_parquet(folder.manifest, what="manifest of the earlier run")
    return check_manifest(table, origin=folder.manifest)


def _replaced(manifest: pa.Table, before: pa.Table | None) -> pa.Array:
    """Return the ids of videos that had another size when the earlier run was planned."""
    if before is None:
        return pa.array([], pa.string())
    sizes = _sizes(before)
    changed = [name for name, size in _sizes(manifest).items() if sizes.get(name, size) != size]
    return pa.array(changed, pa.string())


def _with_earlier_sizes(manifest: pa.Table, before: pa.Table | None, earlier: pa.Table) -> pa.Table:
    """Return ``manifest`` with the sizes of ``before`` where rows stay, so that a change is told again."""
    if before is None:
        return manifest
    kept = set(earlier["video_id"].to_pylist())
    sizes = _sizes(manifest) | {name: size for name, size in _sizes(before).items() if name in kept}
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
