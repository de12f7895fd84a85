"""One Markdown page with plots from the JSON that floor.py, throughput.py and worker_costs.py wrote.

python benchmarks/page.py
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import floor
import page_plots
import throughput
import worker_costs
from report import OUT, Table

from dfdm_ray.jobs.evaluate.report import escape_markdown as escape

Content = Mapping[str, Any]


def markdown(table: Table) -> list[str]:
    """Return the lines of a titled table."""
    bar = ["---", *["---:"] * (len(table.headings) - 1)]
    cells = [list(map(escape, row)) for row in (table.headings, *table.rows)]
    lines = ["| " + " | ".join(row) + " |" for row in (cells[0], bar, *cells[1:])]
    remark = [escape(table.remark), ""] if table.remark else []
    return [f"### {escape(table.title)}", "", *lines, "", *remark]


def section(title: str, content: Content, table: Table, plot: str = "", text: str = "") -> list[str]:
    """Return the lines of one benchmark; ``plot`` is an image beside the page and ``text`` describes it."""
    command = f"`python {' '.join(content['command'])}`"
    lines = [
        f"## {title}",
        "",
        f"{command}: {escape(content['machine'])}; medians of {content['repeats']}",
        "",
    ]
    lines += [f"![{text}]({plot})", ""] if plot else []
    return lines + markdown(table)


def page(steps: Content | None, ways: Sequence[Content], costs: Content | None) -> str:
    """Draw the plots and return the page; parts that were not measured are left out."""
    lines = ["# Benchmarks of dfdm-ray", "", "± is half the range of the repeats.", ""]
    if steps:
        page_plots.steps_png(OUT / "steps.png", steps)
        lines += section("Steps", steps, floor.table_of(steps), "steps.png", "CPU time by step")
    for content in ways:
        name = f"ways_{content['backbone']}.png"
        page_plots.ways_png(OUT / name, content["figures"])
        text = "Videos per second of each way"
        lines += section("Whole pipeline", content, throughput.table_of(content), name, text)
    if costs:
        lines += section("Decode worker", costs, worker_costs.table_of(costs))
    return "\n".join(lines).rstrip() + "\n"


def _read(path: Path) -> Content | None:
    return json.loads(path.read_text()) if path.exists() else None


def main() -> None:
    ways = [content for content in map(_read, sorted(OUT.glob("throughput_*.json"))) if content]
    text = page(_read(OUT / "floor_resnet50.json"), ways, _read(OUT / "worker_costs.json"))
    (OUT / "page.md").write_text(text)
    print(OUT / "page.md")


if __name__ == "__main__":
    main()
