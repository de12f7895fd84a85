import io
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from rich.console import Console
from support.evaluation_rows import rejected, scored, table

from dfdm_ray.io.terminal import visible
from dfdm_ray.jobs.evaluate import plots
from dfdm_ray.jobs.evaluate.cases import check_predictions, select
from dfdm_ray.jobs.evaluate.report import (
    bounds,
    cross_quality_table,
    excluded_table,
    headline,
    markdown,
    page,
    percent,
    show,
)
from dfdm_ray.jobs.evaluate.summary import summarise
from dfdm_ray.labels import GENERATORS

pytestmark = pytest.mark.slow

HOSTILE = "<script>alert(1)</script>&|`*_[x](y)$a$\x1b[31m\x00\n\u202e\"'.mp4"


def report(*rows: dict[str, Any], names: tuple[str, ...] = ("run",)) -> dict[str, Any]:
    checked = check_predictions(table(rows), origin="run")
    selection = select(checked, classes=GENERATORS, split=None, crfs=(), origin="run")
    options: dict[str, Any] = {"classes": GENERATORS, "num_samples": 200, "seed": 0, "num_mistakes": 2}
    runs = [summarise(selection, name=name, **options) for name in names]
    return {"split": None, "crf": [], "bootstrap": 200, "seed": 0, "remarks": [], "runs": runs}


def hostile_report() -> dict[str, Any]:
    return report(
        scored(HOSTILE, "iae", "dfaker", target_identity=HOSTILE),
        rejected(HOSTILE + "2", "iae", code=HOSTILE, reject_detail=HOSTILE),
        scored(HOSTILE + "3", HOSTILE, "iae"),
        scored(HOSTILE + "4", None, "iae"),
        names=(HOSTILE, "other"),
    )


def drawn_page(content: dict[str, Any]) -> str:
    runs = enumerate(content["runs"])
    return page(content, [plots.draw(run, name=f"run{index}") for index, run in runs])


class Page(HTMLParser):
    """Tags, ids, attributes that load, and text of a page."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "xlink:href", "srcset"):
                self.links.append(value or "")
            assert not name.startswith("on")

    def handle_data(self, data: str) -> None:
        self.text += data


def test_overall_numbers_of_a_case_worked_by_hand() -> None:
    metrics = report(
        scored("a", "iae", "iae", 0.9),
        scored("b", "iae", "dfaker", 0.7, scene="1"),
        scored("c", "dfaker", "dfaker", 0.8, crf=23, target_identity="id7"),
        rejected("d", "dfaker"),
    )["runs"][0]
    assert metrics["accuracy"] == pytest.approx(2 / 3)
    assert metrics["accuracy_rejected_as_wrong"] == pytest.approx(2 / 4)
    assert (metrics["num_videos"], metrics["num_groups"]) == (3, 3)
    assert metrics["chance"] == pytest.approx({"one_in_k": 0.2, "majority_share": 2 / 3})
    assert metrics["macro_f1"] == pytest.approx(2 / 3)  # 2/3 of iae and of dfaker
    low, high = metrics["accuracy_interval"]
    assert 0 <= low <= metrics["accuracy"] <= high <= 1
    assert [(row["crf"], row["accuracy"], row["num_videos"]) for row in metrics["qualities"]] == [
        (0, 0.5, 2),
        (23, 1.0, 1),
    ]
    assert [(row["target_identity"], row["accuracy"]) for row in metrics["targets"]] == [
        ("id0", 0.5),
        ("id7", 1.0),
    ]
    assert metrics["confusion"]["counts"][2] == [0, 0, 1, 1, 0]
    assert metrics["confusion"]["row_shares"][2] == [0, 0, 0.5, 0.5, 0]
    assert metrics["confusion"]["row_shares"][0] == [None] * 5


def test_a_generator_without_videos_has_null_and_no_nan_is_written() -> None:
    metrics = report(scored("a", "iae", "iae"), scored("b", "dfaker", "iae", scene="1"))["runs"][0]
    faceswap = metrics["generators"][0]
    assert faceswap == {
        "generator": "faceswap",
        "num_videos": 0,
        "num_attributed": 0,
        **dict.fromkeys(("recall", "recall_interval", "precision", "precision_interval", "f1", "auc")),
    }
    json.dumps(metrics, allow_nan=False)


def test_one_row_has_an_accuracy_and_says_that_it_has_no_interval() -> None:
    whole = report(scored("a", "iae", "iae"))
    metrics = whole["runs"][0]
    assert metrics["accuracy"] == 1
    assert metrics["accuracy_interval"] is None
    assert metrics["macro_auc"] is None
    assert "no interval, as there is only one group" in headline(metrics)[0]
    assert "1 scored video in 1 group." in headline(metrics)[0]
    json.dumps(metrics, allow_nan=False)
    assert "100.0%" in drawn_page(whole)


def test_intervals_rest_on_networks_and_the_report_says_so() -> None:
    rows = [
        scored(target + scene, "iae", attributed, target_identity=target, scene=scene)
        for target, attributed in {"id0": "iae", "id2": "iae", "id3": "dfaker", "id4": "dfaker"}.items()
        for scene in "abcde"
    ]
    metrics = report(*rows)["runs"][0]
    assert (metrics["groups"], metrics["num_groups"], metrics["accuracy"]) == ("networks", 4, 0.5)
    low, high = metrics["accuracy_interval"]
    assert high - low > 0.7  # by the 20 scenes it would be 0.44
    lines = headline(metrics)
    assert "over 20 scored videos in 4 networks." in lines[0]
    assert any(line.startswith("Intervals resample networks (") for line in lines)
    by_scene = "\n".join(headline(report(scored("a", "iae", "iae"))["runs"][0]))
    assert "Intervals resample scenes (same target, source and scene)." in by_scene
    assert "do not cover other networks" in by_scene


def test_recall_that_rests_on_one_group_has_no_interval_of_its_own() -> None:
    rows = report(
        scored("a", "iae", "iae"), scored("b", "dfaker", "dfaker"), scored("c", "dfaker", "iae", scene="1")
    )["runs"][0]["generators"]
    assert rows[2]["recall_interval"] is None
    assert rows[3]["recall_interval"] == [0, 1]


def test_mistakes_are_the_most_confident_ones_in_order() -> None:
    metrics = report(
        scored("a", "iae", "dfaker", 0.5),
        scored("b", "iae", "dfaker", 0.9),
        scored("c", "iae", "dfaker", 0.7),
        scored("d", "iae", "iae", 0.99),
    )["runs"][0]
    assert [row["video_id"] for row in metrics["mistakes"]] == ["b", "c"]


def test_the_counts_add_up_to_the_rows() -> None:
    videos = hostile_report()["runs"][0]["videos"]
    parts = ("scored", "rejected", "unknown_generator", "no_class", "other_split", "other_quality")
    assert sum(videos[part] for part in parts) == videos["rows"] == 4
    assert sum(videos["rejects_by_code"].values()) == videos["rejected"]
    assert videos["unknown_generator_videos"] == [HOSTILE + "4"]
    assert videos["no_class_videos"] == [{"video_id": HOSTILE + "3", "true_generator": HOSTILE}]


def test_hostile_names_stay_text_on_the_page() -> None:
    content = drawn_page(hostile_report())
    got = Page(content)
    assert "script" not in got.tags
    assert visible(HOSTILE) in got.text
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202e]", content)


def test_the_page_loads_nothing_and_its_ids_are_unique() -> None:
    got = Page(drawn_page(hostile_report()))
    assert not {"link", "img", "iframe", "object", "script"} & got.tags
    assert all(link.startswith("#") and link[1:] in got.ids for link in got.links)
    assert len(set(got.ids)) == len(got.ids) > 0


def test_plots_take_their_colours_from_the_page() -> None:
    content = drawn_page(hostile_report())
    assert content.count("<svg") == 8
    drawn = "".join(re.findall(r"<svg.*?</svg>", content, re.DOTALL))
    assert "var(--accent)" in drawn
    assert not re.findall(r"#[0-9a-fA-F]{6}\b", drawn)
    assert all(f">{name}<" in drawn for name in GENERATORS)


def test_hostile_names_stay_text_in_markdown() -> None:
    content = markdown(hostile_report())
    assert not re.search(r"(?<!\\)[<>`*$]", content)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202e]", content)
    rows = [line for line in content.splitlines() if line.startswith("|")]
    cells = [len(re.findall(r"(?<!\\)\|", line)) for line in rows]
    assert set(cells) <= {3, 4, 6, 7, 9}  # one more than the columns of each table
    assert all(line.endswith(" |") for line in rows)


def test_hostile_names_stay_text_in_the_terminal() -> None:
    out = io.StringIO()
    show(hostile_report(), Console(file=out, width=300, color_system=None))
    assert visible(HOSTILE) in out.getvalue()
    assert "\x1b" not in out.getvalue()
    assert "1 rejected, 1 with an unknown generator, 1 with a generator that is not a class" in out.getvalue()


def test_excluded_videos_beyond_the_listed_ones_are_counted() -> None:
    left_out = [rejected(f"r{index:02d}", "iae") for index in range(25)]
    got = excluded_table(report(scored("a", "iae", "iae"), *left_out)["runs"][0])
    assert len(got.rows) == 20
    assert got.remark == "5 more in metrics.json."


def test_cross_quality_table_has_inputs_in_rows_and_qualities_in_columns() -> None:
    rows = (
        scored("a", "iae", "iae"),
        scored("b", "iae", "dfaker", crf=23),
        scored("c", "iae", "iae", crf=None),
    )
    got = cross_quality_table(report(*rows, names=("x", "y")))
    assert got.headings == ("predictions", "crf 0", "crf 23", "unknown", "all")
    assert got.rows[1] == ("y", "100.0% (1)", "0.0% (1)", "100.0% (1)", "66.7% (3)")


def test_undefined_values_are_dashes() -> None:
    assert (percent(None), bounds(None)) == ("-", "-")
    assert (percent(0.1234), bounds([0.1, 0.25])) == ("12.3%", "10.0 to 25.0%")


def test_visible_keeps_letters_of_all_scripts_and_escapes_what_steers() -> None:
    assert visible("\u5f35\u5049 \u00e9.mp4") == "\u5f35\u5049 \u00e9.mp4"
    assert visible("a\nb\x1b\u202e\udc80") == "a\\nb\\x1b\\u202e\\udc80"
