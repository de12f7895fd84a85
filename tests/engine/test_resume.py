from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.crops_rows import index_row, rejected_row
from support.run_folders import SETTINGS, rows, run_folder

from dfdm_ray.config import RunConfig
from dfdm_ray.engine.folder import RunFolder
from dfdm_ray.engine.resume import Resumed, resume
from dfdm_ray.engine.run import flush_after_s
from dfdm_ray.errors import UserError
from dfdm_ray.schemas import CROPS_INDEX, MANIFEST, PREDICTIONS


def manifest(**sizes: int) -> pa.Table:
    videos = [{"video_id": name, "uri": f"/{name}", "size_bytes": size} for name, size in sizes.items()]
    return pa.Table.from_pylist(videos, schema=MANIFEST)


def run_again(root: Path, table: pa.Table, **options: Any) -> Resumed:
    """Begin a run over ``table`` as a driver does, and write down what is planned."""
    folder = run_folder(root)
    resumed = resume(folder, table, **{"overwrite": False, "retry": (), **options})
    root.mkdir(exist_ok=True)
    pq.write_table(resumed.manifest, folder.manifest)
    folder.write_record({"runs": []})
    return resumed


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A finished run over a (scored), b (storage_error) and c (no_face)."""
    run_again(tmp_path / "out", manifest(a=1, b=2, c=3))
    write_rows(tmp_path / "out", a=None, b="storage_error", c="no_face")
    return tmp_path / "out"


def write_rows(root: Path, **codes: str | None) -> None:
    folder = run_folder(root)
    folder.open(overwrite=False)
    done = [{**row, "reject_code": codes[row["video_id"]]} for row in rows(*codes).to_pylist()]
    folder.add(pa.Table.from_pylist(done, schema=PREDICTIONS))
    folder.flush()


def ids(table: pa.Table) -> list[str]:
    return sorted(table["video_id"].to_pylist())


def test_a_finished_run_has_nothing_left(out: Path) -> None:
    resumed = run_again(out, manifest(a=1, b=2, c=3))
    assert ids(resumed.todo) == []
    assert resumed.remarks == ["continuing: 3 of 3 videos are finished"]


def test_videos_that_came_since_are_all_that_is_done(out: Path) -> None:
    resumed = run_again(out, manifest(a=1, b=2, c=3, d=4))
    assert ids(resumed.todo) == ["d"]
    assert ids(resumed.manifest) == ["a", "b", "c", "d"]


def test_rejects_are_done_again_by_their_code_and_have_no_row_meanwhile(out: Path) -> None:
    resumed = run_again(out, manifest(a=1, b=2, c=3), retry=("storage_error", "crashed"))
    assert ids(resumed.todo) == ["b"]
    assert ids(resumed.earlier) == ["a", "c"]
    assert ids(run_again(out, manifest(a=1, b=2, c=3)).todo) == ["b"]  # also if that run was killed


def test_rows_of_videos_no_longer_listed_stay_and_stay_planned(out: Path) -> None:
    for _ in range(2):  # the manifest on disk says so too
        resumed = run_again(out, manifest(c=3, d=4))
        assert ids(resumed.manifest) == ["a", "b", "c", "d"]
        assert ids(resumed.todo) == ["d"]
        assert "2 of them are no longer listed" in resumed.remarks[1]


def test_a_file_that_was_replaced_is_told_and_done_again_if_asked(out: Path) -> None:
    told = resume(run_folder(out), manifest(a=9, b=2, c=3), overwrite=False, retry=())
    assert "1 files changed since, such as a" in told.remarks[-1]
    assert ids(told.todo) == []
    resumed = run_again(out, manifest(a=9, b=2, c=3), retry=("changed",))
    assert ids(resumed.todo) == ["a"]


def test_a_replaced_file_that_keeps_its_row_is_told_until_it_is_done_again(out: Path) -> None:
    for _ in range(2):
        assert "1 files changed since, such as a" in run_again(out, manifest(a=9, b=2, c=3)).remarks[-1]
    assert ids(run_again(out, manifest(a=9, b=2, c=3), retry=("changed",)).todo) == ["a"]
    assert ids(run_again(out, manifest(a=9, b=2, c=3)).todo) == ["a"]  # that run was killed
    write_rows(out, a=None)
    assert run_again(out, manifest(a=9, b=2, c=3)).remarks == ["continuing: 3 of 3 videos are finished"]


def test_a_replaced_file_that_was_rejected_is_known_by_its_new_size_once_done_again(out: Path) -> None:
    run_again(out, manifest(a=1, b=9, c=3), retry=("storage_error",))
    write_rows(out, b=None)
    assert run_again(out, manifest(a=1, b=9, c=3)).remarks == ["continuing: 3 of 3 videos are finished"]


def test_a_run_over_crops_and_one_over_their_videos_continue_each_other(out: Path) -> None:
    videos = manifest(a=1, b=2, c=3)
    file = pa.array([f"crops/{name}" for name in videos["video_id"].to_pylist()])
    crops = videos.append_column("file", file)
    for table in (crops, videos):
        resumed = run_again(out, table)
        assert resumed.manifest.schema.names == MANIFEST.names
        assert ids(resumed.todo) == []
    assert run_again(out, crops.slice(0, 0)).manifest.num_rows == 3
    assert "file" in resume(run_folder(out), crops, overwrite=True, retry=()).todo.schema.names


def test_other_settings_are_told_whatever_columns_the_earlier_manifest_has(out: Path) -> None:
    pq.write_table(manifest(a=1).append_column("file", pa.array(["crops/a"])), out / "manifest.parquet")
    with pytest.raises(UserError, match=r"other settings \(margin: 0\.3 -> 0\.5"):
        resume(run_folder(out, {**SETTINGS, "margin": 0.5}), manifest(a=1), overwrite=False, retry=())


def test_videos_whose_crops_are_gone_are_processed_again(tmp_path: Path) -> None:
    out = tmp_path / "crops_out"
    folder = RunFolder(str(out), job="crops", settings={}, rows="videos", schema=CROPS_INDEX, files="crops")
    files = {"a": "crops/a.parquet", "b": None, "c": "crops/c.parquet"}
    resume(folder, manifest(a=1, b=2, c=3), overwrite=False, retry=())
    folder.write_record({"runs": []})
    for name, file in files.items():
        if file:
            (out / file).parent.mkdir(parents=True, exist_ok=True)
            (out / file).touch()
        row = index_row(name, file=file) if file else rejected_row(name)
        folder.add(pa.Table.from_pylist([row], schema=CROPS_INDEX))
    folder.flush()
    (out / "crops" / "a.parquet").unlink()
    resumed = resume(folder, manifest(a=1, b=2, c=3), overwrite=False, retry=())
    assert ids(resumed.todo) == ["a"]
    remark = "the crops of 1 videos are gone, such as a; those that are still listed are processed again"
    assert remark in resumed.remarks
    assert ids(resume(folder, manifest(a=1, b=2, c=3), overwrite=False, retry=()).todo) == ["a"]


def test_overwriting_begins_anew(out: Path) -> None:
    resumed = run_again(out, manifest(c=3, d=4), overwrite=True)
    assert ids(resumed.todo) == ids(resumed.manifest) == ["c", "d"]


def test_a_code_that_does_not_exist_is_told_with_those_that_do() -> None:
    with pytest.raises(UserError, match=r"--retry no_fase is not one of unreadable, .*no_face.*, changed"):
        RunConfig(retry=("no_fase",))


def test_rows_wait_for_the_disk_a_twentieth_of_the_run_at_most() -> None:
    assert [flush_after_s(age) for age in (0.0, 10.0, 100.0, 10_000.0)] == [1.0, 1.0, 5.0, 20.0]
