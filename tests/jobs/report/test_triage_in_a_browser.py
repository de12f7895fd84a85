"""The index, by real clicks and keys in headless Chromium, opened from disk."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.browser import browser
from support.report_rows import ROWS, answered, run_of
from support.report_rows import made as made_page
from support.triage_rows import made_run, made_thumbnails

from dfdm_ray.jobs.report.page import name_of
from dfdm_ray.jobs.report.scored import ScoredRun
from dfdm_ray.jobs.report.triage import PER_SHARD, VERDICTS, write_index

pytestmark = pytest.mark.slow

NUMBER = 630


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def made() -> ScoredRun:
    return made_run(NUMBER)


@pytest.fixture(scope="module")
def folder(made: ScoredRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("index")
    page = name_of(made.rows[1]["video_id"])
    (folder / "videos").mkdir()
    (folder / "videos" / f"{page}.html").write_text("<title>the page of the second video</title>")
    write_index(made, made_thumbnails(made), str(folder), [f"{page}.html"])
    return folder


@pytest.fixture
def page(chromium: Any, folder: Path) -> Iterator[Any]:
    """The index in a fresh profile; any error on the page or any request to a network fails the test."""
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    wrong: list[str] = []
    opened = context.new_page()
    opened.set_default_timeout(10_000)
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    opened.on(
        "request",
        lambda one: None if one.url.startswith(("file:", "data:", "blob:")) else wrong.append(one.url),
    )
    opened.goto((folder / "index.html").as_uri())
    yield opened
    context.close()
    assert not wrong


def count(page: Any) -> str:
    return str(page.locator("#count").inner_text())


def names(page: Any) -> list[str]:
    return list(page.locator(".row .name").all_inner_texts())


def current(page: Any) -> str:
    return str(page.locator("#panel .id").inner_text())


def test_it_lists_all_videos_strongest_first_with_thumbnails_of_the_rows_in_view(
    page: Any, made: ScoredRun
) -> None:
    assert count(page) == "630 of 630 videos, 0 marked for review"
    expected = [row["video_id"].rpartition("/")[2] for row in made.rows]
    seen = names(page)
    assert 8 < len(seen) < 30  # only what is in view, and a few more
    assert seen == expected[: len(seen)]
    page.wait_for_selector(".row img")
    assert page.evaluate("[...document.images].every((image) => image.naturalWidth === 96)")
    assert "only" in page.locator("#why").inner_text()


def test_scrolling_loads_further_data_and_draws_the_rows_there(page: Any, made: ScoredRun) -> None:
    page.locator("#list").hover()
    page.mouse.wheel(0, 84 * (NUMBER - 20))
    last = made.rows[-15]["video_id"].rpartition("/")[2]
    page.get_by_text(last, exact=True).wait_for()
    page.wait_for_function("document.querySelectorAll('.row img').length > 5")
    assert NUMBER > 5 * PER_SHARD


def test_filters_combine_and_show_how_many_fit(page: Any, made: ScoredRun) -> None:
    page.select_option("#by-verdict", label="attributed (105)")
    assert count(page).startswith("105 of 630")
    assert page.locator(".row.attributed").count() == page.locator(".row").count()
    page.select_option("#by-quality", value="2")
    page.select_option("#by-folder", value="6")
    wanted = [
        row
        for row in made.rows
        if (row["verdict"], row["crf"], row["video_id"][:9]) == ("attributed", 23, "camera 06")
    ]
    assert count(page).startswith(f"{len(wanted)} of 630")
    assert names(page)[:3] == [row["video_id"].rpartition("/")[2] for row in wanted[:3]]
    page.select_option("#by-reject", index=1)
    assert count(page).startswith("0 of 630")
    assert page.locator("#empty").is_visible()
    for name in ("verdict", "quality", "folder", "reject"):
        page.select_option(f"#by-{name}", value="")
    assert count(page).startswith("630 of 630")


def test_order_and_search(page: Any, made: ScoredRun) -> None:
    ids = [row["video_id"] for row in made.rows]
    page.select_option("#order", value="name")
    assert current(page) == min(ids)
    page.select_option("#order", value="weakest")
    assert current(page) == ids[-1]
    page.select_option("#order", value="strength")
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    page.keyboard.type("ID5_")
    found = [name for name in ids if "id5_" in name.lower()]
    assert count(page).startswith(f"{len(found)} of 630")
    assert current(page) == found[0]


def test_keys_step_mark_and_note_and_the_marks_are_there_after_a_reload(page: Any, made: ScoredRun) -> None:
    ids = [row["video_id"] for row in made.rows]
    page.keyboard.press("j")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("k")
    assert current(page) == ids[1]
    page.keyboard.press("m")
    assert page.locator(".row.current .flags b").inner_text() == "review"
    page.keyboard.press("n")
    page.keyboard.type("jaw line, see 0:03")  # its letters are no steps
    page.keyboard.press("Escape")
    page.keyboard.press("End")
    assert current(page) == ids[-1]
    page.keyboard.press("m")
    assert count(page).endswith("2 marked for review")
    page.keyboard.press("m")
    assert count(page).endswith("1 marked for review")
    page.reload()
    assert count(page).endswith("1 marked for review")
    page.select_option("#by-mark", value="0")
    assert current(page) == ids[1]
    assert page.locator("#note").input_value() == "jaw line, see 0:03"


def test_marks_are_exported_as_csv_that_no_spreadsheet_runs(page: Any, made: ScoredRun) -> None:
    page.locator(".row").nth(2).click()
    page.locator("#mark").click()
    page.locator("#note").fill('=HYPERLINK("x"), "quoted"\nsecond line')
    with page.expect_download() as download:
        page.locator("#export").click()
    text = Path(download.value.path()).read_bytes().decode("utf-8-sig")
    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    marked = made.rows[2]
    assert row["video_id"] == marked["video_id"]
    assert (row["verdict"], row["generator"], row["mark"]) == (
        marked["verdict"],
        marked["generator"],
        "review",
    )
    assert float(row["log10_lr"]) == pytest.approx(marked["log10_lr"], abs=1e-3)
    assert row["note"] == '\'=HYPERLINK("x"), "quoted"\nsecond line'
    assert download.value.suggested_filename == "marks.csv"


def test_a_page_opens_and_a_video_without_one_shows_the_command_that_makes_it(
    page: Any, made: ScoredRun
) -> None:
    assert (
        page.locator("#panel code").inner_text()
        == f"dfdm-ray report out --videos '{made.rows[0]['video_id']}'"
    )
    page.keyboard.press("j")
    with page.context.expect_page() as opened:
        page.keyboard.press("o")
    opened.value.wait_for_load_state()
    assert opened.value.title() == "the page of the second video"


def test_hostile_names_stay_text(chromium: Any, tmp_path: Path) -> None:
    hostile = "<img src=x onerror='document.title=1'>/</script><b>x\u202e.mp4"
    run = run_of(answered(hostile, "attributed", verdict_reason=hostile))
    write_index(run, made_thumbnails(run), str(tmp_path), [])
    page = chromium.new_page()
    page.goto((tmp_path / "index.html").as_uri())
    assert current(page) == hostile
    assert page.title() == "Videos of out"
    assert page.locator("#list b").count() == 0
    page.close()


def test_data_that_is_missing_is_reported(chromium: Any, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_bytes((folder / "index.html").read_bytes())
    page = chromium.new_page()
    page.goto((tmp_path / "index.html").as_uri())
    assert count(page) == "data/index.js is missing beside this page; copy the whole folder."
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(1600, 900), (390, 844)])
def test_nothing_overflows_and_words_are_readable(
    chromium: Any, folder: Path, scheme: str, width: int, height: int
) -> None:
    page = chromium.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    page.goto((folder / "index.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate("document.documentElement.scrollHeight") == height
    for number, verdict in enumerate(VERDICTS):
        page.select_option("#by-verdict", value=str(number))
        assert page.evaluate(_CONTRAST) >= 4.5, verdict  # WCAG 2.2, 1.4.3
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1600, 390])
def test_a_page_fits_its_window_breaks_no_rule_of_its_own_and_is_readable(
    chromium: Any, tmp_path: Path, scheme: str, width: int
) -> None:
    for verdict, row in ROWS.items():
        (tmp_path / f"{verdict}.html").write_text(made_page(row)[1])
        page = chromium.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        wrong: list[str] = []
        page.on("console", lambda message, wrong=wrong: wrong.append(message.text))
        page.goto((tmp_path / f"{verdict}.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") == width, verdict
        assert page.evaluate(
            "[...document.images].every((image) => !image.complete || image.naturalWidth > 0)"
        )
        assert page.evaluate(_CONTRAST.replace(".row:not(.current) .verdict", "h1")) >= 4.5, verdict
        assert page.locator("h1").bounding_box()["y"] < 100
        assert not wrong
        page.close()


_CONTRAST = """() => {
  const luminance = (text) => {
    const [r, g, b] = text.match(/[\\d.]+/g).map(Number).map((c) => c / 255)
      .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const word = document.querySelector(".row:not(.current) .verdict");
  const [words, ground] = [getComputedStyle(word).color, getComputedStyle(document.body).backgroundColor];
  const [a, b] = [luminance(words), luminance(ground)];
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}"""
