"""Progress of a run: a bar on a terminal, a line every ten seconds elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from dfdm_ray.io.terminal import say

_LINE_EVERY_S = 10.0


@dataclass(kw_only=True)
class Counts:
    """Videos of a run so far, earlier runs into the same folder included."""

    planned: int
    scored: int = 0
    rejected: int = 0
    earlier: int = 0
    """Finished by earlier runs."""
    verb: str = "scored"
    """What is done with a video that is not rejected."""
    started_s: float = field(default_factory=time.monotonic)

    @property
    def done(self) -> int:
        """Videos with a row."""
        return self.scored + self.rejected

    @property
    def per_s(self) -> float:
        """Rate of this run."""
        return (self.done - self.earlier) / max(time.monotonic() - self.started_s, 1e-9)

    def __str__(self) -> str:
        return f"{self.scored} {self.verb}, {self.rejected} rejected, {self.per_s:.2f} videos/s"


@dataclass(kw_only=True)
class Work:
    """Any countable work so far."""

    planned: int
    unit: str
    done: int = 0
    started_s: float = field(default_factory=time.monotonic)
    _earlier: int | None = None

    @property
    def per_s(self) -> float:
        """Rate since the first look."""
        if self._earlier is None:
            self._earlier = self.done
        return (self.done - self._earlier) / max(time.monotonic() - self.started_s, 1e-9)

    def __str__(self) -> str:
        return f"{self.per_s:.2f} {self.unit}/s"


class Countable(Protocol):
    """What progress is shown of; ``str`` of it stands behind the bar."""

    @property
    def planned(self) -> int:
        """How much there is to do."""

    @property
    def done(self) -> int:
        """How much is done."""

    @property
    def per_s(self) -> float:
        """How fast it goes."""


class Show(Protocol):
    """Shows the counts as they are now."""

    def __call__(self, *, note: str | None = None) -> None:
        """Refresh; ``note`` replaces the counts."""


@contextmanager
def progress(counts: Countable, console: Console, *, title: str) -> Iterator[Show]:
    """Show ``counts`` of the work ``title`` while the block runs."""
    yield from _bar(counts, console, title) if console.is_terminal else _lines(counts, console, title)


def _bar(counts: Countable, console: Console, title: str) -> Iterator[Show]:
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"))
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task(title, total=counts.planned, completed=counts.done, note="")

        def show(*, note: str | None = None) -> None:
            bar.update(task, completed=counts.done, note=note or str(counts))

        yield show


def _lines(counts: Countable, console: Console, title: str) -> Iterator[Show]:
    last_s = -_LINE_EVERY_S

    def show(*, note: str | None = None) -> None:
        nonlocal last_s
        now = time.monotonic()
        if note is None and counts.done < counts.planned and now - last_s < _LINE_EVERY_S:
            return
        last_s = now
        left_s = (counts.planned - counts.done) / counts.per_s if counts.per_s else None
        left = f", about {left_s:.0f} s left" if left_s else ""
        say(console, note or f"{counts.done}/{counts.planned} {title}: {counts}{left}")

    yield show
