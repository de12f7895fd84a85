"""Write the predictions of a run for spreadsheets and other programs. Runs in this process, without Ray.

::

    OUT/predictions/part-*.parquet -> one part after another -> one line per video -> OUT/predictions.csv
"""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from rich.console import Console

from dfdm_ray.engine.folder import MANIFEST_FILE, RECORD, read_part
from dfdm_ray.engine.record import read_record
from dfdm_ray.errors import UserError
from dfdm_ray.io import storage
from dfdm_ray.io.atomic import atomic_stream
from dfdm_ray.io.rows import flat, nested
from dfdm_ray.io.terminal import say
from dfdm_ray.jobs.export.config import ExportConfig
from dfdm_ray.schemas import PREDICTIONS, PREDICTIONS_FOLDER

Row = dict[str, Any]

_BATCH = 500
"""Rows that are plain Python values at the same time."""


def export(config: ExportConfig, console: Console) -> int:
    """Write the file and return the number of its rows.

    Raises:
        UserError: If ``config.out`` contains no predictions, or the file exists or cannot be written.
    """
    to = config.to or storage.join(config.out, f"{PREDICTIONS_FOLDER}.{config.format}")
    if storage.exists(to) and not config.overwrite:
        raise UserError(f"{to} exists; give --overwrite to replace it, or another --to")
    folder = storage.join(config.out, PREDICTIONS_FOLDER)
    if not storage.part_names(folder):
        raise UserError(
            f"{config.out} contains no predictions; give an output folder of `dfdm-ray score` that has some"
        )
    classes = read_record(storage.join(config.out, RECORD))["settings"].get("classes", [])
    write = _csv if config.format == "csv" else _jsonl
    with _text(storage.absolute(to)) as text:
        count = write(rows_of(folder), classes, text)
    planned = storage.read_parquet(
        storage.join(config.out, MANIFEST_FILE), what="manifest of the run", columns=["video_id"]
    ).num_rows
    if count < planned:
        missing = f"{planned - count} of {planned} planned videos have no row yet"
        say(console, f"the run is not complete: {missing}; run `dfdm-ray score` again, then export again")
    say(console, f"{to}: {count} videos")
    return count


def rows_of(folder: str) -> Iterator[Row]:
    """Yield the rows of the parts in ``folder``, one of each video; two runs may have stored it.

    Raises:
        UserError: If a part is damaged.
    """
    seen: set[str] = set()
    for name in storage.part_names(folder):
        for batch in read_part(storage.join(folder, name), PREDICTIONS).to_batches(max_chunksize=_BATCH):
            for row in batch.to_pylist():
                if row["video_id"] not in seen:
                    seen.add(row["video_id"])
                    yield row


def _csv(rows: Iterator[Row], classes: Sequence[str], text: TextIO) -> int:
    text.write("\ufeff")  # without this mark Excel does not read UTF-8
    header = flat(dict.fromkeys(PREDICTIONS.names), PREDICTIONS, classes)
    writer = csv.DictWriter(text, [*header])
    writer.writeheader()
    return sum(bool(writer.writerow(flat(row, PREDICTIONS, classes))) for row in rows)


def _jsonl(rows: Iterator[Row], classes: Sequence[str], text: TextIO) -> int:
    contents = (nested(row, PREDICTIONS, classes) for row in rows)
    lines = (json.dumps(one, ensure_ascii=False, allow_nan=False) + "\n" for one in contents)
    return sum(bool(text.write(line)) for line in lines)


@contextmanager
def _text(uri: str) -> Iterator[TextIO]:
    """Yield a stream of UTF-8 text to a file that appears when the block ends."""
    if storage.is_remote(uri):
        buffer = io.StringIO(newline="")
        yield buffer
        storage.write_atomic(uri, buffer.getvalue().encode())
        return
    with atomic_stream(storage.local_path(uri)) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8", newline="")
        yield text
        text.detach()  # the stream is closed by its owner
