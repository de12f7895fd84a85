"""Results of earlier runs into the same folder, and the videos that are left."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import pyarrow as pa
import pyarrow.compute as pc

from dfdm_ray.engine.folder import RunFolder, unfinished
from dfdm_ray.engine.record import changes, time_of
from dfdm_ray.errors import UserError
from dfdm_ray.io import storage
from dfdm_ray.io.identity import FileIdentity, Verdict, compare, look_at
from dfdm_ray.schemas import MANIFEST, check_manifest, with_values

CHANGED = "changed"
"""Word of ``--retry`` for videos whose file was replaced since."""


@dataclass(frozen=True, kw_only=True)
class Resumed:
    """A folder ready for a run."""

    manifest: pa.Table
    """All planned videos, :data:`schemas.MANIFEST`: those listed now, and earlier ones that have rows."""
    earlier: pa.Table
    """Rows that stay."""
    todo: pa.Table
    """Rows of the manifest without a result."""
    remarks: list[str]
    """Lines for the user."""


def resume(
    folder: RunFolder, manifest: pa.Table, *, overwrite: bool, retry: Sequence[str], look: bool = False
) -> Resumed:
    """Open ``folder`` and find what is left to do of ``manifest``.

    Rejected videos whose file was replaced are processed again. A replaced file that has an answer is an
    error, unless :data:`CHANGED` is in ``retry``.

    Args:
        retry: Reject codes whose videos are processed again, and :data:`CHANGED`.
        look: Whether sizes and times in ``manifest`` may be old, so that finished files are looked at.

    Raises:
        UserError: If the folder contains something else, a run with other settings, or answers for files that
            were replaced.
    """
    rows = folder.open(overwrite=overwrite)
    before = _earlier_manifest(folder)
    if look:
        manifest = looked_at(manifest, rows["video_id"].to_pylist())
    other = other_files(rows, before, manifest)
    replaced, unsure = ([*other[verdict]] for verdict in ("replaced", "unsure"))
    lost, rejected = folder.lost(rows), pc.is_valid(rows["reject_code"])
    again = pc.or_(lost, pc.is_in(rows["reject_code"], value_set=pa.array([*retry], pa.string())))
    again = pc.or_(again, pc.and_(rejected, _is_one_of(rows, replaced)))
    if CHANGED in retry:
        again = pc.or_(again, _is_one_of(rows, [*replaced, *unsure]))
    kept = set(rows.filter(pc.invert(again))["video_id"].to_pylist())
    _refuse_other_files(folder.root, {name: other["replaced"][name] for name in replaced if name in kept})
    folder.settle(kept)
    earlier = folder.read()
    done = set(earlier["video_id"].to_pylist())
    unlisted = _unlisted(manifest, before, earlier)
    listed = _with_uris(manifest.select(MANIFEST.names), before, [name for name in unsure if name in done])
    planned = pa.concat_tables([listed, unlisted])
    remarks = _remarks(
        f"{len(done)} of {planned.num_rows}" if done else "",
        unlisted=unlisted["video_id"].to_pylist(),
        without_crops=rows["video_id"].filter(lost).to_pylist(),
        replaced=[name for name in replaced if name not in done],
        **{
            name: [text for video, text in other[name].items() if video in done]
            for name in ("moved", "unsure")
        },
    )
    return Resumed(manifest=planned, earlier=earlier, todo=unfinished(manifest, earlier), remarks=remarks)


def other_files(
    rows: pa.Table, before: pa.Table | None, now: pa.Table, *, read: bool = False
) -> dict[Verdict, dict[str, str]]:
    """Return, by verdict, the videos with a row, each with what differs between its file then and now.

    Args:
        rows: Rows with ``video_id`` and ``fingerprint``.
        before: Manifest of the run that made them.
        now: Manifest of now.
        read: Whether the ends of all files are read.
    """
    found: dict[Verdict, dict[str, str]] = {"same": {}, "moved": {}, "replaced": {}, "unsure": {}}
    if before is None or not rows.num_rows:
        return found
    prints = dict(zip(rows["video_id"].to_pylist(), rows["fingerprint"].to_pylist(), strict=True))
    of_rows = pa.array([prints.get(name) for name in before["video_id"].to_pylist()], pa.string())
    earlier, listed = _identities(before.append_column("fingerprint", of_rows)), _identities(now)
    names = [name for name in prints if name in earlier and name in listed]
    pairs = [(earlier[name], listed[name]) for name in names]
    for name, (was, is_now), verdict in zip(names, pairs, compare(pairs, read=read), strict=True):
        found[verdict][name] = f"{name} ({'; '.join(changes(_facts(was), _facts(is_now)))})"
    return found


def looked_at(manifest: pa.Table, names: Sequence[str]) -> pa.Table:
    """Return ``manifest`` with the size and time that the files of ``names`` have now, if they are seen."""
    uris = dict(zip(manifest["video_id"].to_pylist(), manifest["uri"].to_pylist(), strict=True))
    wanted = [name for name in dict.fromkeys(names) if name in uris]
    seen = dict(zip(wanted, look_at([uris[name] for name in wanted]), strict=True))
    for column in ("size_bytes", "modified_ns"):
        values = zip(uris, manifest[column].to_pylist(), strict=True)
        now = [getattr(seen.get(name), column, value) for name, value in values]
        manifest = with_values(manifest, column, now)
    return manifest


def _identities(manifest: pa.Table) -> dict[str, FileIdentity]:
    known = {"video_id", *(field.name for field in fields(FileIdentity))}.intersection(manifest.column_names)
    return {row.pop("video_id"): FileIdentity(**row) for row in manifest.select([*known]).to_pylist()}


def _facts(file: FileIdentity) -> dict[str, object]:
    time = None if file.modified_ns is None else time_of(file.modified_ns)
    return {"uri": file.uri, "bytes": file.size_bytes, **({"modified": time} if time else {})}


def _is_one_of(rows: pa.Table, names: Sequence[str]) -> pa.ChunkedArray:
    return pc.is_in(rows["video_id"], value_set=pa.array(names, pa.string()))


def _refuse_other_files(root: str, replaced: Mapping[str, str]) -> None:
    if replaced:
        raise UserError(
            f"--out {root} has answers for {len(replaced)} files that were replaced since, such as "
            f"{next(iter(replaced.values()))}; give --retry {CHANGED} to process them again, or a new --out"
        )


def _remarks(
    done: str,
    *,
    unlisted: Sequence[str],
    without_crops: Sequence[str],
    replaced: Sequence[str],
    moved: Sequence[str],
    unsure: Sequence[str],
) -> list[str]:
    remarks = [f"continuing: {done} videos are finished"] if done else []
    if unlisted:
        remarks.append(
            f"{len(unlisted)} of them are no longer listed, such as {unlisted[0]}; their rows stay"
        )
    if without_crops:
        some = f"the crops of {len(without_crops)} videos are gone, such as {without_crops[0]}"
        remarks.append(f"{some}; those that are still listed are processed again")
    if replaced:
        remarks.append(f"{len(replaced)} files were replaced since, such as {replaced[0]}; processed again")
    if moved:
        remarks.append(
            f"{len(moved)} finished videos are at another place now, such as {moved[0]}; same content"
        )
    if unsure:
        remarks.append(
            f"warning: {len(unsure)} finished videos are at another place now, such as {unsure[0]}, and "
            "nothing is stored by which to compare their content; their rows stay. "
            f"--retry {CHANGED} processes them again"
        )
    return remarks


def _earlier_manifest(folder: RunFolder) -> pa.Table | None:
    if not storage.exists(folder.manifest):
        return None
    table = storage.read_parquet(folder.manifest, what="manifest of the earlier run")
    return check_manifest(table, origin=folder.manifest)


def _with_uris(manifest: pa.Table, before: pa.Table | None, unsure: Sequence[str]) -> pa.Table:
    """Return ``manifest`` with earlier places of the ``unsure`` videos, so that they are reported again."""
    if before is None or not unsure:
        return manifest
    kept = before.filter(_is_one_of(before, unsure))
    rest = manifest.filter(pc.invert(_is_one_of(manifest, unsure)))
    return pa.concat_tables([rest, kept])


def _unlisted(manifest: pa.Table, before: pa.Table | None, earlier: pa.Table) -> pa.Table:
    """Return the rows of the earlier manifest that have a result and are not in ``manifest``."""
    if before is None:
        return MANIFEST.empty_table()
    missing = unfinished(before, manifest)
    return missing.filter(pc.is_in(missing["video_id"], value_set=earlier["video_id"].combine_chunks()))
