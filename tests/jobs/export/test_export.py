import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from support.run_folders import a_run, rows, run_folder

from dfdm_ray.errors import UserError
from dfdm_ray.jobs.export.config import ExportConfig
from dfdm_ray.jobs.export.job import export
from dfdm_ray.schemas import MANIFEST

FORMULA = "=HYPERLINK(1).mp4"


def run(**options: Any) -> str:
    out = io.StringIO()
    export(ExportConfig(**options), Console(file=out, width=300))
    return out.getvalue()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A run of three videos, of which two have rows, one of them twice."""
    root = tmp_path / "out"
    folder = a_run(root, "a,b\n.mp4", FORMULA)
    folder.add(rows(FORMULA))
    folder.flush()
    names = ["a,b\n.mp4", FORMULA, "ü.mp4"]
    manifest = [{"video_id": name, "uri": name, "size_bytes": 1} for name in names]
    pq.write_table(pa.Table.from_pylist(manifest, schema=MANIFEST), root / "manifest.parquet")
    record = json.loads((root / "run.json").read_text())
    record["settings"]["classes"] = ["real", "dfaker"]
    (root / "run.json").write_text(json.dumps(record))
    return root


def test_csv_has_one_line_per_video_that_a_spreadsheet_shows_and_does_not_run(out: Path) -> None:
    shown = run(out=str(out))
    text = (out / "predictions.csv").read_bytes().decode("utf-8-sig")
    lines = [*csv.DictReader(io.StringIO(text, newline=""))]
    assert [line["video_id"] for line in lines] == ["a,b\n.mp4", f"'{FORMULA}"]
    assert {"probability_real", "probability_dfaker"} <= lines[0].keys()
    assert "predictions.csv: 2 videos" in shown


def test_an_incomplete_run_is_exported_and_reported(out: Path) -> None:
    assert "not complete: 1 of 3 planned videos have no row yet" in run(out=str(out))


def test_jsonl_has_one_valid_object_per_video(out: Path, tmp_path: Path) -> None:
    to = tmp_path / "new" / "rows.jsonl"
    run(out=str(out), format="jsonl", to=str(to))
    found = [json.loads(line) for line in to.read_text().splitlines()]
    assert [one["video_id"] for one in found] == ["a,b\n.mp4", FORMULA]
    assert found[0]["frames"] == []


def test_another_file_is_kept_unless_asked(out: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.csv"
    mine.write_text("mine")
    with pytest.raises(UserError, match="exists; give --overwrite to replace it, or another --to"):
        run(out=str(out), to=str(mine))
    assert mine.read_text() == "mine"
    run(out=str(out), to=str(mine), overwrite=True)
    assert "video_id" in mine.read_text()


def test_a_damaged_part_leaves_no_file(out: Path) -> None:
    (out / "predictions" / "part-00009.parquet").write_bytes(b"torn")
    with pytest.raises(UserError, match=r"delete .*, and its videos are processed again"):
        run(out=str(out))
    assert not [*out.glob("predictions.csv*")]


def test_a_folder_without_predictions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="contains no predictions"):
        run(out=str(tmp_path))
    with pytest.raises(UserError, match="contains no predictions"):
        run(out=str(tmp_path / "gone"))


def test_a_file_that_cannot_be_written_is_one_line(out: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"):
        run(out=str(out), to=str(tmp_path / "file" / "a.csv"))


def test_overwriting_a_run_deletes_what_was_exported_of_it(out: Path) -> None:
    run(out=str(out))
    assert (out / "predictions.csv").exists()
    run_folder(out).open(overwrite=True)
    assert not (out / "predictions.csv").exists()
