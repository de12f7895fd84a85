"""The report in the terminal: the main numbers."""

from typing import Any

from rich import table as rich_table
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape

from dfdm_ray.io.terminal import say, visible
from dfdm_ray.jobs.evaluate import sections
from dfdm_ray.jobs.evaluate.wording import bounds, percent, quality


def show(report: dict[str, Any], console: Console) -> None:
    """Print accuracy, overall, by quality and by generator, of each predictions input."""
    for line in sections.scope(report):
        say(console, line)
    for run in report["runs"]:
        console.print(_main_table(run))
        for line in sections.headline(run)[1:]:
            say(console, line)
        left_out = {
            kind: count
            for kind, count in (
                ("rejected", run["videos"]["rejected"]),
                ("of unknown generator", run["videos"]["unknown_generator"]),
                ("of a generator that is no class", run["videos"]["no_class"]),
            )
            if count
        }
        if left_out:
            listed = ", ".join(f"{count} {kind}" for kind, count in left_out.items())
            say(console, f"Without part in the metrics: {listed}.")
    if len(report["runs"]) > 1:
        console.print(rich_table_of(sections.cross_quality_table(report)))


def _main_table(run: dict[str, Any]) -> rich_table.Table:
    table = rich_table.Table(title=escape(visible(run["name"])), box=SIMPLE_HEAD)
    table.add_column("", overflow="fold")
    for heading in ("accuracy", "95% interval", "videos"):
        table.add_column(heading, justify="right", no_wrap=True)
    accuracy = percent(run["accuracy"])
    table.add_row("all", accuracy, bounds(run["accuracy_interval"]), str(run["num_videos"]), end_section=True)
    for row in run["qualities"]:
        cells = percent(row["accuracy"]), bounds(row["accuracy_interval"])
        table.add_row(quality(row["crf"]), *cells, str(row["num_videos"]))
    table.add_section()
    for row in run["generators"]:
        cells = percent(row["recall"]), bounds(row["recall_interval"])
        table.add_row(row["generator"], *cells, str(row["num_videos"]))
    return table


def rich_table_of(content: sections.Table) -> rich_table.Table:
    """Return a table of the report, to be printed."""
    table = rich_table.Table(title=escape(content.title), caption=escape(content.remark), box=SIMPLE_HEAD)
    for index, heading in enumerate(content.headings):
        table.add_column(escape(heading), justify="left" if index < content.num_text_columns else "right")
    for row in content.rows:
        table.add_row(*map(escape, row))
    return table
