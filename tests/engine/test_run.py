"""Runs over plain tables, without Ray."""

import io
import json
import os
import pickle
import random
import resource
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ray.exceptions import RayTaskError, UserCodeException
from rich.console import Console
from support.run_folders import rows, run_folder

from dfdm_ray.config import RunConfig
from dfdm_ray.engine.run import open_run, read_manifest
from dfdm_ray.engine.stage import own_words
from dfdm_ray.errors import IncompleteError, UserError, WriteError
from dfdm_ray.jobs.score.config import ScoreConfig
from dfdm_ray.manifest.sources import located
from dfdm_ray.schemas import MANIFEST, PREDICTIONS


def finished(root: Path, *video_ids: str) -> pa.Table:
    """Make a folder with a row of each of ``video_ids`` and return their manifest."""
    folder = run_folder(root)
    folder.write_record({"runs": []})
    folder.add(rows(*video_ids))
    folder.flush()
    return manifest(*video_ids)


def manifest(*video_ids: str) -> pa.Table:
    videos = [{"video_id": name, "uri": f"/{name}", "size_bytes": 1} for name in video_ids]
    return pa.Table.from_pylist(videos, schema=MANIFEST)


class NoObserver:
    """An observer without Ray's metrics."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def rows(self, table: pa.Table) -> None:
        self.seen += table["video_id"].to_pylist()

    def most_rejects(self) -> str:
        return ""


def consume(root: Path, planned: pa.Table, *batches: pa.Table, **options: Any) -> NoObserver:
    """Run over ``planned`` with these batches as the result of the stages."""
    observer: Any = NoObserver()
    config = RunConfig(**options)
    with open_run(config, run_folder(root), planned, Console(quiet=True), verb="scored") as run:
        run.consume(batches, observer, lambda **_: None)
    return observer


@contextmanager
def file_size_limit(num_bytes: int) -> Iterator[None]:
    """As if the disk were full after that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def record(root: Path) -> dict[str, Any]:
    return dict(json.loads((root / "run.json").read_text()))


def test_copies_are_reported(tmp_path: Path) -> None:
    planned = finished(tmp_path, "x (1).mp4", "x.mp4")
    console = Console(file=io.StringIO(), width=100)
    with open_run(RunConfig(), run_folder(tmp_path), planned, console, verb="scored"):
        pass
    text = console.file.getvalue()
    assert "look like copies, with the same size; both count: 1\n  x (1).mp4, of x.mp4\n" in text


def test_what_could_not_be_listed_is_reported_and_recorded(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").touch()
    (tmp_path / "videos" / "linked").symlink_to(tmp_path)
    for name in ("a.gif", "b.GIF", "c.zip"):
        (tmp_path / "videos" / name).touch()
    printed = io.StringIO()
    console = Console(file=printed, width=200)
    config = ScoreConfig(videos=str(tmp_path / "videos"), checkpoint="x", out=str(tmp_path / "out"))
    planned, not_listed = read_manifest(config, console)
    assert printed.getvalue() == "other files, ignored: 3 (2 gif, 1 zip)\n"
    finished(tmp_path / "out", "a.mp4")
    folder = run_folder(tmp_path / "out")
    with open_run(RunConfig(), folder, planned, console, verb="scored", not_listed=not_listed):
        pass
    line = "linked: a link to a folder; such links are not followed"
    assert f"not listed, hence without a row: 1\n  {line}\n" in printed.getvalue()
    assert record(tmp_path / "out")["not_listed"] == {"count": 1, "entries": [line]}


def test_names_with_1original_in_an_archive_are_reported(tmp_path: Path) -> None:
    (tmp_path / "id0_id1_0000_1original.mp4").touch()
    printed = io.StringIO()
    console = Console(file=printed, width=400)
    rows, _ = read_manifest(ScoreConfig(checkpoint="c", out="o", videos=str(tmp_path)), console)
    assert rows["generator"].to_pylist() == ["faceswap"]
    assert "names with the tag 1original: 1, read as Faceswap" in printed.getvalue()


def test_a_full_disk_is_one_line_and_is_recorded(tmp_path: Path) -> None:
    finished(tmp_path / "out", "a")
    noise = [{**row, "uri": random.randbytes(2000).hex()} for row in rows(*map(str, range(20))).to_pylist()]
    too_large = pa.Table.from_pylist(noise, schema=PREDICTIONS)
    with file_size_limit(20_000), pytest.raises(UserError, match=r"cannot write to --out .*: File too large"):
        consume(tmp_path / "out", manifest("a", *map(str, range(20))), too_large)
    assert record(tmp_path / "out")["runs"][-1]["status"].startswith("failed: cannot write to --out")
    assert record(tmp_path / "out")["planned"] == 21


def test_rows_are_stored_observed_and_counted(tmp_path: Path) -> None:
    observer = consume(tmp_path, manifest("a", "b", "c"), rows("b"), rows("a", "c"))
    assert observer.seen == ["b", "a", "c"]
    found = record(tmp_path)
    assert (found["planned"], found["scored"] + found["rejected"]) == (3, 3)
    assert found["runs"][-1]["status"] == "complete"
    assert run_folder(tmp_path).read().num_rows == 3


def test_a_run_with_fewer_rows_than_planned_is_not_complete(tmp_path: Path) -> None:
    with pytest.raises(IncompleteError, match="1 of 3 videos have no row in"):
        consume(tmp_path, manifest("a", "b", "c"), rows("b", "c"))
    assert record(tmp_path)["runs"][-1]["status"].startswith("incomplete: 1 of 3 videos")
    assert consume(tmp_path, manifest("a", "b", "c"), rows("a")).seen == ["a"]
    assert record(tmp_path)["runs"][-1]["status"] == "complete"


def test_two_rows_of_a_video_do_not_hide_a_video_without_a_row(tmp_path: Path) -> None:
    with pytest.raises(IncompleteError, match="1 of 3 videos have no row in"):
        consume(tmp_path, manifest("a", "b", "c"), rows("b", "c"), rows("b"))


def test_too_many_rejects_stop_the_run_and_the_rows_so_far_are_stored(tmp_path: Path) -> None:
    names = [str(number) for number in range(60)]
    rejected = [{**row, "status": "rejected"} for row in rows(*names).to_pylist()]
    batches = [
        pa.Table.from_pylist(rejected[start : start + 10], schema=PREDICTIONS) for start in range(0, 60, 10)
    ]
    with pytest.raises(
        UserError, match=r"50 of 50 videos were rejected, more than --max-reject-fraction 0.2"
    ):
        consume(tmp_path, manifest(*names), *batches, max_reject_fraction=0.2)
    assert run_folder(tmp_path).read().num_rows == 50


def test_a_second_run_into_the_folder_of_a_running_one_does_nothing(tmp_path: Path) -> None:
    part = tmp_path / "predictions" / "part-00001-x.parquet.0123abcd.part"
    with open_run(
        RunConfig(), run_folder(tmp_path), manifest("a"), Console(quiet=True), verb="scored"
    ) as run:
        part.parent.mkdir()
        part.touch()  # the first run is about to rename it
        before = (tmp_path / "run.json").read_bytes()
        for overwrite in (False, True):
            with pytest.raises(UserError, match=rf"another run writes to .* process {os.getpid()} on"):
                consume(tmp_path, manifest("a"), rows("a"), overwrite=overwrite)
        assert (tmp_path / "run.json").read_bytes() == before
        assert part.exists()
        part.unlink()
        run.consume([rows("a")], NoObserver(), lambda **_: None)  # type: ignore[arg-type]
    assert [entry["status"] for entry in record(tmp_path)["runs"]] == ["complete"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.parquet", "predictions", "run.json"]
    assert consume(tmp_path, manifest("a", "b"), rows("b")).seen == ["b"]


def test_two_runs_that_begin_at_once_do_not_both_go_on(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    opened = folder.open_record()
    begun_since = run_folder(tmp_path).recorded({"runs": []})
    with begun_since, pytest.raises(UserError, match="another run writes to"), folder.recorded(opened):
        pass


def test_what_killed_writers_left_goes_only_while_no_other_run_writes(tmp_path: Path) -> None:
    """A run that was thought dead, as one that was suspended, may be about to rename a file."""
    left = tmp_path / "run.json.0123abcd.part"
    folder, beat = run_folder(tmp_path), tmp_path / "heartbeat-0123abcd.json"
    with folder.recorded({"runs": []}):
        left.touch()
        beat.touch()
        folder.remove_unfinished(str(tmp_path))
        assert left.exists()
        beat.unlink()
        folder.remove_unfinished(str(tmp_path))
        assert not left.exists()


@pytest.mark.parametrize("place", ["folder", "list"])
def test_relative_uris_of_a_manifest_are_below_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """As in a list file: `dfdm-ray` may be called anywhere, and workers have other working directories."""
    uris = [
        "a.mp4",
        "sub/../b c.mp4",
        f"{tmp_path}/c.mp4",
        "s3://bucket/d%20e.mp4",
        f"file://{tmp_path}/e%20f",
    ]
    absolute = [f"{tmp_path}/in/{name}" for name in ("a.mp4", "b c.mp4")]
    absolute += [f"{tmp_path}/c.mp4", "s3://bucket/d%20e.mp4", f"{tmp_path}/e f"]
    (tmp_path / "in").mkdir()
    if place == "folder":
        videos = [{"video_id": uri, "uri": uri, "size_bytes": 1} for uri in uris]
        pq.write_table(pa.Table.from_pylist(videos, schema=MANIFEST), tmp_path / "in" / "m.parquet")
        source = {"manifest": "in/m.parquet"}
    else:
        (tmp_path / "in" / "l.txt").write_text("\n".join([uris[0], "b c.mp4", *uris[2:3], *uris[4:]]))
        absolute.remove("s3://bucket/d%20e.mp4")
        source = {"videos": "in/l.txt"}
    monkeypatch.chdir(tmp_path)
    job = ScoreConfig(checkpoint="x", out="out", **source)  # type: ignore[arg-type]
    table, _ = read_manifest(job, Console(quiet=True))
    assert sorted(table["uri"].to_pylist()) == sorted(absolute)


def test_relative_uris_of_a_remote_manifest_are_in_its_store() -> None:
    assert located("a b.mp4", "s3://bucket/in?region=x") == "s3://bucket/in/a%20b.mp4?region=x"


def test_an_interrupted_run_is_recorded_as_such(tmp_path: Path) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        open_run(RunConfig(), run_folder(tmp_path), manifest("a"), Console(quiet=True), verb="scored"),
    ):
        raise KeyboardInterrupt
    assert record(tmp_path)["runs"][-1]["status"] == "interrupted"


def test_the_user_error_of_a_worker_keeps_its_own_words() -> None:
    def as_ray_data_raises(worker_error: Exception) -> Exception:
        wrapped = UserCodeException("UDF failed to process a data block.")
        wrapped.__cause__ = worker_error
        text = "".join(traceback.format_exception(wrapped))
        return RayTaskError("submit", text, UserCodeException("UDF failed")).as_instanceof_cause()

    full = UserError("cannot write to --out x: No space left on device; mend that")
    assert str(own_words(as_ray_data_raises(full))) == str(full)
    at_once = WriteError(28, "No space left on device", "/out/a.png")
    assert str(own_words(as_ray_data_raises(at_once))) == str(at_once)
    bug = ZeroDivisionError("a bug in what is done about it")
    bug.__cause__ = full
    assert own_words(as_ray_data_raises(bug)) is None


def test_the_write_error_of_a_task_keeps_its_own_words() -> None:
    full = WriteError(28, "No space left on device", "/out/a.mp4")
    raised = RayTaskError("convert", "a traceback", full).as_instanceof_cause()
    assert isinstance(raised, RayTaskError)
    assert isinstance(raised.cause, UserError)
    assert str(pickle.loads(pickle.dumps(raised.cause))) == str(full)
