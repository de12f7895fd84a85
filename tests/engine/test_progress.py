import io

import pytest
from rich.console import Console

from dfdm_ray.engine import progress as module
from dfdm_ray.engine.progress import Counts, Work, progress


def printed(counts: Counts, steps: int, *, terminal: bool) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=100)
    with progress(counts, console, title="videos") as show:
        show(note="starting")
        for _ in range(steps):
            counts.scored += 1
            show()
    return out.getvalue()


def test_without_a_terminal_there_are_lines_but_not_one_for_every_video() -> None:
    lines = printed(Counts(planned=500), 500, terminal=False).splitlines()
    assert lines[0] == "starting"
    assert lines[-1].startswith("500/500 videos: 500 scored, 0 rejected")
    assert len(lines) <= 3


def test_without_a_terminal_a_line_comes_when_the_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LINE_EVERY_S", 0.0)
    lines = printed(Counts(planned=10), 4, terminal=False).splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["1/10", "2/10", "3/10", "4/10"]
    assert "s left" in lines[1]


def test_without_a_terminal_the_same_count_is_not_printed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LINE_EVERY_S", 0.0)
    out = io.StringIO()
    counts = Counts(planned=10)
    with progress(counts, Console(file=out, width=40), title="videos") as show:
        for done in (0, 0, 0, 3, 3, 10, 10):
            counts.scored = done
            show()
    assert [line.split()[0] for line in out.getvalue().splitlines()] == ["0/10", "3/10", "10/10"]


def test_a_terminal_gets_a_bar() -> None:
    text = printed(Counts(planned=4, scored=1, earlier=1), 3, terminal=True)
    assert "4/4" in text
    assert "4 scored, 0 rejected" in text


def test_the_rate_counts_only_this_run() -> None:
    counts = Counts(planned=100, scored=90, rejected=5, earlier=95)
    assert counts.per_s == 0.0
    assert counts.done == 95


def test_the_counts_say_what_is_done_with_videos() -> None:
    assert str(Counts(planned=3, scored=2, rejected=1, verb="prepared")).startswith("2 prepared, 1 rejected")


def test_the_rate_is_never_negative_when_work_is_lost_and_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    work, rates = Work(planned=100, unit="iterations", done=50), []
    for now[0], work.done in ((0.0, 50), (10.0, 60), (20.0, 40), (30.0, 45)):
        rates.append(work.per_s)
    assert rates == [0, 1, 0, 0.5]
