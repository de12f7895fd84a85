import json
from pathlib import Path

import pytest
import report
from page import markdown
from report import Table, spread


def test_tables_become_markdown() -> None:
    table = Table(title="T", headings=["a", "$"], rows=[["x|y", "1"]], remark="so")
    assert markdown(table) == ["### T", "", "| a | \\$ |", "| --- | ---: |", "| x\\|y | 1 |", "", "so", ""]


def test_one_value_has_no_spread() -> None:
    assert (spread([3.0]), spread([1.0, 2.0, 4.0], 1)) == ("3", "2.0 ± 1.5")


def test_a_printed_table_names_machine_command_and_repeats(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(headings=["way", "videos/s"], rows=[["ideal", "4.10"]], remark="below")
    report.show(table, repeats="medians of 3")
    first, *rest = capsys.readouterr().out.splitlines()
    assert first.startswith(report.machine())
    assert first.endswith("; medians of 3")
    assert rest[-1] == "below"
    assert any("ideal" in line and "4.10" in line for line in rest)


def test_a_saved_result_names_machine_and_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "OUT", tmp_path / "bench")
    report.save("figures", rows=[1, 2])
    content = json.loads((tmp_path / "bench" / "figures.json").read_text())
    assert content["rows"] == [1, 2]
    assert content["machine"] == report.machine()
    assert content["command"]
