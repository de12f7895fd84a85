"""Check of an output folder: one whole row per planned video, no duplicates, no damaged files.

Parts are read one by one, so that a damaged one hides no others.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.progress import track
from rich.table import Table

from dfdm_ray.clips.crops_dataset import INDEX_FOLDER, read_crops, read_settings
from dfdm_ray.config import VerifyConfig
from dfdm_ray.engine.folder import MANIFEST_FILE, RECORD, read_part
from dfdm_ray.engine.record import read_record
from dfdm_ray.engine.resume import looked_at, other_files
from dfdm_ray.errors import RejectCode, UserError
from dfdm_ray.io import storage
from dfdm_ray.io.terminal import say
from dfdm_ray.schemas import CROPS_INDEX, PREDICTIONS, PREDICTIONS_FOLDER, REJECTED, SCORED, check_manifest

_NAMED = 3
"""Examples that are named of each fault."""

_REMEDIES = {
    "missing": "run the same command again",
    "doubled": "run the same command again; it keeps one row of each",
    "unknown": "these videos were not planned; give --overwrite, or a new --out",
    "contradictory": "give --overwrite, or a new --out",
    "replaced since": "run the same command again with --retry changed, or give a new --out",
    "damaged parts": "delete them, and run the same command again",
    "damaged crops": "delete these files, and run the same command again",
    "wrong counts in run.json": "run the same command again",
}
"""Every fault that is looked for, and the remedy."""


def verify(config: VerifyConfig, console: Console) -> bool:
    """Print the content and the faults of the folder, and return whether it has none.

    Raises:
        UserError: If it is no output folder.
    """
    root = config.out
    folder, schema = _kind(root)
    manifest_uri = storage.join(root, MANIFEST_FILE)
    manifest = check_manifest(
        storage.read_parquet(manifest_uri, what="manifest of the run"), origin=manifest_uri
    )
    record = read_record(storage.join(root, RECORD), lenient=True)
    rows, damaged = _read(storage.join(root, folder), schema)
    table = pa.concat_tables([schema.empty_table(), *rows])
    found = {**check_rows(manifest["video_id"].to_pylist(), table), "damaged parts": damaged}
    found["replaced since"] = _replaced(table, manifest, deep=config.deep)
    if schema is CROPS_INDEX:
        scored = [row for row in table.select(["status", "file"]).to_pylist() if row["file"]]
        files = track(scored, description="crops", console=console, transient=True)
        found["damaged crops"] = [
            row["file"] for row in files if not _has_crops(root, row["file"], deep=config.deep)
        ]
    found["wrong counts in run.json"] = list(_wrong_counts(record, table, planned=manifest.num_rows))
    unfinished = [name for name in storage.list_names(storage.join(root, folder)) if name.endswith(".part")]
    _show(manifest.num_rows, table, found, num_unfinished=len(unfinished), console=console)
    return not any(found.values())


def check_rows(planned: Sequence[str], rows: pa.Table) -> dict[str, list[str]]:
    """Return the ids of videos that are missing, doubled or unknown, or whose row contradicts itself."""
    times = Counter(rows["video_id"].to_pylist())
    known = set(planned)
    answer = "file" if "file" in rows.column_names else "generator"
    columns = rows.select(["video_id", "status", "reject_code", answer]).to_pylist()
    return {
        "missing": sorted(known - times.keys()),
        "doubled": sorted(name for name, number in times.items() if number > 1),
        "unknown": sorted(times.keys() - known),
        "contradictory": [row["video_id"] for row in columns if not _is_sound(row, row[answer])],
    }


def _is_sound(row: Mapping[str, Any], answer: str | None) -> bool:
    if row["status"] == SCORED:
        return answer is not None and row["reject_code"] is None
    return row["status"] == REJECTED and row["reject_code"] in [*RejectCode]


def _kind(root: str) -> tuple[str, pa.Schema]:
    """Return the folder of the rows in ``root`` and their schema."""
    names = storage.list_names(root)
    if not {RECORD, MANIFEST_FILE} <= {*names}:
        raise UserError(
            f"{root} is not an output folder of score, preprocess or png-tree import: run.json or "
            "manifest.parquet is missing"
        )
    # A run that died before its first part has neither folder, and no row that needs a schema.
    of_crops = INDEX_FOLDER in names and PREDICTIONS_FOLDER not in names
    return (INDEX_FOLDER, CROPS_INDEX) if of_crops else (PREDICTIONS_FOLDER, PREDICTIONS)


def _read(folder: str, schema: pa.Schema) -> tuple[list[pa.Table], list[str]]:
    """Return the tables of the whole parts and the names of the damaged ones."""
    tables, damaged = [], []
    for name in storage.part_names(folder):
        try:
            tables.append(read_part(storage.join(folder, name), schema))
        except UserError:
            damaged.append(name)
    return tables, damaged


def _replaced(rows: pa.Table, manifest: pa.Table, *, deep: bool) -> list[str]:
    """Return the videos whose file was replaced since; without ``deep``, object stores are not asked."""
    near = pa.array([deep or not storage.is_remote(uri) for uri in rows["uri"].to_pylist()], pa.bool_())
    rows = rows.filter(near)
    now = looked_at(manifest, rows["video_id"].to_pylist())
    return [*other_files(rows, manifest, now, read=deep)["replaced"].values()]


def _has_crops(root: str, file: str, *, deep: bool) -> bool:
    if not deep:
        return storage.exists(storage.join(root, *file.split("/")))
    try:
        shape, settings = read_crops(root, file).shape, read_settings(root)
    except UserError:
        return False
    side = settings["crop_size"]
    return shape == (settings["num_clips"], settings["num_frames"], side, side, 3)


def _wrong_counts(record: Mapping[str, Any], rows: pa.Table, *, planned: int) -> Iterator[str]:
    if "planned" not in record:
        yield "the last run died before it stored them"
        return
    rejected = rows["status"].to_pylist().count(REJECTED)
    counts = {"planned": planned, "rejected": rejected}
    done = next((name for name in ("scored", "prepared") if name in record), None)
    if done:
        counts[done] = rows.num_rows - rejected
    for name, number in counts.items():
        if record.get(name) != number:
            yield f"{name} is {record.get(name)}, but the rows give {number}"


def _show(
    planned: int, rows: pa.Table, found: Mapping[str, list[str]], *, num_unfinished: int, console: Console
) -> None:
    table = Table("", "videos", show_edge=False)
    statuses = rows["status"].to_pylist()
    for name, number in (
        ("planned", planned),
        ("scored", statuses.count(SCORED)),
        ("rejected", statuses.count(REJECTED)),
    ):
        table.add_row(name, str(number))
    for code, number in sorted(Counter(rows["reject_code"].drop_null().to_pylist()).items()):
        table.add_row(f"  {code}", str(number))
    for what, examples in found.items():
        table.add_row(what, str(len(examples)), style="red" if examples else None)
    console.print(table)
    for what, examples in found.items():
        if examples:
            some = ", ".join(examples[:_NAMED])
            say(console, f"{what}: {some}{', ...' if len(examples) > _NAMED else ''}; {_REMEDIES[what]}")
    if num_unfinished:
        say(console, f"{num_unfinished} unfinished files of killed runs are left; they do no harm")
    say(console, "not whole" if any(found.values()) else "whole: one row per planned video")
