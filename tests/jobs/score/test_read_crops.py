from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from support.crops_rows import make_crops, prepared_row, rejected_row

from dfdm_ray.clips.stage import worker_name
from dfdm_ray.io import object_store, storage
from dfdm_ray.jobs.score.read_crops import ReadCrops
from dfdm_ray.schemas import CLIPS, CROPS_INDEX

STORED = (2, 4, 8, 8, 3)


def read(root: Path, *rows: dict[str, Any], num_frames: int = 4) -> list[dict[str, Any]]:
    stage = ReadCrops(root=str(root), stored=STORED, num_frames=num_frames)
    out = stage(pa.Table.from_pylist(list(rows), schema=CROPS_INDEX))
    assert out.schema.equals(CLIPS)
    return out.to_pylist()


def prepared(root: Path, name: str = "a.mp4") -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
    crops = make_crops(frames=4)
    facts = {"pts_s": [float(frame) for frame in range(8)], "boxes_xyxy": [[frame] * 4 for frame in range(8)]}
    return crops, prepared_row(root, name, crops, generator="iae", face_score=0.9, **facts)


def test_crops_and_facts_come_as_they_were_prepared(tmp_path: Path) -> None:
    crops, row = prepared(tmp_path)
    [out] = read(tmp_path, {**row, "fingerprint": "f", "modified_ns": 7})
    assert out["crops"] == crops.tobytes()
    assert (out["fingerprint"], out["modified_ns"]) == ("f", 7)
    assert (out["status"], out["generator"], out["num_frames_scored"]) == ("scored", "iae", 8)
    assert (out["pts_s"], out["landmarks"]) == (row["pts_s"], [])


def test_a_model_of_fewer_frames_gets_some_of_each_clip_and_their_facts(tmp_path: Path) -> None:
    crops, row = prepared(tmp_path)
    [out] = read(tmp_path, row, num_frames=2)
    assert out["crops"] == crops[:, [0, 3]].tobytes()
    assert out["pts_s"] == [0, 3, 4, 7]
    assert [box[0] for box in out["boxes_xyxy"]] == [0, 3, 4, 7]


def test_rejected_rows_stay_and_what_cannot_be_read_is_rejected_with_the_reason(tmp_path: Path) -> None:
    _, damaged = prepared(tmp_path, "damaged.mp4")
    (tmp_path / damaged["file"]).write_bytes(b"no parquet")
    other = prepared_row(tmp_path, "other.mp4", make_crops(frames=5))
    _, whole = prepared(tmp_path, "whole.mp4")
    rows = read(tmp_path, rejected_row("rejected.mp4"), damaged, other, whole)
    assert [row["reject_code"] for row in rows] == ["no_face", "unreadable", "unfit_frames", None]
    assert "is not a Parquet file" in rows[1]["reject_detail"]
    assert [len(row["crops"]) for row in rows] == [0, 0, 0, 2 * 4 * 8 * 8 * 3]


def test_the_work_of_preprocess_is_not_counted_again(tmp_path: Path) -> None:
    _, row = prepared(tmp_path)
    done = {
        "num_frames_decoded": 30,
        "seconds_detect": 2.0,
        "faults": ["crashed: SIGSEGV"],
        "prepared_by": "x:1",
    }
    for given in ({**row, **done}, {**rejected_row("b.mp4"), **done}):
        [out] = read(tmp_path, given)
        assert (out["num_frames_decoded"], out["seconds_detect"], out["faults"]) == (0, 0, [])
        assert out["prepared_by"] == worker_name()


def test_crops_in_a_store_that_does_not_answer_can_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, row = prepared(tmp_path)

    def fail(*_: object, **__: object) -> None:
        raise OSError("AWS Error SLOW_DOWN during GetObject operation (HTTP status 503)")

    monkeypatch.setattr(object_store._again.wait, "multiplier", 0.001)
    monkeypatch.setattr(storage.pq, "ParquetFile", fail)
    [out] = read(tmp_path, row)
    assert out["reject_code"] == "storage_error"
    assert len(out["faults"]) == object_store.ATTEMPTS - 1
