"""Steps of the demo: one bar on a terminal, a line every ten seconds elsewhere, everything in a log.

The jobs write to the log. Lines such as ``12/20 scenes: 0.8 scenes/s`` and ``epoch 3/14: ...`` also move the
bar.
"""

import io
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from dfdm_ray.errors import IncompleteError, UserError
from dfdm_ray.io.terminal import SafeConsole, say, visible

_LINE_EVERY_S = 10.0
_COUNT = re.compile(r"(?:epoch +)?(\d+)/(\d+)(?: (\w+))?")
_EPOCHS = "epochs"
_TRUSTED_S = 60.0
"""Planned seconds that count as done at the planned speed, so that the first estimates are steady."""
_SKIPPED = 0.2
"""A step that takes a smaller share of its planned time was done before."""
_LOG_WIDTH = 110

Plan = Mapping[str, Mapping[str, float]]
"""For each step its parts, by the word that the jobs count, and their seconds on two slow cores."""


def count_of(line: str) -> tuple[str, float] | None:
    """Return what a line of a job counts, and the finished share of it; ``None`` if it counts nothing."""
    found = _COUNT.match(line)
    if found is None or int(found[2]) == 0:
        return None
    return found[3] or _EPOCHS, min(1.0, int(found[1]) / int(found[2]))


def time_text(seconds: float) -> str:
    """Return ``40 s`` or ``3 min 20 s``; from ten minutes on, whole minutes."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    return f"{round(whole / 60)} min" if whole >= 600 else f"{whole // 60} min {whole % 60:02} s"


class Estimate:
    """Share of the plan that is done, and the time that the rest takes at the speed so far."""

    def __init__(self, plan: Plan, *, now_s: float) -> None:
        self._plan = plan
        self._step, self._word, self._part = "", "", 0.0
        self._finished: dict[str, float] = {}
        self._started_s = self._step_s = now_s
        self._skipped_s = 0.0

    def begin(self, step: str, now_s: float) -> None:
        """Begin a step."""
        self._step, self._word, self._part, self._step_s = step, "", 0.0, now_s

    def end(self, now_s: float) -> None:
        """End the step."""
        planned = sum(self._plan[self._step].values())
        self._finished[self._step] = planned
        if now_s - self._step_s < _SKIPPED * planned:
            self._started_s += now_s - self._step_s
            self._skipped_s += planned
        self.begin("", now_s)

    def count(self, word: str, part: float) -> None:
        """Take the share of a part of the step that is finished; words outside the plan do not count."""
        if word in self._plan.get(self._step, {}):
            self._word, self._part = word, part

    @property
    def done_s(self) -> float:
        """Planned seconds of what is done."""
        parts = self._plan.get(self._step, {})
        before = [*parts][: [*parts].index(self._word)] if self._word else []
        own = sum(parts[word] for word in before) + self._part * parts.get(self._word, 0)
        return sum(self._finished.values()) + own

    @property
    def planned_s(self) -> float:
        """Planned seconds of all steps."""
        return sum(sum(parts.values()) for parts in self._plan.values())

    def left_s(self, now_s: float) -> float:
        """Return the seconds that the rest takes."""
        passed = now_s - self._started_s
        pace = (passed + _TRUSTED_S) / (self.done_s - self._skipped_s + _TRUSTED_S)
        return max(0.0, self.planned_s - self.done_s) * pace


class _Lines(io.StringIO):
    """A text file that also passes on each whole line."""

    def __init__(self, path: Path, use: Callable[[str], None]) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._rest = ""
        self._use = use

    def write(self, text: str) -> int:
        self._file.write(text)
        self._file.flush()
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._use(line)
        return len(text)

    def close(self) -> None:
        self._file.close()
        super().close()


class Steps:
    """Shows the steps of ``plan`` on ``console``; jobs get a console that writes to ``log``."""

    def __init__(self, plan: Plan, console: Console, log: Path) -> None:
        self.seconds: dict[str, float] = {}
        """Duration of each finished step."""
        self._plan, self._console, self._log = plan, console, log
        self._estimate = Estimate(plan, now_s=time.monotonic())
        self._what = ""
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:3.0f} %  {task.fields[left]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=self._estimate.planned_s, left="")

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the bar, or a line every ten seconds, while the block runs."""
        log, ended = _Lines(self._log, self._follow), threading.Event()
        self._jobs = SafeConsole(file=log, width=_LOG_WIDTH)
        thread = threading.Thread(target=self._keep_showing, args=(ended,), daemon=True)
        with self._bar:
            thread.start()
            try:
                yield
            finally:
                ended.set()
                thread.join()
                log.close()

    @contextmanager
    def step(self, name: str, what: str) -> Iterator[Console]:
        """Announce a step and yield the console for its jobs.

        Raises:
            UserError: As the block does, with the name of the step and what to do next; so are others.
        """
        number, started_s = [*self._plan].index(name) + 1, time.monotonic()
        self._estimate.begin(name, started_s)
        say(self._console, f"{number}/{len(self._plan)} {name}: {what} ({self._left()})")
        self._jobs.rule(name)
        self._what = name
        try:
            yield self._jobs
        except (UserError, IncompleteError) as error:
            kind = UserError if isinstance(error, UserError) else IncompleteError
            raise kind(
                f"step {number} of {len(self._plan)}, {name}: {error} - what is finished is kept: repeat the "
                f"same command to continue; the output of all steps is in {self._log}"
            ) from error
        self._estimate.end(time.monotonic())
        self._draw()
        self.seconds[name] = time.monotonic() - started_s

    def _follow(self, line: str) -> None:
        """Move on by a line of a job."""
        if counted := count_of(line):
            self._estimate.count(*counted)
            self._what = visible(line.partition(":")[0])
            self._draw()

    def _keep_showing(self, ended: threading.Event) -> None:
        while not ended.wait(1.0 if self._console.is_terminal else _LINE_EVERY_S):
            if self._console.is_terminal:
                self._draw()
            else:
                say(self._console, f"  {self._what}; {self._left()}")

    def _left(self) -> str:
        return f"about {time_text(self._estimate.left_s(time.monotonic()))} left"

    def _draw(self) -> None:
        done = self._estimate.done_s
        self._bar.update(self._task, description=self._what, completed=done, left=self._left())
