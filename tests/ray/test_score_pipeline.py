import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from support.mixed_archive import EXPECTED

import dfdm_ray
from dfdm_ray.clips.stage import MakeClips
from dfdm_ray.config import ResourceConfig
from dfdm_ray.jobs.score import job as pipeline
from dfdm_ray.jobs.score.config import ScoreConfig
from dfdm_ray.schemas import PREDICTIONS

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

TWO_DECODE = ResourceConfig(decode_workers=2, model_workers=1, batch_size=1)
ONE_DECODES = ResourceConfig(decode_workers=1, model_workers=1, batch_size=1)


def run(config: ScoreConfig) -> tuple[pa.Table, dict[str, object], str]:
    out = io.StringIO()
    result = pipeline.score(config, Console(file=out, width=100))
    return result.predictions, result.record, out.getvalue()


@pytest.fixture(scope="module")
def scored(archive: Path, tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "out"
    run(ScoreConfig(videos=str(archive), checkpoint=str(tiny_checkpoint), out=str(out), resources=TWO_DECODE))
    return out


def read(out: Path) -> pa.Table:
    return pq.read_table(out / "predictions").sort_by("video_id")


def test_every_input_ends_as_exactly_one_row_with_the_right_reason(scored: Path) -> None:
    table = read(scored)
    assert dict(zip(table["video_id"].to_pylist(), table["reject_code"].to_pylist(), strict=True)) == EXPECTED
    assert table.num_rows == len(EXPECTED)
    assert table.schema.names == PREDICTIONS.names


def test_the_record_adds_up(scored: Path) -> None:
    record = json.loads((scored / "run.json").read_text())
    assert record["planned"] == record["scored"] + record["rejected"] == 9
    assert record["rejects_by_code"] == {"no_face": 1, "empty_file": 1, "not_a_video": 2, "unreadable": 1}
    assert record["runs"][0]["status"] == "complete"
    assert record["frames_decoded_per_used"] < 1.5
    assert pq.read_table(scored / "manifest.parquet").num_rows == 9


def test_equal_videos_get_equal_answers(scored: Path) -> None:
    rows = [row for row in read(scored).to_pylist() if row["status"] == "scored"]
    for row in rows:  # the batch a video falls into moves the last digits
        np.testing.assert_allclose(row["logits"], rows[0]["logits"], rtol=1e-4, atol=1e-5)


def test_the_python_api_gives_the_same_rows_to_the_digit(
    scored: Path, archive: Path, tiny_checkpoint: Path
) -> None:
    by_worker = {"video_id", "prepared_by", "scored_by", "seconds_decode", "seconds_detect", "seconds_model"}
    same = [name for name in PREDICTIONS.names if name not in by_worker]
    rows = read(scored)
    with dfdm_ray.load(tiny_checkpoint) as model:
        answers = model.attribute_many(archive / name for name in rows["video_id"].to_pylist())
        table = pa.concat_tables(answer.table for answer in answers)
    assert table.select(same).to_pylist() == rows.select(same).to_pylist()


def test_a_finished_run_does_nothing_when_run_again(
    scored: Path, archive: Path, tiny_checkpoint: Path
) -> None:
    parts = {path: path.stat().st_mtime_ns for path in (scored / "predictions").iterdir()}
    _, record, text = run(ScoreConfig(videos=str(archive), checkpoint=str(tiny_checkpoint), out=str(scored)))
    assert {path: path.stat().st_mtime_ns for path in (scored / "predictions").iterdir()} == parts
    assert "9 of 9 videos are finished" in text
    assert len(record["runs"]) == 2  # type: ignore[arg-type]


def test_a_run_that_a_bug_stopped_half_way_ends_as_if_it_had_not(
    scored: Path, archive: Path, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class BrokenOnSky(MakeClips):  # local, so that it travels to the workers by value
        """Has a bug that shows on one file."""

        def __call__(self, batch: pa.Table) -> pa.Table:
            if "sky.mp4" in batch["video_id"].to_pylist():
                raise ZeroDivisionError("a bug in a stage")
            return MakeClips.__call__(self, batch)

    out = tmp_path / "out"
    config = ScoreConfig(
        videos=str(archive), checkpoint=str(tiny_checkpoint), out=str(out), resources=ONE_DECODES
    )
    with monkeypatch.context() as broken:
        broken.setattr(pipeline, "MakeClips", BrokenOnSky)
        with pytest.raises(Exception, match="a bug in a stage"):
            run(config)
    record = json.loads((out / "run.json").read_text())
    assert record["runs"][0]["status"].startswith("failed")

    # As many rows as could have been written by then, and a part that was not written to its end.
    half = read(scored).slice(2, 4)
    (out / "predictions").mkdir(exist_ok=True)
    for part in (out / "predictions").iterdir():
        part.unlink()
    pq.write_table(half, out / "predictions" / "part-00000.parquet")
    (out / "predictions" / "part-00001.parquet.0123abcd.part").write_bytes(b"torn")
    run(config)
    assert not list(out.rglob("*.part"))
    result = read_parts(out)
    same = ["video_id", "status", "reject_code", "generator", "pts_s", "boxes_xyxy", "num_frames_decoded"]
    assert result.select(same).equals(read(scored).select(same))
    kept = result.filter(pa.compute.is_in(result["video_id"], half["video_id"].combine_chunks()))
    assert kept.equals(half.sort_by("video_id"))  # not decoded again: even the seconds are the old ones


def read_parts(out: Path) -> pa.Table:
    return pa.concat_tables(
        pq.read_table(path) for path in sorted((out / "predictions").glob("*.parquet"))
    ).sort_by("video_id")
