"""The words of the report: what Markdown, the page and the terminal say, written once, as plain text.

Nothing is escaped here; whoever prints a text must do that. Control characters are already made visible.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dfdm_ray.io.terminal import visible
from dfdm_ray.jobs.evaluate.metrics import NUM_BINS
from dfdm_ray.jobs.evaluate.wording import bounds, count_of, decimal, decimals, percent, quality

_LISTED = 20
"""Videos that a report names of each kind that is left out; all stand in metrics.json."""
_TARGETS = 40

TITLE = "Which generator made these videos? Evaluation"
FOOTNOTE = (
    "For orientation: the authors of DFDM report an overall accuracy of over 70% on their higher-quality "
    "videos (Jia, Li, Lyu, ICIP 2022, abstract; arXiv 2202.12951). Numbers compare with theirs only under "
    "the same data and protocol."
)
INTERVALS = (
    "Intervals are 95% percentile bootstrap intervals over groups of videos with the same target, source "
    "and scene, which are near copies of each other. With fewer than two groups there is none. One of no "
    "width means that all groups agree, not that the value is certain."
)

Metrics = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Table:
    """A titled table of plain texts."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    num_text_columns: int = 1
    """So many first columns hold words; the others hold numbers."""
    remark: str = ""


def headline(metrics: Metrics) -> list[str]:
    """Return the main result, a sentence each."""
    videos, groups = metrics["num_videos"], metrics["num_groups"]
    span = metrics["accuracy_interval"]
    interval = f"95% interval {bounds(span)}" if span else "no interval, as there is only one group"
    chance, counts = metrics["chance"], metrics["videos"]
    lines = [
        f"Accuracy {percent(metrics['accuracy'])} ({interval}) over {count_of(videos, 'scored video')} in "
        f"{count_of(groups, 'group')}.",
        f"With rejected videos counted as wrong: {percent(metrics['accuracy_rejected_as_wrong'])} over "
        f"{count_of(videos + counts['rejected'], 'video')}.",
        f"Chance: {percent(chance['one_in_k'])} by guessing, {percent(chance['majority_share'])} by always "
        "naming the most frequent generator.",
        f"Macro F1 {decimal(metrics['macro_f1'])} ({decimals(metrics['macro_f1_interval'])}), macro "
        f"one-vs-rest AUC {decimal(metrics['macro_auc'])}; both over the generators that occur.",
    ]
    if counts["ungrouped"]:
        lines.append(
            f"Neither target, source nor scene is known of {count_of(counts['ungrouped'], 'video')}; each is "
            "taken as a group of its own, which makes intervals too narrow if they share material."
        )
    return lines


def key_figures(metrics: Metrics) -> list[tuple[str, str]]:
    """Return the few numbers to see first, each with what it is."""
    span = metrics["accuracy_interval"]
    return [
        (percent(metrics["accuracy"]), f"accuracy, {bounds(span)}" if span else "accuracy, no interval"),
        (percent(metrics["chance"]["one_in_k"]), "by guessing"),
        (decimal(metrics["macro_f1"]), "macro F1"),
        (decimal(metrics["macro_auc"]), "macro AUC"),
        (str(metrics["num_videos"]), f"videos in {count_of(metrics['num_groups'], 'group')}"),
        (str(metrics["videos"]["rejected"]), "rejected"),
    ]


def quality_table(metrics: Metrics) -> Table:
    """Return accuracy by quality."""
    return Table(
        title="Accuracy by quality",
        headings=("quality", "accuracy", "95% interval", "videos", "groups"),
        rows=[(quality(row["crf"]), *_accuracy_cells(row)) for row in metrics["qualities"]],
    )


def _accuracy_cells(row: Metrics) -> tuple[str, ...]:
    return (
        percent(row["accuracy"]),
        bounds(row["accuracy_interval"]),
        str(row["num_videos"]),
        str(row["num_groups"]),
    )


def generator_table(metrics: Metrics) -> Table:
    """Return recall, precision, F1 and AUC of each generator."""
    return Table(
        title="By generator",
        headings=(
            "generator",
            "recall",
            "95% interval",
            "precision",
            "95% interval",
            "F1",
            "AUC",
            "videos",
        ),
        rows=[
            (
                row["generator"],
                percent(row["recall"]),
                bounds(row["recall_interval"]),
                percent(row["precision"]),
                bounds(row["precision_interval"]),
                decimal(row["f1"]),
                decimal(row["auc"]),
                str(row["num_videos"]),
            )
            for row in metrics["generators"]
        ],
        remark="Recall: share of a generator's videos that are attributed to it. Precision: share of the "
        "videos attributed to a generator that are its own.",
    )


def confusion_table(metrics: Metrics) -> Table:
    """Return counts and row shares of the confusion matrix."""
    confusion = metrics["confusion"]
    classes = confusion["classes"]
    return Table(
        title="Confusion matrix",
        headings=("true \\ attributed", *classes),
        rows=[
            (name, *(f"{count} ({percent(share)})" for count, share in zip(counts, shares, strict=True)))
            for name, counts, shares in zip(
                classes, confusion["counts"], confusion["row_shares"], strict=True
            )
        ],
        remark="Videos, and their share of the row.",
    )


def target_table(metrics: Metrics) -> Table:
    """Return accuracy by target identity, the lowest first."""
    rows = sorted(metrics["targets"], key=lambda row: row["accuracy"])
    more = len(rows) - _TARGETS
    return Table(
        title="Accuracy by target identity",
        headings=("target", "accuracy", "95% interval", "videos", "groups"),
        rows=[(_name(row["target_identity"]), *_accuracy_cells(row)) for row in rows[:_TARGETS]],
        remark=f"The lowest first; {more} more in metrics.json." if more > 0 else "The lowest first.",
    )


def _name(value: str | None) -> str:
    return "unknown" if value is None else visible(value)


def calibration_table(metrics: Metrics) -> Table:
    """Return how far probabilities can be taken at their word."""
    fit = metrics["calibration"]
    return Table(
        title="Calibration",
        headings=("measure", "value"),
        rows=[
            (f"expected calibration error, {NUM_BINS} bins", decimal(fit["ece"])),
            ("negative log likelihood, nats", decimal(fit["nll"])),
            ("Brier score over all generators, 0 to 2", decimal(fit["brier"])),
        ],
    )


def mistakes_table(metrics: Metrics) -> Table:
    """Return the mistakes with the highest probability."""
    rows = metrics["mistakes"]
    return Table(
        title="Most confident mistakes",
        headings=("video", "true", "attributed", "probability", "quality"),
        rows=[
            (
                visible(row["video_id"]),
                row["true_generator"],
                row["generator"],
                decimal(row["probability"]),
                quality(row["crf"]),
            )
            for row in rows
        ],
        num_text_columns=3,
        remark="" if rows else "None is listed.",
    )


def rows_table(metrics: Metrics) -> Table:
    """Return where every row of the predictions went."""
    videos = metrics["videos"]
    kinds = (
        ("scored: the metrics are over these", videos["scored"]),
        ("rejected", videos["rejected"]),
        *((f"- rejected as {visible(code)}", count) for code, count in videos["rejects_by_code"].items()),
        ("left out: true generator unknown", videos["unknown_generator"]),
        ("left out: true generator is no class of the model", videos["no_class"]),
        ("left out: not in --split", videos["other_split"]),
        ("left out: not of --crf", videos["other_quality"]),
        ("rows of the predictions", videos["rows"]),
    )
    return Table(
        title="Where every video went",
        headings=("", "videos"),
        rows=[(kind, str(count)) for kind, count in kinds],
    )


def left_out_table(metrics: Metrics) -> Table:
    """Return the names of videos without part in the metrics, of each kind the first few."""
    videos = metrics["videos"]
    kinds = {
        "rejected": [(row["video_id"], _reason(row)) for row in videos["rejected_videos"]],
        "generator unknown": [(name, "") for name in videos["unknown_generator_videos"]],
        "no class": [(row["video_id"], row["true_generator"]) for row in videos["no_class_videos"]],
    }
    rows = [
        (visible(name), kind, visible(why)) for kind, named in kinds.items() for name, why in named[:_LISTED]
    ]
    more = sum(map(len, kinds.values())) - len(rows)
    remark = f"{more} more in metrics.json." if more else "" if rows else "None."
    return Table(
        title="Videos without part in the metrics",
        headings=("video", "kind", "why"),
        rows=rows,
        num_text_columns=3,
        remark=remark,
    )


def _reason(row: Metrics) -> str:
    return f"{row['reject_code'] or 'unknown'}: {row['reject_detail'] or ''}".rstrip(": ")


def cross_quality_table(report: Metrics) -> Table:
    """Return accuracy of every predictions input on every quality."""
    found = sorted({row["crf"] for run in report["runs"] for row in run["qualities"]}, key=_unknown_last)
    rows = []
    for run in report["runs"]:
        by_crf = {row["crf"]: f"{percent(row['accuracy'])} ({row['num_videos']})" for row in run["qualities"]}
        rows.append(
            (
                visible(run["name"]),
                *(by_crf.get(crf, "-") for crf in found),
                f"{percent(run['accuracy'])} ({run['num_videos']})",
            )
        )
    return Table(
        title="Cross-quality accuracy",
        headings=("predictions", *map(quality, found), "all"),
        rows=rows,
        remark="Rows: predictions; columns: the quality they were tested on; in brackets how many videos.",
    )


def _unknown_last(crf: int | None) -> tuple[bool, int]:
    return crf is None, crf or 0


def scope(report: Metrics) -> list[str]:
    """Say what was evaluated: split, qualities, seed, and remarks on the inputs."""
    split = f"split {report['split']}" if report["split"] else "all splits"
    crfs = ", ".join(map(quality, report["crf"])) or "all qualities"
    lines = [
        f"Videos of {split}, {crfs}, whose true generator is known; {report['bootstrap']} resamples, "
        f"seed {report['seed']}."
    ]
    return [visible(line) for line in [*lines, *report["remarks"]]]


def all_tables(metrics: Metrics) -> list[Table]:
    """Return every table of one predictions input, in the order of the report."""
    return [
        generator_table(metrics),
        confusion_table(metrics),
        quality_table(metrics),
        target_table(metrics),
        calibration_table(metrics),
        rows_table(metrics),
        mistakes_table(metrics),
        left_out_table(metrics),
    ]
