"""What is missing or doubled is found and named; what is printed can be read on any terminal."""

import io
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console

from dfdm_ray.labels import GENERATORS, QUALITIES
from dfdm_ray.manifest.build import ManifestBuild, build_manifest
from dfdm_ray.manifest.summary import (
    DfdmVideo,
    count_cells,
    find_doubled,
    find_missing,
    show_manifest,
)
from dfdm_ray.schemas import MANIFEST

SWAP = DfdmVideo("id30", "id31", "0000", 10, "dfaker")


def without(table: pa.Table, part: str) -> pa.Table:
    return table.filter(pc.invert(pc.match_substring(table["video_id"], part)))


def with_row(table: pa.Table, **changes: object) -> pa.Table:
    """``table`` and its first row once more with ``changes``."""
    row = {**table.slice(0, 1).to_pylist()[0], **changes}
    return pa.concat_tables([table, pa.Table.from_pylist([row], schema=MANIFEST)])


def printed(build: ManifestBuild) -> str:
    stream = io.StringIO()
    show_manifest(build, Console(file=stream, width=160, force_terminal=False))
    return stream.getvalue()


def test_the_whole_of_dfdm_has_430_in_every_cell_and_nothing_missing(dfdm: ManifestBuild) -> None:
    assert count_cells(dfdm.table) == {(crf, name): 430 for crf in QUALITIES for name in GENERATORS}
    assert find_missing(dfdm.table) == []
    assert find_doubled(dfdm.table) == {}


def test_a_removed_file_is_missing_from_its_cell(dfdm: ManifestBuild) -> None:
    table = without(dfdm.table, "crf10/DFaker/id30_id31_0000")
    assert count_cells(table)[10, "dfaker"] == 429
    assert find_missing(table) == [SWAP]
    assert str(SWAP) == "DFDM_crf10: id30_id31_0000_4dfaker.mp4"


def test_a_swap_that_no_cell_has_is_not_missed(dfdm: ManifestBuild) -> None:
    assert find_missing(without(dfdm.table, "/id30_id31_0000")) == []


def test_a_quality_that_was_not_downloaded_is_not_missed_file_by_file(dfdm: ManifestBuild) -> None:
    table = without(dfdm.table, "DFDM_crf0/")
    assert count_cells(table)[0, "iae"] == 0
    assert find_missing(table) == []


def test_a_second_file_of_a_swap_is_doubled(dfdm: ManifestBuild) -> None:
    first = dfdm.table["video_id"][0].as_py()
    ((doubled, ids),) = find_doubled(with_row(dfdm.table, video_id="copy/of.mp4")).items()
    assert ids == [first, "copy/of.mp4"]
    assert str(doubled) == "DFDM_crf0: id0_id1_0000_5dfl-h128.mp4"


def test_rows_without_facts_or_with_strange_ones_count_for_nothing(dfdm: ManifestBuild) -> None:
    table = with_row(dfdm.table, video_id="a", generator="sora", scene="7")
    table = with_row(table, video_id="b", crf=17, scene="7")
    table = with_row(table, video_id="c", scene=None)
    assert find_missing(table) == []
    assert find_doubled(table) == {}
    assert "identities or scene): 3\n" in printed(replace(dfdm, table=table))


def test_empty_tables_have_nothing_missing() -> None:
    table = MANIFEST.empty_table()
    assert (find_missing(table), find_doubled(table)) == ([], {})
    assert sum(count_cells(table).values()) == 0


def test_the_summary_of_dfdm_shows_counts(dfdm: ManifestBuild) -> None:
    text = printed(dfdm)
    assert "videos: 6,450 (0 bytes)" in text
    cells = {
        line.split()[1]: line.split()[2:] for line in text.splitlines() if line.strip().startswith("crf ")
    }
    assert cells == {crf: ["430"] * 5 + ["2,150"] for crf in ("0", "10", "23")}
    assert "6,450" in next(line for line in text.splitlines() if line.strip().startswith("total"))
    assert "430 a cell, 2,150 a quality, 6,450 in all" in text
    assert "problems" not in text
    assert "missing" not in text


def test_the_summary_names_ten_and_counts_the_rest(dfdm: ManifestBuild) -> None:
    table = without(dfdm.table, "crf10/DFaker/id30_")
    num_missing = len(find_missing(table))
    text = printed(replace(dfdm, table=with_row(table, video_id="copy.mp4")))
    assert num_missing > 10
    assert f"missing, though another generator or quality has it: {num_missing}" in text
    assert text.count("DFDM_crf10: id30_") == 10
    assert f"... and {num_missing - 10} more" in text
    assert "more than once: 1" in text
    assert "copy.mp4" in text


def test_the_summary_of_other_videos_has_no_dfdm_tables(tmp_path: Path) -> None:
    (tmp_path / "beach.mp4").write_bytes(b"x" * 2500)
    (tmp_path / "dinner.mp4").symlink_to("nowhere")
    (tmp_path / "notes.txt").touch()
    text = printed(build_manifest(str(tmp_path)))
    assert text.splitlines() == [
        "videos: 2 (2.5 kB)",
        "problems: 1",
        "  dinner.mp4: No such file or directory",
        "other files, ignored: 1 (1 txt)",
    ]


def test_names_cannot_write_on_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "[red]a\x1b[31m\nb\u202e.mp4").symlink_to("nowhere")
    text = printed(build_manifest(str(tmp_path)))
    assert "  [red]a\\x1b[31m\\nb\\u202e.mp4: No such file or directory\n" in text


def test_a_long_name_stays_on_its_line(tmp_path: Path) -> None:
    (tmp_path / f"{'a ' * 100}.mp4").symlink_to("nowhere")
    assert f"{'a ' * 100}.mp4: No such file" in printed(build_manifest(str(tmp_path)))
