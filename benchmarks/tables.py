"""A table as plain data, for the terminal and for Markdown."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Table:
    """Headings, rows of cells, and a sentence below."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    remark: str = ""


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Return the median, and half of the range where there are several."""
    half = f" ± {(max(values) - min(values)) / 2:.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.median(values):.{digits}f}{half}"
