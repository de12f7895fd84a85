import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from support.report_rows import CLASSES, HOSTILE, ROWS, answered, made, maps, reference, run_of, subject_of

import dfdm_ray.jobs.report
from dfdm_ray.errors import RejectCode
from dfdm_ray.io.terminal import visible
from dfdm_ray.jobs.report import words
from dfdm_ray.jobs.report.content import content_of
from dfdm_ray.jobs.report.page import html, name_of, pictures_of

SCHEMA = json.loads(Path(dfdm_ray.jobs.report.__file__).with_name("schema.json").read_text())


class Page(HTMLParser):
    """Tags, texts and what a page would load."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.text = ""
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("verdict", ROWS)
def test_the_content_of_a_page_fits_the_schema_and_its_first_words_are_the_verdict(verdict: str) -> None:
    content, page = made(ROWS[verdict])
    jsonschema.validate(json.loads(json.dumps(content, allow_nan=False)), SCHEMA)
    got = Page(page)
    body = got.text.partition("which generator made this video?")[2]
    assert body.index(content["answer"]["headline"]) < 60
    assert all(line in got.text for line in content["answer"]["not_said"])


@pytest.mark.parametrize("verdict", ROWS)
def test_a_page_loads_nothing_and_contains_no_script(verdict: str) -> None:
    got = Page(made(ROWS[verdict])[1])
    assert not {"script", "link", "iframe", "object", "form"} & {*got.tags}
    assert all(value.startswith("data:image/jpeg;base64,") for value in got.loads)


def test_hostile_names_stay_text() -> None:
    row = answered(HOSTILE, "attributed", verdict_reason=HOSTILE, uri=HOSTILE, detector=HOSTILE)
    content, page = made(row)
    got = Page(page)
    assert "script" not in got.tags
    assert visible(HOSTILE) in got.text
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202e]", page)
    assert re.fullmatch(r"[A-Za-z0-9-]+", name_of(HOSTILE))
    assert content["video"]["video_id"] == HOSTILE


def test_names_of_pages_differ_where_readable_parts_are_equal() -> None:
    assert name_of("a/x.mp4") != name_of("b/x.mp4")
    assert name_of("a/x.mp4").startswith("x-mp4-")


def test_a_row_with_faces_shows_each_and_one_without_shows_its_own_columns() -> None:
    first, second = answered("a.mp4", "real", "real"), answered("a.mp4", "attributed", "dfaker")
    row = {**second, "faces": [first, second], "deciding_face": 1, "num_faces": 3}
    content, page = made(row, faces=2)
    assert [face["headline"] for face in content["faces"]] == ["Like a real video", "Attributed to dfaker"]
    assert content["answer"]["headline"] == "Attributed to dfaker"
    text = Page(page).text
    assert "face 2 of 2, the least innocent one" in text
    assert "Face 1: Like a real video" in text
    assert "3 faces were found, and 2 examined." in content["limitations"]
    alone, _ = made(second)
    assert [face["headline"] for face in alone["faces"]] == ["Attributed to dfaker"]


def test_a_box_is_drawn_where_the_face_is() -> None:
    _, page = made(ROWS["attributed"])
    assert 'style="left:12.5%;top:16.67%;width:37.5%;height:66.67%"' in page  # 10, 10, 40, 50 of 80 x 60


def test_a_changed_file_has_a_page_that_reports_it_and_shows_no_facts_of_the_new_file() -> None:
    content, page = made(ROWS["attributed"], remark="the file has changed since it was scored")
    jsonschema.validate(content, SCHEMA)
    assert "The file is not the one that was scored" in Page(page).text
    assert "sha256" not in content["file"]


def test_crops_that_give_another_answer_are_reported() -> None:
    row = ROWS["attributed"]
    run = run_of(row)
    seen = {"frames": [], "maps": [maps([value + 0.5 for value in row["logits"]])]}
    content = content_of(subject_of(run), row, run.manifest.to_pylist()[0], seen, {}, None)
    assert content["faces"][0]["seen_again"]["is_equal"] is False
    assert "the network's answer to them differs" in html(content, pictures_of(content, seen))


def test_without_a_reference_set_no_strength_and_no_error_rate_is_claimed() -> None:
    bare = {"p_values": [], "prediction_set": [], "log10_lr": None, "unknown_score": None}
    row = answered("a.mp4", "inconclusive", **bare, unknown_threshold=None, reference_set=None)
    content, page = made(row, judged=False)
    jsonschema.validate(content, SCHEMA)
    assert content["answer"]["strength"] is None
    assert content["reference_set"] is None
    assert "no reference set" in content["answer"]["meaning"]
    assert "How often such verdicts are wrong" not in Page(page).text


def test_strength_is_limited_by_the_reference_set_and_says_so() -> None:
    found, face = reference(30), {"generator": "iae", "log10_lr": np.log10(30)}
    strength: Any = words.strength_of("attributed", face, found)
    assert (strength["word"], strength["is_at_bound"]) == ("moderate", True)
    assert "the most that 30 reference videos can show" in strength["sentence"]
    weak: Any = words.strength_of("one_of", {**face, "log10_lr": -0.3}, found)
    assert (weak["word"], weak["is_at_bound"]) == ("weak", False)
    assert "if the class is another of the known ones than if it is iae" in weak["sentence"]
    assert words.strength_of("unknown", face, found) is None


def test_error_rates_are_those_of_the_verdict() -> None:
    found = reference()
    counts = {
        "real: attributed, wrong": 2,
        "real: real": 28,
        "swapped: attributed": 98,
        "swapped: real, wrong": 1,
    }
    found.facts["error_rates"]["verdicts"] = counts  # type: ignore[index]
    attributed: Any = words.error_rates("attributed", found)
    assert attributed["sentences"] == [
        "Of 100 reference videos with the verdict attributed, 2 were wrong (2%).",
        "Of 30 real reference videos, 2 were taken for swapped ones (7%).",
    ]
    real: Any = words.error_rates("real", found)
    assert real["sentences"][1] == "Of 99 swapped reference videos, 1 was taken for real ones (1%)."
    unknown: Any = words.error_rates("unknown", found)
    assert unknown["sentences"] == [
        "Of 129 reference videos, all of known classes, 0 were given the verdict unknown (0%)."
    ]


def test_every_reject_code_has_a_sentence() -> None:
    assert {*words.REASONS} == {*RejectCode}
    assert all(sentence.endswith(".") for sentence in words.REASONS.values())


def test_names_are_listed_in_words() -> None:
    texts = [words.listed(CLASSES[:number]) for number in range(4)]
    assert texts == ["", "faceswap", "faceswap or lightweight", "faceswap, lightweight or iae"]
