"""The end of the demo: verdicts by kind of video, accuracy, durations, and what to do next."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from dfdm_ray.io.terminal import say
from dfdm_ray.jobs.demo.splits import ORIGINALS, PASTED, TEST
from dfdm_ray.jobs.demo.steps import time_text
from dfdm_ray.jobs.evaluate.metrics import share
from dfdm_ray.labels import REAL
from dfdm_ray.schemas import REJECTED

Row = dict[str, Any]

_NO_FACE = "no_face.mp4"
_KINDS = {
    "known": "known network",
    "unseen": "unseen network",
    "real_known": "real, known people",
    "real_unseen": "real, unseen",
    "original": "real, originals",
    "other": "other method",
    "no_face": "no face",
}
_VERDICTS = ("attributed", "one_of", "real", "unknown", "inconclusive", REJECTED)


def kind_of(row: Mapping[str, Any]) -> str:
    """Return the kind of a row of predictions, a key of the table of verdicts."""
    if row["video_id"].endswith(_NO_FACE):
        return "no_face"
    if row["split"] in (ORIGINALS, PASTED):
        return "original" if row["split"] == ORIGINALS else "other"
    known = row["split"] == TEST
    if row["true_generator"] == REAL:
        return "real_known" if known else "real_unseen"
    return "known" if known else "unseen"


def verdict_of(row: Mapping[str, Any]) -> str:
    """Return the verdict, or ``rejected``."""
    return REJECTED if row["status"] == REJECTED else str(row["verdict"])


def is_right(row: Mapping[str, Any]) -> bool:
    """Whether the verdict is true: it names the generator, alone or among several, or real, or unknown.

    A video without a face is right if it is rejected; all others are wrong then.
    """
    verdict, kind = verdict_of(row), kind_of(row)
    if kind in ("known", "unseen"):
        return verdict in ("attributed", "one_of") and row["true_generator"] in row["prediction_set"]
    return verdict == {"other": "unknown", "no_face": REJECTED}.get(kind, REAL)


def measured(predictions: pa.Table) -> dict[str, Any]:
    """Return verdicts by kind, and accuracy of the attribution alone, as plain values for JSON."""
    rows: list[Row] = predictions.to_pylist()
    kinds: dict[str, list[Row]] = {kind: [] for kind in _KINDS}
    for row in rows:
        kinds[kind_of(row)].append(row)
    verdicts = {
        kind: {
            "videos": len(there),
            "right": share([*map(is_right, there)], [*map(_group, there)]),
            "verdicts": Counter(map(verdict_of, there)),
        }
        for kind, there in kinds.items()
        if there
    }
    attributions = []
    for kind in ("known", "unseen"):
        for crf in sorted({row["crf"] for row in kinds[kind]}):
            there = [row for row in kinds[kind] if row["crf"] == crf and row["status"] != REJECTED]
            right = [row["generator"] == row["true_generator"] for row in there]
            attributions.append((kind, crf, len(there), share(right, [*map(_group, there)])))
    swaps = [*kinds["known"], *kinds["unseen"]]
    return {
        "kinds": verdicts,
        "attributions": attributions,
        "classes": len(next(row["probabilities"] for row in rows if row["probabilities"])),
        "swaps": len(swaps),
        "rejected": sum(row["status"] == REJECTED for row in swaps),
    }


def _group(row: Row) -> object:
    """Return what alike videos share: target, source and scene."""
    scene = (row["target_identity"], row["source_identity"], row["scene"])
    return scene if row["scene"] else row["video_id"]


def _percent(found: Sequence[float]) -> tuple[str, str]:
    return f"{found[0]:.0%}", f"{found[1]:.0%} to {found[2]:.0%}"


def show_ending(facts: Mapping[str, Any], console: Console) -> None:
    """Print what the demo found, in lines of at most 80 characters.

    Args:
        facts: Result of :func:`measured`, ``seconds`` by step, ``total_s``, and paths.
    """
    table = Table(title="Verdicts", box=SIMPLE_HEAD)
    for heading in ("truth", "videos", "right", "95% interval", "verdicts"):
        table.add_column(heading, justify="right" if heading in ("videos", "right") else "left")
    for kind, one in facts["kinds"].items():
        counts = ", ".join(f"{name} {one['verdicts'][name]}" for name in _VERDICTS if name in one["verdicts"])
        table.add_row(_KINDS[kind], str(one["videos"]), *_percent(one["right"]), counts)
    console.print(table)
    say(console, "right: names the generator, alone or with others; or real, unknown, rejected")
    say(console, "known: other scenes of the training; unseen: no network or person of it")
    say(console, "Attribution alone, the most probable of all classes:")
    for kind, crf, number, found in facts["attributions"]:
        right, span = _percent(found)
        say(console, f"  {_KINDS[kind]}, crf {crf}: {right} of {number} (95%: {span})")
    say(
        console,
        f"  chance: {1 / facts['classes']:.0%}; rejected: {facts['rejected']} of {facts['swaps']} swaps",
    )
    times = ", ".join(f"{name} {time_text(seconds)}" for name, seconds in facts["seconds"].items())
    say(console, f"Time: {time_text(facts['total_s'])} ({times})")
    for what in ("contact sheet", "report page", "triage page", "measures"):
        say(console, f"{what}: {facts['paths'][what]}")
    say(console, "Next, your own videos:", "bold")
    say(console, f"  {facts['next']}")
    say(
        console,
        "The model knows the networks of two people and one reference set of theirs. Its answers on other "
        "people show how the tool works, not who made a video.",
    )
