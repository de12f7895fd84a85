import io
import os
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
from dfdm_ray.io.identity import fingerprint
from dfdm_ray.manifest.build import build_manifest
from dfdm_ray.schemas import CROPS_INDEX, MANIFEST, PREDICTIONS, check_manifest


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


SIZE = 1000


def write_rows(root: Path, prints: bytes = b"", **codes: str | None) -> None:
    folder = run_folder(root)
    folder.open(overwrite=False)
    found = fingerprint(io.BytesIO(prints * SIZE), SIZE) if prints else None
    done = [
        {**row, "reject_code": codes[row["video_id"]], "fingerprint": found}
        for row in rows(*codes).to_pylist()
    ]
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


REPLACED = (
    r"has answers for 1 files that were replaced since, such as a \(bytes: 1 -> 9\); give --retry changed"
)


def test_a_replaced_file_that_has_an_answer_is_refused_until_it_is_done_again(out: Path) -> None:
    for _ in range(2):
        with pytest.raises(UserError, match=REPLACED):
            run_again(out, manifest(a=9, b=2, c=3))
    assert ids(run_folder(out).read()) == ["a", "b", "c"]
    resumed = run_again(out, manifest(a=9, b=2, c=3), retry=("changed",))
    assert ids(resumed.todo) == ["a"]
    assert "1 files were replaced since, such as a; processed again" in resumed.remarks
    assert ids(run_again(out, manifest(a=9, b=2, c=3)).todo) == ["a"]  # that run was killed
    write_rows(out, a=None)
    assert run_again(out, manifest(a=9, b=2, c=3)).remarks == ["continuing: 3 of 3 videos are finished"]


def test_a_rejected_file_that_was_replaced_is_done_again_without_being_asked(out: Path) -> None:
    resumed = run_again(out, manifest(a=1, b=9, c=3))
    assert ids(resumed.todo) == ["b"]
    assert "1 files were replaced since, such as b; processed again" in resumed.remarks
    write_rows(out, b=None)
    assert run_again(out, manifest(a=1, b=9, c=3)).remarks == ["continuing: 3 of 3 videos are finished"]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A folder with v1.mp4 and v2.mp4, and a finished run over it in ``out``, beside it."""
    write_archive(tmp_path / "archive", b"a")
    run_again(tmp_path / "out", listed(tmp_path / "archive"))
    write_rows(tmp_path / "out", prints=b"a", **{"v1.mp4": None, "v2.mp4": None})
    return tmp_path / "archive"


def write_archive(folder: Path, content: bytes, *names: str) -> None:
    folder.mkdir(exist_ok=True)
    for name in names or ("v1.mp4", "v2.mp4"):
        (folder / name).write_bytes(content * SIZE)
        os.utime(folder / name, (1, content[0]))  # another content, another time


def listed(folder: Path) -> pa.Table:
    return build_manifest(str(folder)).table


def test_another_archive_with_the_same_names_and_sizes_is_refused(archive: Path, tmp_path: Path) -> None:
    write_archive(tmp_path / "other", b"b")
    with pytest.raises(
        UserError, match=r"answers for 2 files .* v1\.mp4 \(modified: .*; uri: .* -> .*/other/v1"
    ):
        run_again(tmp_path / "out", listed(tmp_path / "other"))
    for name in ("v1.mp4", "v2.mp4"):  # also if it has the same times
        os.utime(tmp_path / "other" / name, (1, b"a"[0]))
    with pytest.raises(
        UserError, match=r"answers for 2 files that were replaced since, such as v1\.mp4 \(uri"
    ):
        run_again(tmp_path / "out", listed(tmp_path / "other"))
    again = run_again(tmp_path / "out", listed(tmp_path / "other"), retry=("changed",))
    assert ids(again.todo) == ["v1.mp4", "v2.mp4"]


def test_a_replaced_file_of_the_same_size_is_refused(archive: Path, tmp_path: Path) -> None:
    write_archive(archive, b"b", "v2.mp4")
    with pytest.raises(UserError, match=r"answers for 1 files .* such as v2\.mp4 \(modified: 1970.* -> 1970"):
        run_again(tmp_path / "out", listed(archive))


def test_a_copied_touched_or_moved_archive_is_continued(archive: Path, tmp_path: Path) -> None:
    for name in ("v1.mp4", "v2.mp4"):
        os.utime(archive / name)
    for _ in range(2):
        remarks = ["continuing: 2 of 2 videos are finished"]
        assert run_again(tmp_path / "out", listed(archive)).remarks == remarks
    archive.rename(tmp_path / "moved")
    remark = run_again(tmp_path / "out", listed(tmp_path / "moved")).remarks[-1]
    assert remark.startswith("2 finished videos are at another place now, such as v1.mp4 (uri: ")
    assert remark.endswith("; same content")
    assert run_again(tmp_path / "out", listed(tmp_path / "moved")).remarks == remarks


def forget_identities(out: Path) -> None:
    """As if an earlier version had made the folder."""
    for path in (out / "manifest.parquet", *(out / "predictions").iterdir()):
        table = pq.read_table(path)
        new = [name for name in ("modified_ns", "fingerprint") if name in table.column_names]
        pq.write_table(table.drop_columns(new), path)


def test_a_folder_of_an_earlier_version_is_continued(archive: Path, tmp_path: Path) -> None:
    forget_identities(tmp_path / "out")
    remarks = ["continuing: 2 of 2 videos are finished"]
    assert run_again(tmp_path / "out", listed(archive)).remarks == remarks
    write_archive(archive, b"b", "v1.mp4")  # from now on its times are known
    with pytest.raises(UserError, match=r"such as v1\.mp4 \(modified"):
        run_again(tmp_path / "out", listed(archive))


def test_a_folder_of_an_earlier_version_tells_if_all_files_are_elsewhere(
    archive: Path, tmp_path: Path
) -> None:
    forget_identities(tmp_path / "out")
    write_archive(tmp_path / "other", b"b")
    for _ in range(2):
        resumed = run_again(tmp_path / "out", listed(tmp_path / "other"))
        assert ids(resumed.todo) == []
        assert resumed.remarks[-1].startswith(
            "warning: 2 finished videos are at another place now, such as v1"
        )
    again = run_again(tmp_path / "out", listed(tmp_path / "other"), retry=("changed",))
    assert ids(again.todo) == ["v1.mp4", "v2.mp4"]


def test_crops_of_other_videos_are_refused(archive: Path, tmp_path: Path) -> None:
    """A crops dataset names the content it was made of; the videos need not be there any more."""
    table = listed(archive)
    (archive / "v1.mp4").unlink()

    def crops(letter: bytes, time_ns: int) -> pa.Table:
        times = pa.array([time_ns] * 2)
        found = fingerprint(io.BytesIO(letter * SIZE), SIZE)
        again = table.set_column(3, MANIFEST.field("modified_ns"), times)
        return again.append_column("fingerprint", pa.array([found] * 2))

    assert ids(run_again(tmp_path / "out", crops(b"a", 7)).todo) == []
    with pytest.raises(UserError, match="answers for 2 files that were replaced since, such as v1"):
        run_again(tmp_path / "out", crops(b"b", 8))


def test_files_of_an_old_manifest_are_looked_at(archive: Path, tmp_path: Path) -> None:
    table = listed(archive)
    write_archive(archive, b"b", "v2.mp4")
    (archive / "v1.mp4").unlink()  # nothing to compare
    with pytest.raises(UserError, match=r"answers for 1 files .* such as v2\.mp4"):
        run_again(tmp_path / "out", table, look=True)


def test_sizes_that_a_user_made_up_do_not_count_as_changes(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "own"
    own = listed(archive).drop_columns(["modified_ns"])
    own = own.set_column(2, MANIFEST.field("size_bytes"), pa.array([0, 1]))
    for table in (own, listed(archive)):
        run_again(out, check_manifest(table, origin="m"), look=True)
        if table is own:
            write_rows(out, prints=b"a", **{"v1.mp4": None, "v2.mp4": None})
        for _ in range(2):
            assert ids(run_again(out, check_manifest(table, origin="m"), look=True).todo) == []
    write_archive(archive, b"b", "v2.mp4")
    with pytest.raises(UserError, match=r"answers for 1 files .* such as v2\.mp4"):
        run_again(out, check_manifest(own, origin="m"), look=True)


def test_an_answer_stays_while_its_file_cannot_be_read(archive: Path, tmp_path: Path) -> None:
    (archive / "v1.mp4").unlink()
    (archive / "v1.mp4").symlink_to("gone")
    assert ids(run_again(tmp_path / "out", listed(archive)).todo) == []


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
