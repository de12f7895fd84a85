"""Export of a crops dataset as a tree of frames; the stored PNG files are copied unchanged.

::

    TREE/<train|val|test|none>/DF_class1/Video1/Frame1.png ... FrameT.png
         videos.csv      the video and clip of each folder

The loader of ``shanface33/Deepfake_Model_Attribution`` sorts names as text and so reads Frame10 right after
Frame1; the tree keeps the published names.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.progress import track

from dfdm_ray.clips.crops_dataset import prepared, read_index, read_pictures, split_folder
from dfdm_ray.errors import UserError
from dfdm_ray.io import storage
from dfdm_ray.jobs.png_tree.config import PngTreeExport
from dfdm_ray.labels import GENERATORS

TABLE = "videos.csv"
_COLUMNS = ["folder", "video_id", "clip", "generator", "crf", "split"]

Row = dict[str, Any]


def choose_videos(config: PngTreeExport) -> tuple[pa.Table, int]:
    """Return the rows of the dataset that go into the tree, and the number of those without a generator.

    Raises:
        UserError: If a quality is missing, there are several and none is chosen, or nothing is left.
    """
    index = prepared(read_index(config.crops))
    qualities = sorted(index["crf"].unique().to_pylist(), key=lambda crf: -1 if crf is None else crf)
    names = ", ".join("unknown" if crf is None else str(crf) for crf in qualities)
    if config.crf:
        if absent := [crf for crf in config.crf if crf not in qualities]:
            raise UserError(f"--crf {absent[0]}: {config.crops} has crops of crf {names} only")
        index = index.filter(pc.is_in(index["crf"], pa.array(config.crf, pa.int32())))
    elif len(qualities) > 1:
        raise UserError(
            f"{config.crops} has crops of crf {names}, which a tree cannot distinguish; "
            "choose with --crf (one tree each, or name several to mix them)"
        )
    known = index.filter(pc.is_in(index["generator"], pa.array(GENERATORS)))
    if not known.num_rows:
        names = ", ".join(GENERATORS)
        raise UserError(f"no video of {config.crops} has a known generator; a tree needs one of {names}")
    return known, index.num_rows - known.num_rows


def write_tree(config: PngTreeExport, videos: pa.Table, console: Console) -> int:
    """Write the clips of ``videos`` and return the number of folders. Running again continues.

    Raises:
        UserError: If the tree is not a new folder or cannot be written.
    """
    rows = [{**row, "folders": []} for row in videos.to_pylist()]
    lines = list(_folders(rows, config.class_folder))
    table, content = storage.join(config.tree, TABLE), _csv(lines)
    there = [name for name in storage.list_names(config.tree) if not name.endswith(".part")]
    if there and (TABLE not in there or storage.read_bytes(table, what="list of folders") != content):
        raise UserError(f"--tree {config.tree} contains something else; give a new folder")
    try:
        storage.write_atomic(table, content)
        for row in track(rows, description="videos", console=console, transient=True):
            clips = read_pictures(config.crops, row["file"])
            for folder, frames in zip(row["folders"], clips, strict=True):
                for number, frame in enumerate(frames, start=1):
                    uri = storage.join(config.tree, *folder.split("/"), f"Frame{number}.png")
                    storage.write_atomic(uri, frame)
    except OSError as error:
        raise UserError(f"cannot write to --tree {config.tree}: {error.strerror or error}") from error
    return len(lines)


def _folders(rows: list[Row], class_folder: str) -> Iterator[Row]:
    """Yield one line of videos.csv per clip, and add the folders of its clips to each row."""
    numbers: Counter[str] = Counter()
    for row in rows:
        kind = GENERATORS.index(row["generator"]) + 1
        parent = f"{split_folder(row['split'])}/{class_folder}{kind}"
        for clip in range(row["num_clips"]):
            numbers[parent] += 1
            row["folders"].append(f"{parent}/Video{numbers[parent]}")
            yield {**row, "folder": row["folders"][-1], "clip": clip}


def _csv(lines: list[Row]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, _COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue().encode()
