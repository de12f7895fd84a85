"""Report of ``metrics.json``: its tables and sentences as plain text, and how each format shows them.

The terminal shows the main numbers; Markdown and the page, made from the templates here, show all of them.
Names from data are made visible where a text is built; each format then escapes its special characters.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from rich import table as rich_table
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape

from dfdm_ray.io.terminal import say, visible
from dfdm_ray.jobs.evaluate.cases import count_of
from dfdm_ray.jobs.evaluate.metrics import NUM_BINS
from dfdm_ray.jobs.evaluate.summary import Metrics

_LISTED = 20
"""Excluded videos of each kind that a report lists; metrics.json lists all."""
_TARGETS = 40
_AGAINST = {
    **{"known_real": "known against real", "strange_real": "strange against real"},
    "strange_other": "strange against known and real",
}
_SHARES = ("accuracy", "95% interval", "videos", "groups")


@dataclass(frozen=True)
class Table:
    """A titled table of plain texts."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    remark: str = ""
    num_text_columns: int = 1  # leading columns that contain words; the others contain numbers


def percent(value: float | None) -> str:
    """Return a share in percent with one digit, ``-`` if it is undefined."""
    return "-" if value is None else f"{value:.1%}"


def bounds(interval: Sequence[float] | None) -> str:
    """Return an interval in percent, ``-`` if there is none."""
    return "-" if interval is None else f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}%"


def decimal(value: float | None) -> str:
    """Return a number with three digits, ``-`` if it is undefined."""
    return "-" if value is None else f"{value:.3f}"


def quality(crf: int | None) -> str:
    """Return the name of a quality."""
    return "unknown" if crf is None else f"crf {crf}"


def _measured(row: Metrics, key: str) -> tuple[str, str]:
    return percent(row[key]), bounds(row[f"{key}_interval"])


def _shares(row: Metrics) -> tuple[str, ...]:
    return *_measured(row, "accuracy"), str(row["num_videos"]), str(row["num_groups"])


def scope(report: Metrics) -> list[str]:
    """Return what was evaluated, and the remarks on the inputs."""
    return _lines("scope", report=report)


def headline(metrics: Metrics) -> list[str]:
    """Return the main results, one sentence each."""
    return _lines("headline", run=metrics)


def _lines(name: str, **values: Metrics) -> list[str]:
    return _TEMPLATES.get_template(f"{name}.txt.j2").render(values).splitlines()


def _generator_table(metrics: Metrics) -> Table:
    headings = "generator", "recall", "95% interval", "precision", "95% interval", "F1", "AUC", "videos"
    rows = []
    for row in metrics["generators"]:
        recall, precision = (_measured(row, key) for key in ("recall", "precision"))
        others = decimal(row["f1"]), decimal(row["auc"]), str(row["num_videos"])
        rows.append((row["generator"], *recall, *precision, *others))
    remark = (
        "Recall: share of a generator's videos that are attributed to it. Precision: share of the videos "
        "attributed to a generator that it made."
    )
    return Table("By generator", headings, rows, remark)


def _confusion_table(metrics: Metrics) -> Table:
    classes, counts, shares = (metrics["confusion"][key] for key in ("classes", "counts", "row_shares"))
    rows = [
        (name, *(f"{count} ({percent(share)})" for count, share in zip(*row, strict=True)))
        for name, *row in zip(classes, counts, shares, strict=True)
    ]
    headings = ("true \\ attributed", *classes)
    return Table("Confusion matrix", headings, rows, "Videos, and their share of the row.")


def _quality_table(metrics: Metrics) -> Table:
    rows = [(quality(row["crf"]), *_shares(row)) for row in metrics["qualities"]]
    return Table("Accuracy by quality", ("quality", *_SHARES), rows)


def _target_table(metrics: Metrics) -> Table:
    lowest = sorted(metrics["targets"], key=lambda row: row["accuracy"])
    rows = [(visible(row["target_identity"] or "unknown"), *_shares(row)) for row in lowest[:_TARGETS]]
    more = f"; {len(lowest) - _TARGETS} more in metrics.json" if len(lowest) > _TARGETS else ""
    return Table("Accuracy by target identity", ("target", *_SHARES), rows, f"Lowest accuracy first{more}.")


def _calibration_table(metrics: Metrics) -> Table:
    measures = {
        "ece": f"expected calibration error, {NUM_BINS} bins",
        "nll": "negative log likelihood, nats",
        "brier": "Brier score over all generators, 0 to 2",
    }
    rows = [(name, decimal(metrics["calibration"][key])) for key, name in measures.items()]
    return Table("Calibration", ("measure", "value"), rows)


def _verdict_table(metrics: Metrics) -> Table:
    names = "truth", "verdict", "num_videos", "num_right"
    rows = [[str(row[name]) for name in names] for row in metrics["open_set"]["verdicts"]]
    remark = (
        "Known: swapped by a class of the model; strange: by something else. Right: real for a real video, "
        "unknown for a strange one, a prediction set with the generator for a known one."
    )
    return Table("Verdicts", ("truth", "verdict", "videos", "right"), rows, remark if rows else "None.", 2)


def _open_set_table(metrics: Metrics) -> Table:
    found = metrics["open_set"]
    rows = []
    for key, name in _AGAINST.items():
        if part := found[key]:
            videos = f"{part['num_positive']} + {part['num_negative']}"
            rows.append((f"{name}: AUROC", decimal(part["auroc"]), videos))
            rows.append((f"{name}: false alarms at 95% recall", percent(part["false_alarms"]), videos))
    if part := found["coverage"]:
        rows.append(("prediction set contains the truth", percent(part["share"]), str(part["num_videos"])))
    if part := found["family"]:
        rows.append(("family is right (size drawn)", percent(part["accuracy"]), str(part["num_videos"])))
    remark = "Strange videos, real ones or verdicts are missing for the lines that are not here."
    return Table("Real, known and strange videos", ("measure", "value", "videos"), rows, remark)


def _rows_table(metrics: Metrics) -> Table:
    videos = metrics["videos"]
    rows = [
        ("scored: used for the metrics", videos["scored"]),
        ("rejected", videos["rejected"]),
        *((f"- rejected as {visible(code)}", count) for code, count in videos["rejects_by_code"].items()),
        ("excluded: true generator unknown", videos["unknown_generator"]),
        ("excluded: true generator is not a class of the model", videos["no_class"]),
        ("excluded: not in --split", videos["other_split"]),
        ("excluded: not in --crf", videos["other_quality"]),
        ("all rows of the predictions", videos["rows"]),
    ]
    return Table("Where every video went", ("", "videos"), [(kind, str(count)) for kind, count in rows])


def _mistakes_table(metrics: Metrics) -> Table:
    headings = "video", "true", "attributed", "probability", "quality"
    rows = []
    for row in metrics["mistakes"]:
        names = visible(row["video_id"]), row["true_generator"], row["generator"]
        rows.append((*names, decimal(row["probability"]), quality(row["crf"])))
    return Table("Most confident mistakes", headings, rows, "" if rows else "None listed.", 3)


def excluded_table(metrics: Metrics) -> Table:
    """Return the ids of excluded videos, the first few of each kind."""
    videos = metrics["videos"]
    rejects = [
        (row["video_id"], f"{row['reject_code'] or 'unknown'}: {row['reject_detail'] or ''}".rstrip(": "))
        for row in videos["rejected_videos"]
    ]
    unknown = [(name, "") for name in videos["unknown_generator_videos"]]
    others = [(row["video_id"], row["true_generator"]) for row in videos["no_class_videos"]]
    kinds = {"rejected": rejects, "generator unknown": unknown, "not a class": others}
    rows = [
        (visible(name), kind, visible(why)) for kind, named in kinds.items() for name, why in named[:_LISTED]
    ]
    more = sum(map(len, kinds.values())) - len(rows)
    remark = f"{more} more in metrics.json." if more else "" if rows else "None."
    return Table("Videos excluded from the metrics", ("video", "reason", "detail"), rows, remark, 3)


def cross_quality_table(report: Metrics) -> Table:
    """Return the accuracy of each predictions input on each quality."""
    crfs = {row["crf"] for run in report["runs"] for row in run["qualities"]}
    found = sorted(crfs, key=lambda crf: (crf is None, crf))
    rows = []
    for run in report["runs"]:
        by_crf = {row["crf"]: row for row in run["qualities"]}
        shares = [*(by_crf.get(crf) for crf in found), run]
        cells = [f"{percent(row['accuracy'])} ({row['num_videos']})" if row else "-" for row in shares]
        rows.append((visible(run["name"]), *cells))
    remark = "Rows: predictions. Columns: quality of the test videos. In brackets: number of videos."
    return Table("Cross-quality accuracy", ("predictions", *map(quality, found), "all"), rows, remark)


def show(report: Metrics, console: Console) -> None:
    """Print the accuracy of each predictions input, overall, by quality and by generator."""
    for line in scope(report):
        say(console, line)
    for run in report["runs"]:
        console.print(terminal_table(_main_table(run)))
        if run["open_set"]["verdicts"]:
            console.print(terminal_table(_verdict_table(run)))
            console.print(terminal_table(_open_set_table(run)))
        for line in headline(run)[1:]:
            say(console, line)
        kinds = {
            "rejected": "rejected",
            "unknown_generator": "with an unknown generator",
            "no_class": "with a generator that is not a class",
        }
        if excluded := [f"{run['videos'][key]} {kind}" for key, kind in kinds.items() if run["videos"][key]]:
            say(console, f"Excluded from the metrics: {', '.join(excluded)}.")
    if len(report["runs"]) > 1:
        console.print(terminal_table(cross_quality_table(report)))


def _main_table(run: Metrics) -> Table:
    headings = ("", *_SHARES[:3])
    blank = [""] * len(headings)
    qualities = [(quality(row["crf"]), *_shares(row)[:3]) for row in run["qualities"]]
    generators = [
        (row["generator"], *_measured(row, "recall"), str(row["num_videos"])) for row in run["generators"]
    ]
    rows = [("all", *_shares(run)[:3]), blank, *qualities, blank, *generators]
    return Table(visible(run["name"]), headings, rows)


def terminal_table(content: Table) -> rich_table.Table:
    """Return a table for the terminal."""
    table = rich_table.Table(title=escape(content.title), box=SIMPLE_HEAD, collapse_padding=True)
    table.caption = escape(content.remark)
    for index, heading in enumerate(content.headings):
        if index < content.num_text_columns:
            table.add_column(escape(heading), overflow="fold")
        else:
            table.add_column(escape(heading), justify="right", no_wrap=True)
    for row in content.rows:
        table.add_row(*map(escape, row))
    return table


def escape_markdown(text: str) -> str:
    """Return ``text`` so that Markdown shows it as it is, in a cell of a table too."""
    return re.sub(r"([\\`*_\[\]<>|~&$#])", r"\\\1", text)


_TEMPLATES = Environment(
    loader=PackageLoader("dfdm_ray.jobs.evaluate", "."),
    autoescape=select_autoescape(["html.j2"]),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
for _filter in (visible, percent, bounds, decimal, quality, count_of):
    _TEMPLATES.filters[_filter.__name__] = _filter
_TEMPLATES.filters["markdown"] = escape_markdown
_TEMPLATES.globals |= {
    "title": "Evaluation: which generator made these videos?",
    "scope": scope,
    "cross_quality_table": cross_quality_table,
    "headline": headline,
    "tables": (
        *(_verdict_table, _open_set_table, _generator_table, _confusion_table, _quality_table, _target_table),
        *(_calibration_table, _rows_table, _mistakes_table, excluded_table),
    ),
    "notes": _lines("notes"),
}


def markdown(report: Metrics) -> str:
    """Return the report in Markdown."""
    return _TEMPLATES.get_template("report.md.j2").render(report=report) + "\n"


def page(report: Metrics, plots: Sequence[Mapping[str, str]]) -> str:
    """Return the report as one HTML page; ``plots`` has the SVG elements of each run by title."""
    return _TEMPLATES.get_template("report.html.j2").render(report=report, plots=plots) + "\n"


def markdown_table(table: Table) -> str:
    """Return one table of a report in Markdown."""
    return _TEMPLATES.get_template("table.md.j2").render(table=table).rstrip() + "\n"
