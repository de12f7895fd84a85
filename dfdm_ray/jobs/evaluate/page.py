"""The report as one HTML page: no scripts, nothing loaded, light and dark, for narrow and wide screens."""

from collections.abc import Sequence
from html import escape
from typing import Any

from dfdm_ray.io.terminal import visible
from dfdm_ray.jobs.evaluate import plots, sections

_CSS = """
:root { color-scheme: light dark; --page: #fbfbfd; --card: #ffffff; --ink: #1c1f26; --muted: #667085;
  --line: #e2e5ec; --accent: #2563c9; --second: #c2571a; }
@media (prefers-color-scheme: dark) { :root { --page: #12151b; --card: #1a1f27; --ink: #e6e9ef;
  --muted: #98a2b3; --line: #303744; --accent: #6ea3ff; --second: #f09a5f; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: 1.5rem clamp(.75rem, 3vw, 2.5rem) 3rem; }
h1 { font-size: 1.5rem; margin: 0 0 .5rem; }
h2 { font-size: 1.3rem; margin: 2.25rem 0 .75rem; overflow-wrap: anywhere; }
h3 { font-size: 1rem; margin: 0 0 .5rem; }
p { margin: .35rem 0; max-width: 75ch; overflow-wrap: anywhere; }
.quiet, .remark { color: var(--muted); font-size: .875rem; }
.tiles, .cards { display: grid; gap: 1rem; margin: 1rem 0; }
.tiles { grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .75rem; }
.cards { grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); }
.tile, .card { background: var(--card); border: 1px solid var(--line); border-radius: .6rem;
  padding: .9rem 1rem; min-width: 0; }
.tile b { display: block; font-size: 1.6rem; line-height: 1.25; font-variant-numeric: tabular-nums; }
.tile span { color: var(--muted); font-size: .85rem; }
.wide { grid-column: 1 / -1; }
.scroll { overflow-x: auto; }
svg { display: block; width: 100%; height: auto; margin: 0 auto; }
svg text { font-family: system-ui, sans-serif !important; }
table { border-collapse: collapse; width: 100%; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .6rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; }
th { color: var(--muted); font-weight: 600; }
tr:last-child td { border-bottom: 0; }
@media (max-width: 30rem) { table { font-size: .8rem; } th, td { padding: .35rem .3rem; } }
.text { text-align: left; }
td.text { white-space: normal; overflow-wrap: anywhere; min-width: 5.5rem; }
td.name { min-width: 13rem; }
"""


def render(report: dict[str, Any]) -> str:
    """Return the page of ``metrics.json``'s content."""
    scope = "".join(f'<p class="quiet">{escape(line)}</p>' for line in sections.scope(report))
    cross = ""
    if len(report["runs"]) > 1:
        cross = f'<div class="cards">{_card(sections.cross_quality_table(report), wide=True)}</div>'
    runs = "".join(_run(run, f"run{index}") for index, run in enumerate(report["runs"]))
    notes = "".join(
        f'<p class="quiet">{escape(text)}</p>' for text in (sections.INTERVALS, sections.FOOTNOTE)
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{sections.TITLE}</title>\n<style>{_CSS}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{sections.TITLE}</h1>\n{scope}\n{cross}\n{runs}\n<footer>{notes}</footer>\n</main>\n</body>\n</html>\n"
    )


def _run(run: dict[str, Any], name: str) -> str:
    figures = {
        "Confusion matrix": plots.confusion_svg(run, name=f"{name}-confusion"),
        "Reliability": plots.reliability_svg(run, name=f"{name}-reliability"),
        "Recall by generator": plots.recall_svg(run, name=f"{name}-recall"),
        "Accuracy by quality": plots.quality_svg(run, name=f"{name}-quality"),
    }
    drawn = "".join(
        f'<section class="card"><h3>{escape(title)}</h3>{svg}</section>' for title, svg in figures.items()
    )
    # The matrix is drawn above, with its counts.
    tables = "".join(
        _card(table, wide=len(table.headings) > 5 or table.num_text_columns > 1)
        for table in sections.all_tables(run)
        if table.title != "Confusion matrix"
    )
    lead = "".join(f"<p>{escape(line)}</p>" for line in sections.headline(run))
    return (
        f"<section><h2>{escape(visible(run['name']))}</h2>{_tiles(run)}{lead}\n"
        f'<div class="cards">{drawn}</div>\n<div class="cards">{tables}</div></section>'
    )


def _tiles(run: dict[str, Any]) -> str:
    tiles = "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(label)}</span></div>'
        for value, label in sections.key_figures(run)
    )
    return f'<div class="tiles">{tiles}</div>'


def _card(table: sections.Table, *, wide: bool) -> str:
    head = _row(table.headings, table.num_text_columns, "th")
    body = "".join(_row(row, table.num_text_columns, "td") for row in table.rows)
    grid = f'<div class="scroll" tabindex="0"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>'
    remark = f'<p class="remark">{escape(table.remark)}</p>' if table.remark else ""
    kind = "card wide" if wide else "card"
    content = f"{grid if table.rows else ''}{remark}"
    return f'<section class="{kind}"><h3>{escape(table.title)}</h3>{content}</section>'


def _row(cells: Sequence[str], num_text_columns: int, tag: str) -> str:
    # Long names, of videos, stand first in tables that have more words than numbers.
    kinds = ["name text" if num_text_columns > 1 else "text"] + ["text"] * (num_text_columns - 1)
    kinds += ["number"] * (len(cells) - num_text_columns)
    marked = (
        f'<{tag} class="{kind}">{escape(cell)}</{tag}>' for kind, cell in zip(kinds, cells, strict=True)
    )
    return f"<tr>{''.join(marked)}</tr>"
