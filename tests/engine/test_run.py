"""Runs whose videos all have rows already, so that no Ray is needed."""

import io
import json
import random
import resource
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from ray.exceptions import RayTaskError, UserCodeException
from rich.console import Console
from support.run_folders import rows, run_folder

from dfdm_ray.config import RunConfig
from dfdm_ray.engine.run import Job, own_words, read_manifest, run
from dfdm_ray.errors import UserError
from dfdm_ray.jobs.score.config import ScoreConfig
from dfdm_ray.schemas import MANIFEST, PREDICTIONS


def job(root: Path, *video_ids: str, **values: Any) -> Job:
    """A job whose folder has a row of each of ``video_ids``."""
    folder = run_folder(root)
    folder.write_record({"runs": []})
    folder.add(rows(*video_ids))
    folder.flush()
    videos = [{"video_id": name, "uri": f"/{name}", "size_bytes": 1} for name in video_ids]
    manifest = pa.Table.from_pylist(videos, schema=MANIFEST)
    return Job(
        **{
            "config": RunConfig(),
            "manifest": manifest,
            "folder": run_folder(root),
            "stages": lambda _: pytest.fail("there is nothing to do"),
            "verb": "scored",
            **values,
        }
    )


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


def test_what_could_not_be_listed_is_told_and_recorded(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").touch()
    (tmp_path / "videos" / "linked").symlink_to(tmp_path)
    manifest, not_listed = read_manifest(
        ScoreConfig(videos=str(tmp_path / "videos"), checkpoint="x", out=str(tmp_path / "out"))
    )
    printed = io.StringIO()
    work = job(tmp_path / "out", "a.mp4", manifest=manifest, not_listed=not_listed)
    run(work, Console(file=printed, width=200))
    line = "linked: a link to a folder; such links are not followed"
    assert f"not listed, hence without a row: 1\n  {line}\n" in printed.getvalue()
    assert record(tmp_path / "out")["not_listed"] == {"count": 1, "entries": [line]}


def test_a_full_disk_is_one_line_and_the_record_says_so(tmp_path: Path) -> None:
    work = job(tmp_path / "out", "a")
    noise = [{**row, "uri": random.randbytes(2000).hex()} for row in rows(*map(str, range(20))).to_pylist()]
    work.folder.add(pa.Table.from_pylist(noise, schema=PREDICTIONS))
    with file_size_limit(20_000), pytest.raises(UserError, match=r"cannot write to --out .*: File too large"):
        run(work, Console(quiet=True))
    assert record(tmp_path / "out")["runs"][-1]["status"].startswith("failed: cannot write to --out")
    assert (record(tmp_path / "out")["planned"], record(tmp_path / "out")["scored"]) == (1, 1)


def test_what_a_worker_tells_the_user_is_told_in_its_own_words() -> None:
    def as_ray_data_raises(worker_error: Exception) -> Exception:
        wrapped = UserCodeException("UDF failed to process a data block.")
        wrapped.__cause__ = worker_error
        text = "".join(traceback.format_exception(wrapped))
        return RayTaskError("submit", text, UserCodeException("UDF failed")).as_instanceof_cause()

    full = UserError("cannot write to --out x: No space left on device; mend that")
    assert str(own_words(as_ray_data_raises(full))) == str(full)
    bug = ZeroDivisionError("a bug in what is done about it")
    bug.__cause__ = full
    assert own_words(as_ray_data_raises(bug)) is None
