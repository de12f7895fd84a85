"""How numbers and strings from data are put into words; nothing is escaped for Markdown or HTML here."""

from collections.abc import Sequence


def percent(value: float | None) -> str:
    """Return a share in percent with one digit, ``-`` if it is not defined."""
    return "-" if value is None else f"{value:.1%}"


def bounds(interval: Sequence[float] | None) -> str:
    """Return an interval in percent, ``-`` if there is none."""
    return "-" if interval is None else f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}%"


def quality(crf: int | None) -> str:
    """Return what a quality is called."""
    return "unknown" if crf is None else f"crf {crf}"


def decimal(value: float | None) -> str:
    """Return a number with three digits, ``-`` if it is not defined."""
    return "-" if value is None else f"{value:.3f}"


def decimals(interval: Sequence[float] | None) -> str:
    """Return an interval of plain numbers."""
    return "no interval" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"


def count_of(number: int, what: str) -> str:
    """Return so many of a thing, in the plural where it must be."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
