"""Small crops datasets, made without decoding a video."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from dfdm_ray.clips.crops_dataset import write_crops
from dfdm_ray.schemas import CROPS_INDEX

SETTINGS = {"num_frames": 3, "num_clips": 2, "crop_size": 8, "margin": 0.3}

Crops = npt.NDArray[np.uint8]


def index_row(video_id: str, **values: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {"string": "", "int32": 0, "int64": 0, "float": 0.0}
    blank = {
        field.name: None if field.nullable else [] if pa.types.is_list(field.type) else plain[str(field.type)]
        for field in CROPS_INDEX
    }
    return {**blank, "video_id": video_id, "status": "scored", **values}


def rejected_row(video_id: str, code: str = "no_face") -> dict[str, Any]:
    return index_row(video_id, status="rejected", reject_code=code, reject_detail="none seen")


def make_crops(clips: int = 2, frames: int = 3, size: int = 8) -> Crops:
    return np.random.randint(0, 256, (clips, frames, size, size, 3), np.uint8)


def prepared_row(root: Path, video_id: str, crops: Crops, **values: Any) -> dict[str, Any]:
    """Write the crops and return the row that names them."""
    row = index_row(
        video_id, num_clips=len(crops), num_frames_scored=crops.shape[0] * crops.shape[1], **values
    )
    return {**row, "file": write_crops(str(root), {k: row[k] for k in row if k != "file"}, crops)}


def write_index(
    root: Path, *rows: dict[str, Any], status: str = "complete", settings: dict[str, Any] = SETTINGS
) -> None:
    (root / "videos").mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(list(rows), schema=CROPS_INDEX)
    pq.write_table(table, root / "videos" / "part-00000.parquet")
    record = {"runs": [{"status": status}], "settings": settings}
    (root / "run.json").write_text(json.dumps(record))


PATTERN_PX = 32


def pattern_clips(kind: int, seed: int, *, clips: int = 2, frames: int = 2) -> Crops:
    """Stripes whose period tells the class, on a noisy ground of any brightness: quick to learn."""
    rng = np.random.default_rng((kind, seed))
    period = (2, 4, 8, 16)[kind]
    stripes = 40 * np.sin(2 * np.pi * np.arange(PATTERN_PX) / period + rng.uniform(0, 6))
    ground = rng.uniform(70, 180) + rng.normal(0, 12, (clips, frames, PATTERN_PX, PATTERN_PX, 3))
    return (ground + stripes[:, None, None]).clip(0, 255).astype(np.uint8)


def write_patterns(root: Path, *, generators: tuple[str, ...], each: dict[str, int], first: int = 0) -> None:
    """Write a crops dataset of ``each`` so many videos a generator in each split."""
    rows = []
    for kind, generator in enumerate(generators):
        for split, count in each.items():
            for number in range(first, first + count):
                facts = {"generator": generator, "split": split, "crf": (0, 10, 23)[number % 3]}
                crops = pattern_clips(kind, number + 100 * len(split))
                rows.append(prepared_row(root, f"{generator}/{split}{number}.mp4", crops, **facts))
    settings = {"num_frames": 2, "num_clips": 2, "crop_size": PATTERN_PX, "margin": 0.3}
    write_index(root, *rows, settings={**settings, "strategy": "keyframe_runs", "runs_per_clip": 2})
