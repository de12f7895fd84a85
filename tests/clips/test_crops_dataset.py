from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from support.crops_rows import SETTINGS, index_row, make_crops, prepared_row, rejected_row, write_index

from dfdm_ray.clips.crops_dataset import (
    crops_file,
    decode_pictures,
    pick_frames,
    prepared,
    read_crops,
    read_index,
    read_settings,
    write_crops,
)
from dfdm_ray.errors import UserError
from dfdm_ray.io.images import png, read_png
from dfdm_ray.schemas import CROPS, CROPS_INDEX


def test_crops_come_back_bit_for_bit_in_order_of_clips_and_frames(tmp_path: Path) -> None:
    crops = make_crops()
    row = prepared_row(tmp_path, "ü 1%.mp4", crops, crf=10, split="train")
    assert np.array_equal(read_crops(str(tmp_path), row["file"]), crops)
    stored = pq.read_table(tmp_path / row["file"], partitioning=None)
    assert stored.schema.names == CROPS.names
    assert (stored["crf"].to_pylist(), stored["split"].to_pylist()) == ([10], ["train"])


def test_a_file_is_named_by_its_video_alone_and_stands_under_quality_and_split() -> None:
    row = index_row("a.mp4", crf=10, split="train")
    assert crops_file(row).startswith("crops/crf=10/split=train/")
    assert crops_file(row) == crops_file({**row, "uri": "moved.mp4", "size_bytes": 3})
    assert crops_file(row) != crops_file({**row, "video_id": "b.mp4"})
    assert crops_file({**row, "crf": 0, "split": None}).startswith("crops/crf=0/split=none/")
    assert crops_file({**row, "crf": None}).startswith("crops/crf=unknown/")
    assert crops_file({**row, "split": "../x"}).startswith("crops/crf=10/split=..%2Fx/")  # never outside


def test_work_done_again_replaces_the_file_with_the_same_bytes(tmp_path: Path) -> None:
    crops = make_crops()
    first = prepared_row(tmp_path, "a.mp4", crops)
    before = (tmp_path / first["file"]).read_bytes()
    assert prepared_row(tmp_path, "a.mp4", crops)["file"] == first["file"]
    assert [path.read_bytes() for path in tmp_path.rglob("*.parquet")] == [before]


def test_the_index_has_every_video_in_order_and_those_with_crops_are_told(tmp_path: Path) -> None:
    write_index(tmp_path, prepared_row(tmp_path, "b", make_crops()), rejected_row("a"))
    index = read_index(str(tmp_path))
    assert index.schema.names == CROPS_INDEX.names
    assert index["video_id"].to_pylist() == ["a", "b"]
    assert prepared(index)["video_id"].to_pylist() == ["b"]
    assert read_settings(str(tmp_path)) == SETTINGS


def test_what_is_no_dataset_is_told(tmp_path: Path) -> None:
    for read in (read_index, read_settings):
        with pytest.raises(UserError, match=r"is not a crops dataset; make one with `dfdm-ray preprocess"):
            read(str(tmp_path))
        with pytest.raises(UserError, match="is not a crops dataset"):
            read(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("status", ["running", "interrupted", "failed: no space left"])
def test_an_incomplete_dataset_is_not_trained_on(status: str, tmp_path: Path) -> None:
    write_index(tmp_path, prepared_row(tmp_path, "a", make_crops()), status=status)
    with pytest.raises(UserError, match=rf"is not complete: its last run is '{status[:6]}[a-z]*' in"):
        read_index(str(tmp_path))


def test_a_dataset_without_crops_is_told(tmp_path: Path) -> None:
    write_index(tmp_path, rejected_row("a"), rejected_row("b"))
    with pytest.raises(UserError, match="has no crops: 2 videos, all rejected"):
        read_index(str(tmp_path))


@pytest.mark.parametrize("content", ["", "[]", '{"runs": []}', '{"runs": [{"status": "complete"}]}'])
def test_a_damaged_record_is_told(content: str, tmp_path: Path) -> None:
    write_index(tmp_path, prepared_row(tmp_path, "a", make_crops()))
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(UserError, match=r"run\.json is damaged"):
        read_index(str(tmp_path))


def test_rows_of_another_table_are_told(tmp_path: Path) -> None:
    write_index(tmp_path, prepared_row(tmp_path, "a", make_crops()))
    part = tmp_path / "videos" / "part-00000.parquet"
    pq.write_table(pq.read_table(part).drop_columns(["file"]), part)
    with pytest.raises(UserError, match="other columns than this version writes"):
        read_index(str(tmp_path))


def test_missing_and_damaged_crops_are_told(tmp_path: Path) -> None:
    file = prepared_row(tmp_path, "a", make_crops())["file"]
    with pytest.raises(UserError, match="cannot read the crops"):
        read_crops(str(tmp_path), "crops/gone.parquet")
    row = pq.read_table(tmp_path / file, partitioning=None).to_pylist()[0]

    def store(**values: object) -> None:
        pq.write_table(CROPS.empty_table().from_pylist([{**row, **values}], schema=CROPS), tmp_path / file)

    store(crops=row["crops"][:-1])
    with pytest.raises(UserError, match=r"damaged \(5 pictures for 2 clips\)"):
        read_crops(str(tmp_path), file)
    store(crops=[*row["crops"][:-1], b"no picture"])
    with pytest.raises(UserError, match=r"damaged \(not an image"):
        read_crops(str(tmp_path), file)
    (tmp_path / file).write_bytes(b"PAR1")
    with pytest.raises(UserError, match="is not a Parquet file"):
        read_crops(str(tmp_path), file)


def test_pictures_of_any_depth_are_read_as_rgb_and_damaged_ones_are_told(tmp_path: Path) -> None:
    picture = make_crops()[0, 0]
    for other in (picture[..., 0], np.dstack([picture, picture[..., :1]]), picture.astype(np.uint16) * 257):
        content = cv2.imencode(".png", other)[1].tobytes()
        found = decode_pictures([[content]], root=str(tmp_path), file="x")
        np.testing.assert_array_equal(found[0, 0], read_png(content))
    content = png(picture)
    for damaged in (content[:-20], content[:60] + b"\0" + content[61:], b""):
        with pytest.raises(UserError, match=r"x is damaged \("):
            decode_pictures([[content, damaged]], root=str(tmp_path), file="x")


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "crops").write_text("a file where a folder should be")
    with pytest.raises(OSError, match="crops"):
        write_crops(str(tmp_path), {**index_row("a"), "num_clips": 2}, make_crops())


@pytest.mark.parametrize(
    ("stored", "wanted", "picked"), [(10, 10, range(10)), (10, 2, [0, 9]), (10, 4, [0, 3, 6, 9]), (5, 1, [0])]
)
def test_frames_are_picked_evenly(stored: int, wanted: int, picked: list[int]) -> None:
    assert pick_frames(stored, wanted).tolist() == list(picked)
