"""One Markdown page with plots of what floor.py, throughput.py and scale.py wrote to ``build/bench/``.

python benchmarks/page.py
"""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import page_plots
from scale_tables import all_tables
from tables import Table, spread

from dfdm_ray.jobs.evaluate.markdown import escape
from dfdm_ray.labels import QUALITIES

OUT = Path("build/bench")

Content = Mapping[str, Any]


def floor_table(floor: Content) -> Table:
    """CPU time of each step."""
    results = [floor["results"][str(crf)] for crf in QUALITIES]
    rows = [
        [name, *(f"{one['ms'][name]:.1f} ± {one['spread'][name] / 2:.1f}" for one in results)]
        for name in results[0]["ms"]
    ]
    rows += [[name, *(f"{cell:.2f}" for cell in cells)] for name, cells in floor["ratios"].items()]
    headings = ["CPU ms a video, one core"]
    headings += [f"crf {crf} ({floor['sizes_mb'][str(crf)]:.1f} MB)" for crf in QUALITIES]
    return Table(title="What each step costs", headings=headings, rows=rows)


def ways_table(content: Content) -> Table:
    """The pipeline against other ways."""
    figures = content["figures"]
    median = {way: {n: statistics.median(v) for n, v in one.items()} for way, one in figures.items()}
    rows = []
    for way, one in median.items():
        rates = figures[way]["videos/s"]
        cells = [spread(rates, 2)]
        cells.append(f"{median['dfdm-ray']['videos/s'] / one['videos/s']:.2f}")
        cells += [f"{one[name]:.1f}" if name in one else "" for name in ("first row, s", "all, s")]
        rows.append([way, *cells])
    headings = ["way", "videos/s", "dfdm-ray / this", "first row, s", "all, s"]
    title = f"The whole pipeline, {content['backbone']}, {content['videos']} videos"
    return Table(title=title, headings=headings, rows=rows)


def markdown(table: Table) -> list[str]:
    """Return the lines of a titled table."""
    bar = ["---", *["---:"] * (len(table.headings) - 1)]
    cells = [list(map(escape, row)) for row in (table.headings, *table.rows)]
    lines = ["| " + " | ".join(row) + " |" for row in (cells[0], bar, *cells[1:])]
    return [
        f"### {escape(table.title)}",
        "",
        *lines,
        "",
        *([escape(table.remark), ""] if table.remark else []),
    ]


def made_by(content: Content) -> list[str]:
    """Return a line that names command, machine and repeats."""
    repeats = f"; medians of {content['repeats']}" if "repeats" in content else ""
    return [f"`python {' '.join(content['command'])}`: {escape(content['machine'])}{repeats}", ""]


def image(name: str, text: str) -> list[str]:
    """Return the line that shows a plot."""
    return [f"![{text}]({name})", ""]


def page(floor: Content | None, ways: Sequence[Content], scale: Content | None) -> str:
    """Return the page, and draw its plots."""
    lines = ["# Benchmarks of dfdm-ray", "", "± is half of the range of the repeats.", ""]
    if floor:
        page_plots.steps_png(OUT / "steps.png", floor)
        lines += ["## Steps", "", *made_by(floor), *image("steps.png", "CPU time by step")]
        lines += markdown(floor_table(floor))
    for content in ways:
        name = f"ways_{content['backbone']}.png"
        page_plots.ways_png(OUT / name, content["figures"])
        lines += ["## Whole pipeline", "", *made_by(content), *image(name, "Videos a second of each way")]
        lines += markdown(ways_table(content))
    if scale:
        page_plots.predicted_png(OUT / "predicted.png", scale)
        page_plots.simulated_png(OUT / "simulated.png", scale)
        lines += ["## Scale", "", *made_by(scale), *image("predicted.png", "Predicted videos a second")]
        lines += image("simulated.png", "Simulated and predicted videos a second")
        lines += [line for table in all_tables(scale) for line in markdown(table)]
    return "\n".join(lines).rstrip() + "\n"


def _read(path: Path) -> Content | None:
    return json.loads(path.read_text()) if path.exists() else None


def main() -> None:
    paths = sorted(OUT.glob("throughput_*.json"))
    ways = [content for content in map(_read, paths) if content and "backbone" in content]
    text = page(_read(OUT / "floor_resnet50.json"), ways, _read(OUT / "scale.json"))
    (OUT / "page.md").write_text(text)
    print(f"{OUT / 'page.md'}")


if __name__ == "__main__":
    main()
