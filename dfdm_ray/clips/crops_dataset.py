"""The crops dataset: face crops of many videos, made once and read by training.

::

    ROOT/crops/crf=10/split=train/<hash of video_id>.parquet   one video: schemas.CROPS
         videos/part-*.parquet                                 one row per video: schemas.CROPS_INDEX
         run.json                                              settings, status, counts

A video belongs to the dataset when a row of ``videos/`` names its file. ``crf`` and ``split`` are both in the
paths, for people who list them, and in columns of the files. Unknown values are ``crf=unknown`` and
``split=none`` in paths, null in columns. Because of the columns, ``pyarrow`` needs ``partitioning=None`` to
read many files at once.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import av
import av.error
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from av.video.frame import VideoFrame

from dfdm_ray.errors import UserError
from dfdm_ray.io import storage
from dfdm_ray.io.images import Image, png, read_png
from dfdm_ray.schemas import CROPS, CROPS_INDEX, REJECTED

CROPS_FOLDER = "crops"
INDEX_FOLDER = "videos"

_NAME_DIGITS = 32
"""Hexadecimal digits of the SHA-256 of a video's id: 128 bits, so that names do not collide."""


def crops_file(video: Mapping[str, Any]) -> str:
    """Return the path, below the dataset, of the crops of a manifest row; the same for every attempt."""
    crf = "unknown" if video["crf"] is None else video["crf"]
    split = split_folder(video["split"])
    name = hashlib.sha256(video["video_id"].encode()).hexdigest()[:_NAME_DIGITS]
    return f"{CROPS_FOLDER}/crf={crf}/split={split}/{name}.parquet"


def split_folder(split: str | None) -> str:
    """Return a split's name as a folder name; a manifest may contain any name."""
    return quote(split or "none", safe=" ")


def write_crops(root: str, row: Mapping[str, Any], crops: npt.NDArray[np.uint8]) -> str:
    """Write one prepared video and return its path below ``root``.

    Args:
        crops: RGB, shape ``(C, T, S, S, 3)``.

    Raises:
        OSError: If it cannot be written.
    """
    file = crops_file(row)
    pictures = [png(crop) for crop in crops.reshape(-1, *crops.shape[2:])]
    storage.write_parquet(_uri(root, file), pa.Table.from_pylist([{**row, "crops": pictures}], schema=CROPS))
    return file


def read_crops(root: str, file: str) -> npt.NDArray[np.uint8]:
    """Return the crops of one video: RGB, shape ``(C, T, S, S, 3)``.

    Raises:
        UserError: If the file is missing or damaged.
    """
    return decode_pictures(read_pictures(root, file), root=root, file=file)


def decode_pictures(pictures: Sequence[Sequence[bytes]], *, root: str, file: str) -> npt.NDArray[np.uint8]:
    """Return clips of PNG files from :func:`read_pictures` as RGB, shape ``(C, T, S, S, 3)``.

    Raises:
        UserError: If one is damaged.
    """
    try:
        return np.stack([np.stack([_pixels(picture) for picture in clip]) for clip in pictures])
    except ValueError as error:
        raise _damaged(root, file, str(error)) from error


def _pixels(picture: bytes) -> Image:
    """Return :func:`read_png` of a picture. FFmpeg takes two thirds of OpenCV's time for 8-bit RGB."""
    with suppress(av.error.FFmpegError, ValueError):
        decoder = av.CodecContext.create("png", "r")
        decoder.thread_count = 1
        decoder.options = {"err_detect": "crccheck+explode"}  # else damage passes
        (frame,) = decoder.decode(av.Packet(picture))
        if isinstance(frame, VideoFrame) and frame.format.name == "rgb24":
            return frame.to_ndarray().astype(np.uint8, copy=False)
    return read_png(picture)


def pick_frames(stored: int, wanted: int) -> npt.NDArray[np.int64]:
    """Return the indices of ``wanted`` frames, spread evenly over ``stored`` ones."""
    return np.linspace(0, stored - 1, wanted).round().astype(np.int64)


def read_pictures(root: str, file: str) -> list[list[bytes]]:
    """Return the stored crops of one video: C lists of T PNG files."""
    table = storage.read_parquet(_uri(root, file), what="crops", columns=["num_clips", "crops"])
    if table.num_rows != 1:
        raise _damaged(root, file, f"{table.num_rows} rows")
    row = table.to_pylist()[0]
    num_frames, left = divmod(len(row["crops"]), max(row["num_clips"], 1))
    if left or not num_frames:
        raise _damaged(root, file, f"{len(row['crops'])} pictures for {row['num_clips']} clips")
    return [row["crops"][start : start + num_frames] for start in range(0, len(row["crops"]), num_frames)]


def read_index(root: str) -> pa.Table:
    """Return the rows of all videos, :data:`schemas.CROPS_INDEX`, sorted by ``video_id``.

    Raises:
        UserError: If ``root`` is not a crops dataset, not complete, or without crops.
    """
    status, _, _ = str(_record(root)["runs"][-1]["status"]).partition(":")
    if status != "complete":
        raise UserError(
            f"the crops dataset {root} is not complete: its last run is {status!r} in run.json; run the same "
            "command again to finish it"
        )
    index = storage.read_parts(storage.join(root, INDEX_FOLDER), CROPS_INDEX)
    if not prepared(index).num_rows:
        raise UserError(f"the crops dataset {root} has no crops: {index.num_rows} videos, all rejected")
    return index.sort_by("video_id")


def read_settings(root: str) -> dict[str, Any]:
    """Return the settings on which the crops depend: ``num_frames``, ``crop_size``, ...

    Raises:
        UserError: If ``root`` is not a crops dataset.
    """
    return dict(_record(root)["settings"])


def prepared(index: pa.Table) -> pa.Table:
    """Return the rows that have crops."""
    return index.filter(pc.not_equal(index["status"], REJECTED))


def _record(root: str) -> dict[str, Any]:
    if not storage.exists(storage.join(root, INDEX_FOLDER)):
        raise UserError(f"{root} is not a crops dataset; make one with `dfdm-ray preprocess --out {root}`")
    uri = storage.join(root, "run.json")
    try:
        record: dict[str, Any] = json.loads(storage.read_bytes(uri, what="record of the crops dataset"))
        record["runs"][-1]["status"], record["settings"]["crop_size"]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise UserError(f"{uri} is damaged; make the dataset again with --overwrite") from error
    return record


def _uri(root: str, file: str) -> str:
    return storage.join(root, *file.split("/"))


def _damaged(root: str, file: str, what: str) -> UserError:
    return UserError(f"{_uri(root, file)} is damaged ({what}); delete it, and make the dataset again")
