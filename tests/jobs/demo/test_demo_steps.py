import io
import time
from pathlib import Path

import pytest

from dfdm_ray.errors import UserError
from dfdm_ray.io.terminal import SafeConsole, say
from dfdm_ray.jobs.demo.steps import Estimate, Steps, count_of, time_text

PLAN = {"make": {"faces": 10.0, "scenes": 30.0}, "learn": {"epochs": 60.0}}


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("12/20 scenes: 0.8 scenes/s", ("scenes", 0.6)),
        ("epoch  3/12: loss 1.2, accuracy 50 %", ("epochs", 0.25)),
        ("120/90 videos: 1 videos/s", ("videos", 1.0)),
        ("0/0 pages", None),
        ("planned 20 = scored 20 + rejected 0", None),
        ("  crf 0   24   24", None),
    ],
)
def test_a_line_of_a_job_is_a_count_or_nothing(line: str, found: tuple[str, float] | None) -> None:
    assert count_of(line) == found


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (59.4, "59 s"), (60, "1 min 00 s"), (425, "7 min 05 s"), (601, "10 min"), (5400, "90 min")],
)
def test_durations_are_written_for_a_person(seconds: float, text: str) -> None:
    assert time_text(seconds) == text


def test_the_estimate_begins_with_the_plan_and_follows_the_pace() -> None:
    estimate = Estimate(PLAN, now_s=100)
    estimate.begin("make", 100)
    assert estimate.left_s(100) == pytest.approx(100)
    estimate.count("scenes", 0.5)
    estimate.count("videos", 0.9)  # not in the plan
    assert estimate.done_s == 25
    assert estimate.left_s(125) == pytest.approx(75)
    assert estimate.left_s(210) == pytest.approx(75 * 2)  # twice as slow: (110 + 60) / (25 + 60)


def test_a_step_that_was_done_before_says_nothing_about_the_pace() -> None:
    estimate = Estimate(PLAN, now_s=0)
    estimate.begin("make", 0)
    estimate.end(2)
    estimate.begin("learn", 2)
    assert estimate.done_s == 40
    assert estimate.left_s(2) == pytest.approx(60)


def shown(tmp_path: Path, *, terminal: bool) -> tuple[Steps, io.StringIO]:
    out = io.StringIO()
    console = SafeConsole(file=out, width=100, force_terminal=terminal)
    return Steps(PLAN, console, tmp_path / "log"), out


def test_a_log_has_a_line_for_each_step_and_tables_go_to_their_own_file(tmp_path: Path) -> None:
    steps, out = shown(tmp_path, terminal=False)
    with steps.shown():
        with steps.step("make", "faces") as jobs:
            say(jobs, "12/20 scenes: 0.8 scenes/s")
            say(jobs, "a table")
        with steps.step("learn", "classes"):
            pass
    first, second = out.getvalue().splitlines()
    assert first == "1/2 make: faces (about 1 min 40 s left)"
    assert second.startswith("2/2 learn: classes (about ")
    assert "a table" in (tmp_path / "log").read_text()
    assert [*steps.seconds] == ["make", "learn"]


def test_a_long_step_has_a_line_every_ten_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dfdm_ray.jobs.demo.steps._LINE_EVERY_S", 0.05)
    steps, out = shown(tmp_path, terminal=False)
    with steps.shown(), steps.step("make", "faces") as jobs:
        say(jobs, "10/20 scenes: 1 scenes/s")
        deadline = time.monotonic() + 10
        while out.getvalue().count("\n") < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert [line.partition(";")[0] for line in out.getvalue().splitlines()[1:3]] == ["  10/20 scenes"] * 2


def test_a_terminal_has_one_bar_with_the_time_left(tmp_path: Path) -> None:
    steps, out = shown(tmp_path, terminal=True)
    with steps.shown(), steps.step("make", "faces") as jobs:
        say(jobs, "10/20 scenes: 1 scenes/s")
    last = out.getvalue().splitlines()[-2]  # after it, the cursor is shown again
    assert "10/20 scenes" in last
    assert "40 %  about 1 min 00 s left" in last


def test_the_mistake_of_a_step_names_the_step_and_what_to_do(tmp_path: Path) -> None:
    steps, _ = shown(tmp_path, terminal=False)
    with (
        pytest.raises(UserError, match=r"^step 2 of 2, learn: no crops - what is finished is kept: repeat"),
        steps.shown(),
        steps.step("learn", "classes"),
    ):
        raise UserError("no crops")
