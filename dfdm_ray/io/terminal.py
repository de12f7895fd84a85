"""Output to a person; text from files is made harmless before it is printed."""

import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.segment import Segment
from rich.text import Text

_HARMFUL = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode categories of control codes, of marks that reorder or hide text, of lone surrogates (which
cannot be encoded) and of line separators. Source: Unicode Standard Annex 44, table 12."""
_LAYOUT = "\n\t"
"""Control codes that a text of several lines may contain."""
_NUM_SHOWN = 10


def visible(text: str, *, keep: str = "") -> str:
    r"""Return ``text`` with escapes for all characters that could control a terminal: ESC becomes ``\x1b``.

    Characters in ``keep``, such as the line ends of a traceback, stay as they are.
    """
    harmful = {one for one in set(text) - set(keep) if unicodedata.category(one) in _HARMFUL}
    return "".join(one.encode("unicode_escape").decode() if one in harmful else one for one in text)


def say(console: Console, text: str, style: str = "") -> None:
    """Print one line; only a terminal wraps it."""
    console.print(Text(visible(text), style=style), soft_wrap=True)


def show_list(console: Console, title: str, lines: Sequence[str]) -> None:
    """Print the number of ``lines`` and the first ten of them; print nothing if there are none."""
    if not lines:
        return
    say(console, f"{title}: {len(lines):,}", "bold yellow")
    for line in lines[:_NUM_SHOWN]:
        say(console, f"  {line}")
    if len(lines) > _NUM_SHOWN:
        say(console, f"  ... and {len(lines) - _NUM_SHOWN:,} more")


class SafeConsole(Console):
    """A console on which only rich controls the terminal, whatever text is printed."""

    def render(self, *renderable: Any, **options: Any) -> Iterable[Segment]:
        """Return the segments to write, with :func:`visible` text."""
        for segment in super().render(*renderable, **options):
            yield (
                segment if segment.control else Segment(visible(segment.text, keep=_LAYOUT), segment.style)
            )
