"""What may come to a terminal or into a log: names and texts of other people's files, made harmless."""

import unicodedata
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.segment import Segment

_HARMFUL = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode categories of control codes, of marks that turn or hide text, of halves of characters (which cannot
be encoded) and of separators of lines. Source: Unicode Standard Annex 44, table 12."""


def visible(text: str) -> str:
    r"""Return ``text`` with all that would steer a terminal spelled out: ESC becomes ``\x1b``."""
    return "".join(
        character.encode("unicode_escape").decode()
        if character not in "\n\t" and unicodedata.category(character) in _HARMFUL
        else character
        for character in text
    )


class SafeConsole(Console):
    """A console on which only rich itself steers the terminal, whatever text is printed."""

    def render(self, *renderable: Any, **options: Any) -> Iterable[Segment]:
        """Return the segments to be written, their texts :func:`visible`."""
        for segment in super().render(*renderable, **options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)
