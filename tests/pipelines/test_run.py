"""Runs whose videos all have rows already, so that no Ray is needed."""

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from rich.console import Console
from test_output import rows, run_folder

from dfdm_ray.config import RunConfig, ScoreConfig
from dfdm_ray.pipelines.run import Job, read_manifest, run
from dfdm_ray.schemas import MANIFEST


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
