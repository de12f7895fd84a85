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

_LINE_EVERY_S = 10.0


@dataclass(kw_only=True)
class Counts:
    """Videos of a run so far, earlier runs into the same folder included."""

    planned: int
    scored: int = 0
    rejected: int = 0
    earlier: int = 0
    """Finished by earlier runs."""
    started_s: float = field(default_factory=time.monotonic)

    @property
    def done(self) -> int:
        """Videos with a row."""
        return self.scored + self.rejected

    @property
    def videos_per_s(self) -> float:
        """Rate of this run."""
        return (self.done - self.earlier) / max(time.monotonic() - self.started_s, 1e-9)

    def __str__(self) -> str:
        return f"{self.scored} scored, {self.rejected} rejected, {self.videos_per_s:.2f} videos/s"


class Show(Protocol):
    """Shows the counts as they are now."""

    def __call__(self, *, note: str | None = None) -> None:
        """Refresh; ``note`` replaces the counts."""


@contextmanager
def progress(counts: Counts, console: Console) -> Iterator[Show]:
    """Show ``counts`` while the block runs."""
    yield from _bar(counts, console) if console.is_terminal else _lines(counts, console)


def _bar(counts: Counts, console: Console) -> Iterator[Show]:
    columns = (TextColumn("score"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"))
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task("score", total=counts.planned, completed=counts.done, note="")

        def show(*, note: str | None = None) -> None:
            bar.update(task, completed=counts.done, note=note or str(counts))

        yield show


def _lines(counts: Counts, console: Console) -> Iterator[Show]:
    last_s = -_LINE_EVERY_S

    def show(*, note: str | None = None) -> None:
        nonlocal last_s
        now = time.monotonic()
        if note is None and counts.done < counts.planned and now - last_s < _LINE_EVERY_S:
            return
        last_s = now
        left_s = (counts.planned - counts.done) / counts.videos_per_s if counts.videos_per_s else None
        left = f", about {left_s:.0f} s left" if left_s else ""
        console.print(note or f"{counts.done}/{counts.planned} videos: {counts}{left}", highlight=False)

    yield show
