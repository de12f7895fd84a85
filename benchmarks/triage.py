"""How fast the index of `report` opens, filters and scrolls in headless Chromium, with made-up rows.

python benchmarks/triage.py [--rows 6450 100000] [--repeats 5]

Needs Chromium and playwright. Times are taken by the page's own clock, up to the next drawn frame.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from report import Table, parser, save, show, spread
from support.browser import browser
from support.triage_rows import made_run, made_thumbnails

from dfdm_ray.jobs.report.triage import write_index

_FILTERS = ("#by-verdict", "#by-quality", "#by-folder")
_LIMITS_MS = {"open": 2000.0, "filter": 200.0}

_OPENED = """() => new Promise((done) => {
  const drawn = () => requestAnimationFrame(() => done(performance.now()));
  const look = () => document.querySelector(".row img") ? drawn() : setTimeout(look, 5);
  look();
})"""
"""Milliseconds from the start of the navigation to the first thumbnails."""

_CHANGED = """([name, value]) => new Promise((done) => {
  const control = document.querySelector(name), start = performance.now();
  control.value = value;
  control.dispatchEvent(new Event(control.matches("input") ? "input" : "change"));
  requestAnimationFrame(() => setTimeout(() => done(performance.now() - start)));
})"""
"""Milliseconds from a change of a control to the end of the frame that shows its result."""

_SCROLLED = """() => new Promise((done) => {
  const list = document.getElementById("list"), gaps = [];
  let last = performance.now(), left = 60;
  const step = (now) => {
    gaps.push(now - last);
    last = now;
    list.scrollTop += 600;
    if (--left) requestAnimationFrame(step); else done(Math.max(...gaps.slice(1)));
  };
  requestAnimationFrame(step);
})"""
"""Longest time between two frames while 60 screens pass, milliseconds."""


def measure(opened: Any, index: Path, repeats: int) -> dict[str, list[float]]:
    """Return milliseconds of each action."""
    found: dict[str, list[float]] = {name: [] for name in ("open", "filter", "search", "sort", "scroll")}
    for _ in range(repeats):
        page = opened.new_context(viewport={"width": 1280, "height": 900}).new_page()
        page.goto(index.as_uri(), wait_until="commit")
        found["open"].append(page.evaluate(_OPENED))
        found["scroll"].append(page.evaluate(_SCROLLED))
        for name in _FILTERS:
            found["filter"].append(page.evaluate(_CHANGED, [name, "1"]))
            found["filter"].append(page.evaluate(_CHANGED, [name, ""]))
        found["search"] += [page.evaluate(_CHANGED, ["#search", text]) for text in ("id5_", "id5_id1", "")]
        found["sort"] += [
            page.evaluate(_CHANGED, ["#order", name]) for name in ("probability", "name", "strength")
        ]
        page.context.close()
    return found


def main() -> None:
    given = parser(__doc__)
    given.add_argument("--rows", type=int, nargs="+", default=[6450, 100_000])
    given.add_argument("--repeats", type=int, default=5)
    options = given.parse_args()
    figures = {}
    with browser() as opened, tempfile.TemporaryDirectory() as root:
        for number in options.rows:
            folder = Path(root, str(number))
            run = made_run(number)
            thumbnails = made_thumbnails(run)
            started = time.perf_counter()
            write_index(run, thumbnails, str(folder), [])
            seconds = time.perf_counter() - started
            times = measure(opened, folder / "index.html", options.repeats)
            figures[number] = {
                "write_s": seconds,
                "index_bytes": (folder / "data" / "index.js").stat().st_size,
                "ms": times,
            }
    rows = [
        (
            f"{number:,}",
            f"{found['write_s']:.1f}",
            f"{found['index_bytes'] / 1e6:.1f}",
            *(spread(found["ms"][name]) for name in found["ms"]),
        )
        for number, found in figures.items()
    ]
    headings = (
        "videos",
        "written, s",
        "index.js, MB",
        "open, ms",
        "filter, ms",
        "search, ms",
        "sort, ms",
        "longest frame, ms",
    )
    show(Table(headings=headings, rows=rows), repeats=f"medians of {options.repeats}")
    save("triage", repeats=options.repeats, figures=figures)
    first = figures[options.rows[0]]["ms"]
    for name, limit in _LIMITS_MS.items():
        if (median := statistics.median(first[name])) > limit:
            sys.exit(f"{name} takes {median:.0f} ms with {options.rows[0]} videos, more than {limit:.0f}")


if __name__ == "__main__":
    main()
