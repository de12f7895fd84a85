"""Words to a person: names and texts of other people's files are made harmless before they are printed."""

import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.segment import Segment
from rich.text import Text

_HARMFUL = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode categories of control codes, of marks that turn or hide text, of lone surrogates (which cannot be
encoded) and of line separators. Source: Unicode Standard Annex 44, table 12."""
_LAYOUT = "\n\t"
"""Control codes of a text with several lines."""
_NUM_SHOWN = 10


def visible(text: str, *, keep: str = "") -> str:
    r"""Return ``text`` with all characters that would steer a terminal as escapes: ESC becomes ``\x1b``.

    Args:
        text: Any text, such as a file name.
        keep: Harmful characters to leave as they are, such as the line ends of a traceback.
    """
    return "".join(
        one.encode("unicode_escape").decode()
        if one not in keep and unicodedata.category(one) in _HARMFUL
        else one
        for one in text
    )


def say(console: Console, text: str, style: str = "") -> None:
    """Print one line; a terminal may wrap it, a log file gets it whole."""
    console.print(Text(visible(text), style=style), soft_wrap=True)


def show_list(console: Console, title: str, lines: Sequence[str]) -> None:
    """Print how many ``lines`` there are and the first of them; nothing if there are none."""
    if not lines:
        return
    say(console, f"{title}: {len(lines):,}", "bold yellow")
    for line in lines[:_NUM_SHOWN]:
        say(console, f"  {line}")
    if len(lines) > _NUM_SHOWN:
        say(console, f"  ... and {len(lines) - _NUM_SHOWN:,} more")


class SafeConsole(Console):
    """A console on which only rich itself steers the terminal, whatever text is printed."""

    def render(self, *renderable: Any, **options: Any) -> Iterable[Segment]:
        """Return the segments to be written, their texts :func:`visible`."""
        for segment in super().render(*renderable, **options):
            yield (
                segment if segment.control else Segment(visible(segment.text, keep=_LAYOUT), segment.style)
            )
