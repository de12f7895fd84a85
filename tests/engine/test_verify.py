import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from support.crops_rows import make_crops, prepared_row, rejected_row, write_index
from support.run_folders import rows, run_folder

from dfdm_ray.cli import main
from dfdm_ray.config import VerifyConfig
from dfdm_ray.engine.record import totals
from dfdm_ray.engine.verify import verify
from dfdm_ray.io.identity import fingerprint
from dfdm_ray.schemas import MANIFEST, PREDICTIONS

ANSWERS = {
    "a": {"status": "scored", "generator": "iae"},
    "b": {"status": "rejected", "reject_code": "no_face"},
}


def prediction_rows(*video_ids: str, **changes: Any) -> pa.Table:
    made = [{**row, **ANSWERS[row["video_id"]], **changes} for row in rows(*video_ids).to_pylist()]
    return pa.Table.from_pylist(made, schema=PREDICTIONS)


def check(out: Path, *, deep: bool = False) -> tuple[bool, str]:
    printed = io.StringIO()
    whole = verify(VerifyConfig(out=str(out), deep=deep), Console(file=printed, width=200))
    return whole, printed.getvalue()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A finished run over a (scored) and b (rejected)."""
    folder = run_folder(tmp_path / "out")
    folder.open(overwrite=False)
    folder.add(prediction_rows("a"))
    folder.flush()
    folder.add(prediction_rows("b"))
    folder.flush()
    folder.write_record({"runs": [], **totals(folder.read(), planned=2, verb="scored")})
    videos = [{"video_id": name, "uri": f"/{name}", "size_bytes": 1} for name in "ab"]
    pq.write_table(pa.Table.from_pylist(videos, schema=MANIFEST), folder.manifest)
    return tmp_path / "out"


def parts(out: Path) -> list[Path]:
    return sorted((out / "predictions").glob("*.parquet"))


def test_a_finished_run_is_whole(out: Path) -> None:
    whole, printed = check(out)
    assert whole
    assert "whole: one row per planned video" in printed
    assert "no_face" in printed


def lose_a_part(out: Path) -> None:
    parts(out)[0].unlink()


def double_a_part(out: Path) -> None:
    (out / "predictions" / "part-00009-x.parquet").write_bytes(parts(out)[0].read_bytes())


def tear_a_part(out: Path) -> None:
    parts(out)[0].write_bytes(parts(out)[0].read_bytes()[:100])


def plan_less(out: Path) -> None:
    table = pq.read_table(out / "manifest.parquet")
    pq.write_table(table.slice(0, 1), out / "manifest.parquet")


def say_otherwise(out: Path) -> None:
    record = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps({**record, "scored": 7}))


def forget_the_answer(out: Path) -> None:
    pq.write_table(prediction_rows("a", generator=None), parts(out)[0])


def invent_a_code(out: Path) -> None:
    pq.write_table(prediction_rows("b", reject_code="tired"), parts(out)[1])


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (lose_a_part, "missing: a; run the same command again"),
        (double_a_part, "doubled: a; run the same command again; it keeps one row of each"),
        (tear_a_part, "damaged parts: part-00000-"),
        (plan_less, "unknown: b; these videos were not planned"),
        (say_otherwise, "wrong counts in run.json: scored is 7, but the rows give 1"),
        (forget_the_answer, "contradictory: a"),
        (invent_a_code, "contradictory: b"),
    ],
)
def test_what_is_wrong_is_named_with_the_remedy(out: Path, damage: Callable[[Path], None], line: str) -> None:
    damage(out)
    whole, printed = check(out)
    assert not whole
    assert line in printed


def test_a_file_that_was_replaced_since_is_named(tmp_path: Path) -> None:
    video = tmp_path / "a.mp4"
    video.write_bytes(b"a" * 10)
    facts = {"size_bytes": 10, "modified_ns": video.stat().st_mtime_ns}
    out = finished_run(tmp_path / "out", uri=str(video), **facts)
    assert check(out)[0]
    os.utime(video)  # touched: the content is compared
    assert check(out)[0]
    video.write_bytes(b"b" * 10)
    whole, printed = check(out)
    assert not whole
    assert "replaced since: a (modified: 2" in printed
    assert "run the same command again with --retry changed" in printed
    os.utime(video, ns=(1, facts["modified_ns"]))  # only the content tells
    assert (check(out)[0], check(out, deep=True)[0]) == (True, False)
    video.unlink()  # an archive that is gone says nothing about the answers
    assert check(out)[0]


def finished_run(root: Path, uri: str, **facts: int) -> Path:
    """A finished run over a, the video at ``uri``."""
    with open(uri, "rb") as stream:
        found = fingerprint(stream, facts["size_bytes"])
    folder = run_folder(root)
    folder.add(prediction_rows("a", uri=uri, fingerprint=found))
    folder.flush()
    folder.write_record({"runs": [], **totals(folder.read(), planned=1, verb="scored")})
    planned = [{"video_id": "a", "uri": uri, **facts}]
    pq.write_table(pa.Table.from_pylist(planned, schema=MANIFEST), folder.manifest)
    return root


def test_a_folder_of_an_earlier_version_is_whole(out: Path) -> None:
    for path in (out / "manifest.parquet", *parts(out)):
        table = pq.read_table(path)
        new = [name for name in ("modified_ns", "fingerprint") if name in table.column_names]
        assert new
        pq.write_table(table.drop_columns(new), path)
    assert check(out)[0]


def test_a_file_that_a_killed_driver_left_half_written_harms_nothing(out: Path) -> None:
    (out / "predictions" / "part-00002-x.parquet.0123.part").write_bytes(b"torn")
    whole, printed = check(out)
    assert whole
    assert "1 unfinished files" in printed


def test_the_command_ends_with_1_if_something_is_wrong_and_2_if_it_is_no_run(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["verify", str(out)])
    lose_a_part(out)
    for folder, code in ((out, 1), (tmp_path, 2), (tmp_path / "gone", 2)):
        with pytest.raises(SystemExit) as ended:
            main(["verify", str(folder)])
        assert ended.value.code == code
    assert "is not an output folder of score" in capsys.readouterr().err


def test_of_a_run_that_died_before_its_first_part_all_videos_are_missing(out: Path) -> None:
    for part in parts(out):
        part.unlink()
    (out / "predictions").rmdir()
    (out / "run.json").write_text('{"runs": [{"status": "running"}], "settings": {}}')
    whole, printed = check(out)
    assert not whole
    assert "missing: a, b; run the same command again" in printed


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A crops dataset of two prepared videos and a rejected one."""
    root = tmp_path / "crops"
    prepared = [prepared_row(root, name, make_crops()) for name in ("a", "b")]
    write_index(root, *prepared, rejected_row("c"))
    record = json.loads((root / "run.json").read_text())
    (root / "run.json").write_text(json.dumps({**record, "planned": 3, "prepared": 2, "rejected": 1}))
    videos = [{"video_id": name, "uri": f"/{name}", "size_bytes": 1} for name in "abc"]
    pq.write_table(pa.Table.from_pylist(videos, schema=MANIFEST), root / "manifest.parquet")
    return root


def test_a_crops_dataset_is_checked_down_to_its_pictures_if_asked(dataset: Path) -> None:
    assert check(dataset, deep=True)[0]
    first, second = sorted((dataset / "crops").rglob("*.parquet"))
    first.write_bytes(first.read_bytes()[:-50])
    assert check(dataset)[0]  # it is there
    whole, printed = check(dataset, deep=True)
    assert not whole
    assert f"damaged crops: {first.relative_to(dataset)}" in printed
    second.unlink()
    whole, printed = check(dataset)
    assert not whole
    assert f"damaged crops: {second.relative_to(dataset)}" in printed
