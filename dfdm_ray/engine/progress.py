"""Progress of a run: a bar on a terminal; elsewhere a line every ten seconds, if there is progress."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.progress import TimeElapsedColumn as Elapsed
from rich.progress import TimeRemainingColumn as Remaining

from dfdm_ray.io.terminal import say

_LINE_EVERY_S = 10.0


@dataclass(kw_only=True)
class Counts:
    """Finished videos of a run, including earlier runs into the same folder."""

    planned: int
    scored: int = 0
    rejected: int = 0
    earlier: int = 0
    """Videos that earlier runs finished."""
    verb: str = "scored"
    """Word for a video that is not rejected."""
    started_s: float = field(default_factory=time.monotonic)

    @property
    def done(self) -> int:
        """Videos with a row."""
        return self.scored + self.rejected

    @property
    def per_s(self) -> float:
        """Videos per second in this run."""
        return (self.done - self.earlier) / max(time.monotonic() - self.started_s, 1e-9)

    def __str__(self) -> str:
        return f"{self.scored} {self.verb}, {self.rejected} rejected, {self.per_s:.2f} videos/s"


@dataclass(kw_only=True)
class Work:
    """Any countable work."""

    planned: int
    unit: str
    done: int = 0
    started_s: float = field(default_factory=time.monotonic)
    _earlier: int | None = None

    @property
    def per_s(self) -> float:
        """Units per second since the first call, or since work was lost and is done again."""
        if self._earlier is None or self.done < self._earlier:
            self._earlier, self.started_s = self.done, time.monotonic()
        return (self.done - self._earlier) / max(time.monotonic() - self.started_s, 1e-9)

    def __str__(self) -> str:
        return f"{self.per_s:.2f} {self.unit}/s"


Show = Callable[..., None]
"""Shows the current counts; its argument ``note`` replaces them."""


@contextmanager
def progress(counts: Counts | Work, console: Console, *, title: str) -> Iterator[Show]:
    """Show ``counts`` of the work ``title`` while the block runs."""
    yield from _bar(counts, console, title) if console.is_terminal else _lines(counts, console, title)


def _bar(counts: Counts | Work, console: Console, title: str) -> Iterator[Show]:
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"))
    with Progress(*columns, Elapsed(), Remaining(), console=console) as bar:
        task = bar.add_task(title, total=counts.planned, completed=counts.done, note="")

        def show(*, note: str | None = None) -> None:
            bar.update(task, completed=counts.done, note=note or str(counts))

        yield show


def _lines(counts: Counts | Work, console: Console, title: str) -> Iterator[Show]:
    last_s, last = -_LINE_EVERY_S, ""

    def show(*, note: str | None = None) -> None:
        nonlocal last_s, last
        now = time.monotonic()
        if note is None and counts.done < counts.planned and now - last_s < _LINE_EVERY_S:
            return
        count = note or f"{counts.done}/{counts.planned} {title}"
        if count == last:
            return
        last_s, last = now, count
        left_s = (counts.planned - counts.done) / counts.per_s if counts.per_s else None
        left = f", about {left_s:.0f} s left" if left_s else ""
        say(console, note or f"{count}: {counts}{left}")

    yield show
