import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.run_folders import SETTINGS, a_run, rows, run_folder

from dfdm_ray.engine.folder import RunFolder, unfinished
from dfdm_ray.engine.record import changes
from dfdm_ray.errors import UserError
from dfdm_ray.schemas import CROPS_INDEX, PREDICTIONS


def test_rows_stay_in_order_of_parts_and_none_is_written_twice(tmp_path: Path) -> None:
    folder = a_run(tmp_path, "a", "b")
    folder.flush()
    folder.add(rows("c"))
    folder.flush()
    names = sorted(path.name for path in (tmp_path / "predictions").iterdir())
    assert [name[:10] for name in names] == ["part-00000", "part-00001"]
    assert folder.read()["video_id"].to_pylist() == ["a", "b", "c"]


def test_a_run_is_continued_in_new_parts_and_remembers_earlier_runs(tmp_path: Path) -> None:
    a_run(tmp_path, "a")
    again = run_folder(tmp_path)
    assert again.open(overwrite=False)["video_id"].to_pylist() == ["a"]
    assert again.earlier_runs == [{"status": "running"}]
    again.add(rows("b"))
    again.flush()
    assert again.read()["video_id"].to_pylist() == ["a", "b"]


def test_a_run_from_before_crops_had_an_alignment_is_continued_with_the_same_crops(tmp_path: Path) -> None:
    a_run(tmp_path, "a")
    assert run_folder(tmp_path, {**SETTINGS, "align": "box"}).open(overwrite=False).num_rows == 1
    with pytest.raises(UserError, match="align: box -> generator"):
        run_folder(tmp_path, {**SETTINGS, "align": "generator"}).open(overwrite=False)


def test_many_rows_are_flushed_without_being_asked(tmp_path: Path) -> None:
    folder = a_run(tmp_path, "a")
    folder.add(rows(*map(str, range(1000))))
    assert folder.read().num_rows == 1001


def test_other_settings_are_refused_with_the_difference_and_overwrite_replaces(tmp_path: Path) -> None:
    a_run(tmp_path, "a")
    changed = run_folder(tmp_path, {**SETTINGS, "margin": 0.5})
    with pytest.raises(UserError, match=r"margin: 0\.3 -> 0\.5"):
        changed.open(overwrite=False)
    (tmp_path / "notes.txt").write_text("mine")
    assert changed.open(overwrite=True).num_rows == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "run.json"]


def test_a_folder_with_other_things_is_refused_even_with_overwrite(tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").write_text("precious")
    for overwrite in (False, True):
        with pytest.raises(UserError, match=r"contains files but no run.json \(thesis.docx\)"):
            run_folder(tmp_path).open(overwrite=overwrite)
    assert (tmp_path / "thesis.docx").read_text() == "precious"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"settings": 3, "runs": []}', '{"settings": {}}'])
def test_a_damaged_record_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(UserError, match=r"run\.json is damaged"):
        run_folder(tmp_path).open(overwrite=False)


def test_the_record_holds_settings_and_survives_values_json_does_not_know(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    folder.write_record({"runs": [], "path": tmp_path})
    record = json.loads((tmp_path / "run.json").read_text())
    assert record == {"runs": [], "path": str(tmp_path), "job": "score", "settings": SETTINGS}


def test_changes_name_what_came_went_and_differs() -> None:
    assert changes({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 4, "d": 5}) == [
        "b: 2 -> 4",
        "c: 3 -> None",
        "d: None -> 5",
    ]


def test_unfinished_leaves_out_the_videos_with_a_row() -> None:
    manifest = pa.table({"video_id": ["a", "b", "c"]})
    assert unfinished(manifest, rows("b"))["video_id"].to_pylist() == ["a", "c"]
    assert unfinished(manifest, PREDICTIONS.empty_table()).num_rows == 3


def test_two_drivers_at_once_overwrite_nothing_and_what_stands_twice_is_settled(tmp_path: Path) -> None:
    first, second = a_run(tmp_path, "a"), run_folder(tmp_path)
    second.open(overwrite=False)
    for folder, ids in ((first, ["b", "c"]), (second, ["c", "d"])):
        folder.add(rows(*ids))
        folder.flush()
    assert sorted(first.read()["video_id"].to_pylist()) == ["a", "b", "c", "c", "d"]
    first.settle()
    assert sorted(first.read()["video_id"].to_pylist()) == ["a", "b", "c", "d"]


def other_job(root: Path, *names: str) -> None:
    """A finished run of another job, which leaves ``names``."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("precious")
    (root / "run.json").write_text('{"runs": [{"status": "complete"}], "settings": {}}')


@pytest.mark.parametrize(
    "names",
    [
        ("manifest.parquet", "videos/part-00000.parquet", "crops/a.parquet"),  # of preprocess
        ("manifest.parquet", "crops/a.parquet"),  # the same, stopped before its first part
        ("state.pt", "history.csv", "dma_sta.pt"),  # of train
    ],
)
def test_the_run_of_another_job_is_not_overwritten(tmp_path: Path, names: tuple[str, ...]) -> None:
    other_job(tmp_path, *names)
    for overwrite in (False, True):
        with pytest.raises(UserError, match=r"run of another job \((crops|train)\), which --overwrite"):
            run_folder(tmp_path).open(overwrite=overwrite)
    assert {(tmp_path / name).read_text() for name in names} == {"precious"}


def test_predictions_are_not_overwritten_by_crops(tmp_path: Path) -> None:
    other_job(tmp_path, "manifest.parquet", "predictions/part-00000.parquet")
    folder = RunFolder(
        str(tmp_path), job="crops", settings={}, rows="videos", schema=CROPS_INDEX, files="crops"
    )
    with pytest.raises(UserError, match=r"a run of another job \(score\)"):
        folder.open(overwrite=True)


def test_the_job_in_the_record_counts_more_than_the_files_beside_it(tmp_path: Path) -> None:
    a_run(tmp_path, "a")
    (tmp_path / "crops").mkdir()
    assert run_folder(tmp_path).open(overwrite=False).num_rows == 1
    record = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({**record, "job": "train"}))
    with pytest.raises(UserError, match=r"a run of another job \(train\)"):
        run_folder(tmp_path).open(overwrite=False)


@pytest.mark.parametrize(
    "name",
    [
        "manifest.parquet",
        "run.json.0123abcd.part",
        "manifest.parquet.0123abcd.part",
        "heartbeat-0123abcd.json",
        "heartbeat-0123abcd.json.0123abcd.part",
    ],
)
def test_a_folder_that_stopped_at_its_first_file_is_continued(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("left by a run that was killed")
    assert a_run(tmp_path, "a").read()["video_id"].to_pylist() == ["a"]


def test_a_run_that_died_before_its_first_part_is_overwritten(tmp_path: Path) -> None:
    other_job(tmp_path, "manifest.parquet")
    assert run_folder(tmp_path).open(overwrite=True).num_rows == 0


def test_tables_that_others_put_beside_the_parts_are_neither_read_nor_touched(tmp_path: Path) -> None:
    folder = a_run(tmp_path, "a", "b")
    merged = tmp_path / "predictions" / "merged.parquet"
    pq.write_table(folder.read(), merged)
    again = run_folder(tmp_path)
    assert again.open(overwrite=False)["video_id"].to_pylist() == ["a", "b"]
    assert len(list((tmp_path / "predictions").iterdir())) == 2
    assert merged.exists()


def test_a_damaged_part_is_named_with_the_remedy(tmp_path: Path) -> None:
    a_run(tmp_path, "a")
    (tmp_path / "predictions" / "part-00007-x.parquet").write_bytes(b"torn")
    with pytest.raises(UserError, match=r"delete .*part-00007-x\.parquet, and its videos are processed"):
        run_folder(tmp_path).open(overwrite=False)
