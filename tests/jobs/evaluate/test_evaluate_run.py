import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support.evaluation_rows import rejected, run_folder, scored, table

from dfdm_ray.cli import main
from dfdm_ray.manifest.build import build_manifest

pytestmark = pytest.mark.slow

ROWS = [
    scored("a", "iae", "iae", 0.9),
    scored("b", "iae", "dfaker", 0.7, scene="1"),
    scored("c", "dfaker", "dfaker", crf=23, scene="2"),
    scored("d", "faceswap", "iae", split="train"),
    rejected("e", "iae"),
]


def evaluate(out: Path, *arguments: str) -> dict[str, object]:
    main(["evaluate", "--out", str(out), "--bootstrap", "200", *arguments])

    def no_nan(token: str) -> None:
        raise AssertionError(f"{token} in metrics.json")

    content: dict[str, object] = json.loads((out / "metrics.json").read_text(), parse_constant=no_nan)
    return content


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", *arguments])
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert message.count("\n") == 1
    return message


def test_a_run_of_score_becomes_metrics_and_reports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_folder(tmp_path / "run", ROWS)
    metrics = evaluate(tmp_path / "out", "--predictions", run, "--split", "test")
    assert metrics["accuracy"] == pytest.approx(2 / 3)
    assert metrics["num_videos"] == 3
    assert metrics["split"] == "test"
    report = (tmp_path / "out" / "report.md").read_text()
    assert "Videos of split test" in report
    assert "With rejected videos counted as wrong: 50.0% over 4 videos." in report
    assert "2202.12951" in report
    assert "<svg" in (tmp_path / "out" / "report.html").read_text()
    shown = capsys.readouterr().out
    assert "66.7%" in shown
    for name in ("metrics.json", "report.md", "report.html"):
        assert name in "".join(shown.split())


def test_the_same_seed_writes_the_same_files(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", ROWS)
    for name, seed in (("one", "3"), ("two", "3"), ("three", "4")):
        evaluate(tmp_path / name, "--predictions", run, "--seed", seed)
    for name in ("metrics.json", "report.md", "report.html"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert (tmp_path / "one/metrics.json").read_bytes() != (tmp_path / "three/metrics.json").read_bytes()


def test_several_predictions_have_their_names_and_a_cross_quality_table(tmp_path: Path) -> None:
    first = run_folder(tmp_path / "first", ROWS)
    file = tmp_path / "second.parquet"
    pq.write_table(table(ROWS[1:]), file)
    inputs = "--predictions", first, str(file)
    named = evaluate(tmp_path / "named", *inputs, "--names", "at crf 0", "at crf 23")
    assert [run["name"] for run in named["runs"]] == ["at crf 0", "at crf 23"]  # type: ignore[attr-defined]
    assert named["accuracy"] == pytest.approx(2 / 4)
    assert "do not cover the same scored videos; 3 are in all" in str(named["remarks"])
    assert "Cross-quality accuracy" in (tmp_path / "named/report.md").read_text()
    unnamed = evaluate(tmp_path / "unnamed", *inputs)
    assert [run["name"] for run in unnamed["runs"]] == ["first", "second.parquet"]  # type: ignore[attr-defined]


def test_a_manifest_supplies_the_truth(tmp_path: Path) -> None:
    videos = tmp_path / "DFDM_crf10" / "3iae"
    videos.mkdir(parents=True)
    (videos / "id0_id1_0000_3iae.mp4").write_bytes(b"x")
    listed = build_manifest(str(tmp_path / "DFDM_crf10")).table
    pq.write_table(listed, tmp_path / "manifest.parquet")
    unknown = scored(listed["video_id"][0].as_py(), None, "iae", crf=None, target_identity=None, scene=None)
    run = run_folder(tmp_path / "run", [unknown])
    metrics = evaluate(
        tmp_path / "out", "--predictions", run, "--manifest", str(tmp_path / "manifest.parquet")
    )
    assert metrics["accuracy"] == 1
    assert metrics["runs"][0]["qualities"][0]["crf"] == 10  # type: ignore[index]


def test_an_unfinished_run_is_reported(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", ROWS, planned=9)
    metrics = evaluate(tmp_path / "out", "--predictions", run)
    assert metrics["remarks"] == ["run: the run is not finished: 5 of 9 videos have a row"]


def test_a_run_that_an_earlier_version_began_is_evaluated_whole(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", ROWS[:2], planned=5)
    old = pq.read_table(tmp_path / "run" / "predictions").drop_columns(["fingerprint"])
    pq.write_table(old, tmp_path / "run" / "predictions" / "part-00000.parquet")
    pq.write_table(table(ROWS[2:]), tmp_path / "run" / "predictions" / "part-00001.parquet")
    metrics = evaluate(tmp_path / "out", "--predictions", run)
    assert metrics["remarks"] == []


def test_fewer_classes_are_taken_from_the_run(tmp_path: Path) -> None:
    two = scored("a", "dfaker", "dfaker", probabilities=[0.3, 0.7])
    run = run_folder(tmp_path / "run", [two], settings={"classes": ["iae", "dfaker"]})
    metrics = evaluate(tmp_path / "out", "--predictions", run)
    assert metrics["runs"][0]["confusion"]["classes"] == ["iae", "dfaker"]  # type: ignore[index]
    assert metrics["runs"][0]["chance"]["one_in_k"] == 0.5  # type: ignore[index]


def test_old_reports_are_only_replaced_if_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_folder(tmp_path / "run", ROWS)
    out = tmp_path / "out"
    evaluate(out, "--predictions", run)
    assert "give --overwrite" in error_of(capsys, "--predictions", run, "--out", str(out))
    assert evaluate(out, "--predictions", run, "--crf", "23", "--overwrite")["accuracy"] == 1


def test_mistakes_of_the_user_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_folder(tmp_path / "run", ROWS)
    two = scored("a", "dfaker", "dfaker", probabilities=[0.3, 0.7])
    pq.write_table(table([two]), tmp_path / "two.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"no table")
    strange = run_folder(tmp_path / "strange", ROWS, settings={"classes": ["<b>", "<b>"]})
    listed = run_folder(tmp_path / "listed", ROWS)
    Path(listed, "run.json").write_text("[]")
    (tmp_path / "empty").mkdir()
    cases = {
        ("--predictions", str(tmp_path / "none")): "contains no predictions",
        ("--predictions", str(tmp_path / "empty")): "contains no predictions",
        ("--predictions", str(tmp_path / "none.parquet")): "cannot read the predictions",
        ("--predictions", str(tmp_path / "broken.parquet")): "not a Parquet file",
        ("--predictions", str(tmp_path / "two.parquet")): "does not name their classes",
        ("--predictions", strange): "lists the classes",
        ("--predictions", listed): "run.json is damaged or not the record of a run",
        ("--predictions", run, run): "more than once",
        ("--predictions", run, "--names", "x", "y"): "--names has 2 for 1",
        ("--predictions", run, "--split", "tset"): "test (4), train (1)",
        ("--predictions", run, "--bootstrap", "3"): "--bootstrap must be at least 100",
        ("--predictions", run, "--manifest", str(tmp_path / "two.parquet")): "is no manifest",
    }
    for arguments, message in cases.items():
        assert message in error_of(capsys, *arguments, "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
