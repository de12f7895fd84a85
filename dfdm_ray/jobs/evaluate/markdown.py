"""The report as Markdown."""

import re
from collections.abc import Sequence
from typing import Any

from dfdm_ray.io.terminal import visible
from dfdm_ray.jobs.evaluate import sections


def escape(text: str) -> str:
    """Return ``text`` so that Markdown shows it as it is, in a table's cell too."""
    return re.sub(r"([\\`*_\[\]<>|~&$#])", r"\\\1", text)


def render(report: dict[str, Any]) -> str:
    """Return the report of ``metrics.json``'s content."""
    lines = [f"# {sections.TITLE}", "", *_paragraphs(sections.scope(report))]
    if len(report["runs"]) > 1:
        lines += table_lines(sections.cross_quality_table(report))
    for run in report["runs"]:
        lines += [f"## {escape(visible(run['name']))}", "", *_paragraphs(sections.headline(run))]
        for table in sections.all_tables(run):
            lines += table_lines(table)
    lines += _paragraphs([sections.INTERVALS, sections.FOOTNOTE])
    return "\n".join(lines).rstrip() + "\n"


def _paragraphs(texts: Sequence[str]) -> list[str]:
    return [line for text in texts for line in (escape(text), "")]


def table_lines(table: sections.Table) -> list[str]:
    """Return a titled table, its remark below."""
    lines = [f"### {table.title}", ""]
    if table.rows:
        numbers = len(table.headings) - table.num_text_columns
        lines += [
            _line(table.headings),
            "| " + " | ".join(["---"] * table.num_text_columns + ["---:"] * numbers) + " |",
            *map(_line, table.rows),
            "",
        ]
    return lines + _paragraphs([table.remark] if table.remark else [])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(escape, cells)) + " |"
