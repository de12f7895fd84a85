import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from support.report_rows import answered, run_of, without_answer
from support.triage_rows import made_run, made_thumbnails

from dfdm_ray.jobs.report.page import name_of
from dfdm_ray.jobs.report.scored import order, strength
from dfdm_ray.jobs.report.triage import PER_SHARD, columns, middles, script, shards, write_index

HOSTILE = "a/</script><img src=x onerror=alert(1)>\u2028\u202e\x00'\"`${1}.mp4"


def calls(content: bytes) -> list[Any]:
    """Return the arguments of the call in a data file."""
    found = re.fullmatch(rb"triage\.\w+\((.*)\);\n", content)
    assert found
    arguments: list[Any] = json.loads(b"[" + found[1] + b"]")
    return arguments


def test_rows_are_sorted_by_guilt_and_then_by_strength() -> None:
    rows = [
        answered("strong.mp4", "attributed", log10_lr=1.9),
        answered("weak.mp4", "one_of", log10_lr=0.2),
        answered("strange.mp4", "unknown", log10_lr=1.9),
        answered("open.mp4", "inconclusive", log10_lr=0.1),
        answered("weak real.mp4", "real", "real", log10_lr=0.3),
        answered("real.mp4", "real", "real", log10_lr=1.8),
        without_answer("none.mp4"),
    ]
    backwards = rows[::-1]
    assert sorted(backwards, key=order) == rows
    assert [strength(row) for row in rows] == [1.9, 0.2, None, 0.1, -0.3, -1.8, None]


def test_rows_without_a_reference_set_are_sorted_by_probability() -> None:
    rows = [answered(str(p), "inconclusive", log10_lr=None, probability=p) for p in (0.9, 0.5)]
    rows.append(answered("real", "inconclusive", "real", log10_lr=None, probability=0.9))
    backwards = rows[::-1]
    assert sorted(backwards, key=order) == rows


def test_columns_hold_what_is_filtered_and_rejoin_to_the_id() -> None:
    run = run_of(answered("x/y/a.mp4", "attributed", crf=23), answered("b.mp4", "real", "real", crf=None))
    page = name_of("x/y/a.mp4")
    found = columns(run, [f"{page}.html", "other.html"])
    filters = found["filters"]
    values = {
        name: [column["values"][code] if code >= 0 else None for code in column["codes"]]
        for name, column in filters.items()
    }
    assert values == {
        "verdict": ["attributed", "real"],
        "generator": ["iae", "real"],
        "quality": ["crf 23", None],
        "folder": ["x/y", ""],
        "reject": [None, None],
    }
    assert found["name"] == ["a.mp4", "b.mp4"]
    assert found["pages"] == {0: page}


def test_data_files_are_scripts_whatever_names_contain(tmp_path: Path) -> None:
    run = run_of(answered(HOSTILE, "attributed", verdict_reason=HOSTILE))
    write_index(run, made_thumbnails(run), str(tmp_path), [])
    content = (tmp_path / "data" / "index.js").read_bytes()
    assert content.isascii()
    assert calls(content)[0]["name"] == [HOSTILE.partition("/")[2].rpartition("/")[2]]
    number, rows = calls((tmp_path / "data" / "00000.js").read_bytes())
    assert (number, rows[0][1]) == (0, HOSTILE)
    assert HOSTILE.encode() not in (tmp_path / "index.html").read_bytes()
    assert script("f", 1) == b"triage.f(1);\n"


def test_shards_hold_all_rows_in_order_and_rows_without_a_thumbnail() -> None:
    run = made_run(2 * PER_SHARD + 1)
    thumbnails = made_thumbnails(run).slice(0, 150)
    parts = [*shards(run.rows, thumbnails)]
    assert [len(part) for part in parts] == [PER_SHARD, PER_SHARD, 1]
    assert all(part[0] for part in parts[0])
    assert parts[2][0][0] == ""


def test_the_page_asks_for_no_address_and_is_one_file(tmp_path: Path) -> None:
    write_index(made_run(3), made_thumbnails(made_run(3)), str(tmp_path), [])
    page = (tmp_path / "index.html").read_text()
    assert not re.search(r"https?://|fetch\(|XMLHttpRequest|import\(", page)
    assert re.findall(r'src="([^"]+)"', page) == ["data/index.js"]
    assert "innerHTML" not in page


@pytest.mark.parametrize("cut", [0, 1])
def test_middles_of_lists(cut: int) -> None:
    column = pa.chunked_array([[[9]], [[1, 2, 3], [], None, [4, 5]]], pa.list_(pa.int64())).slice(cut)
    assert middles(column).to_pylist() == [9, 2, None, None, 5][cut:]
    assert middles(pa.chunked_array([], pa.list_(pa.int64()))).to_pylist() == []
