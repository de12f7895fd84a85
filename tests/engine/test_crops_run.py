import os
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from support.crops_rows import index_row, make_crops, prepared_row, rejected_row

from dfdm_ray.engine.crops_run import require_same_facts, tidy
from dfdm_ray.engine.folder import RunFolder
from dfdm_ray.errors import UserError
from dfdm_ray.schemas import CROPS_INDEX, MANIFEST

NOW_NS = 2**62
"""Later than all that a test has written."""


def dataset(root: Path) -> RunFolder:
    return RunFolder(str(root), job="crops", settings={}, rows="videos", schema=CROPS_INDEX, files="crops")


def index(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=CROPS_INDEX)


def manifest(*rows: dict[str, Any]) -> pa.Table:
    blank = {"uri": "elsewhere", "size_bytes": 1}
    return pa.Table.from_pylist([{**blank, **row} for row in rows], schema=MANIFEST)


def test_what_no_row_names_is_deleted_and_the_rest_is_measured(tmp_path: Path) -> None:
    kept = prepared_row(tmp_path, "a", make_crops(), crf=10, split="train")
    moved = prepared_row(tmp_path, "b", make_crops(), crf=10, split="train")
    rows = index(kept, prepared_row(tmp_path, "b", make_crops(), crf=10, split="test"), rejected_row("c"))
    torn = tmp_path / f"{kept['file']}.0123abcd.part"
    torn.write_bytes(b"PAR1")
    (tmp_path / "notes.txt").write_text("mine")
    num_bytes = tidy(dataset(tmp_path), rows, begun_ns=NOW_NS)
    assert not torn.exists()
    assert not (tmp_path / moved["file"]).exists()  # a split it was meant for when an earlier run stopped
    left = list(tmp_path.rglob("*.parquet"))
    assert sorted(str(path.relative_to(tmp_path)) for path in left) == sorted(
        rows["file"].drop_null().to_pylist()
    )
    assert num_bytes == sum(path.stat().st_size for path in left)
    assert (tmp_path / "notes.txt").exists()


def test_what_another_run_may_still_be_writing_stays(tmp_path: Path) -> None:
    old, begun_ns = prepared_row(tmp_path, "old", make_crops()), time.time_ns()
    new = prepared_row(tmp_path, "new", make_crops())
    for row, age_s in ((old, -60), (new, 60)):
        os.utime(tmp_path / row["file"], (begun_ns / 1e9 + age_s,) * 2)
    assert tidy(dataset(tmp_path), index(rejected_row("a")), begun_ns=begun_ns) == 0
    assert not (tmp_path / old["file"]).exists()
    assert (tmp_path / new["file"]).exists()


def test_crops_that_went_away_are_told(tmp_path: Path) -> None:
    row = prepared_row(tmp_path, "a", make_crops())
    (tmp_path / row["file"]).unlink()
    with pytest.raises(UserError, match=r"1 files of crops are gone from .*, such as crops/crf=unknown/"):
        tidy(dataset(tmp_path), index(row), begun_ns=NOW_NS)


def test_rows_whose_crops_went_away_are_known(tmp_path: Path) -> None:
    kept, gone = (prepared_row(tmp_path, name, make_crops()) for name in ("kept", "gone"))
    (tmp_path / gone["file"]).unlink()
    folder = dataset(tmp_path)
    assert folder.lost(index(kept, gone, rejected_row("c"))).to_pylist() == [False, True, False]
    assert folder.lost(index()).to_pylist() == []


def test_crops_on_the_disk_of_a_worker_alone_stop_the_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a worker wrote crops/x\.parquet, but it is not in"):
        dataset(tmp_path).add(index(index_row("a", file="crops/x.parquet")))


def test_a_dataset_of_rejects_has_no_files(tmp_path: Path) -> None:
    assert tidy(dataset(tmp_path), index(rejected_row("a")), begun_ns=NOW_NS) == 0


def test_a_manifest_must_say_the_same_of_finished_videos() -> None:
    done = index(index_row("a", generator="iae", crf=10, split="train"), index_row("b"))
    same = {"video_id": "a", "generator": "iae", "crf": 10, "split": "train"}
    require_same_facts("out", manifest(same), done)  # others may be gone, files may have moved
    require_same_facts("out", manifest(same, {"video_id": "new", "split": "test"}), done)
    with pytest.raises(UserError, match=r"contains 1 videos .* \(such as a: split: train -> test\)"):
        require_same_facts("out", manifest({**same, "split": "test"}), done)
    with pytest.raises(UserError, match=r"b: generator: None -> dfaker, scene: None -> 0001"):
        require_same_facts("out", manifest({"video_id": "b", "generator": "dfaker", "scene": "0001"}), done)
