"""Metrics of verdicts: real against swapped, unknown against known, and how often a prediction set holds.

A video is *real*, *known* (swapped by a class of the model) or *strange* (swapped by something else).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dfdm_ray.jobs.evaluate.cases import Row
from dfdm_ray.jobs.evaluate.metrics import Array, one_vs_rest_auc
from dfdm_ray.labels import FAMILY, REAL

RECALL = 0.95
"""Share of the positives that is found where false alarms are counted."""
_KINDS = ("real", "known", "strange")


def open_set(fates: Mapping[str, Sequence[Row]], classes: Sequence[str]) -> dict[str, Any]:
    """Return the metrics of the verdicts; ``None`` where the videos do not suffice.

    ``verdicts`` counts them for each kind of truth. ``known_real`` and ``strange_real`` (how well the
    probability of real tells these from real videos) and ``strange_other`` (the unknown score) each have
    ``auroc`` and ``false_alarms``: the share of wrong alarms where 95 % of the former are found.
    ``coverage`` is the share of prediction sets that contain the truth, ``family`` the accuracy by family.
    """
    rows = [*fates["scored"], *(row for row in fates["no_class"] if row["status"] == "scored")]
    kinds = [_kind(row["true_generator"], classes) for row in rows]
    return {
        "verdicts": _verdicts(rows, kinds),
        "known_real": _against_real(rows, kinds, "known", classes),
        "strange_real": _against_real(rows, kinds, "strange", classes),
        "strange_other": _against_others(rows, kinds),
        "coverage": _coverage(rows, classes),
        "family": _family(rows),
    }


def _kind(generator: str, classes: Sequence[str]) -> str:
    if generator == REAL:
        return REAL
    return "known" if generator in classes else "strange"


def _verdicts(rows: Sequence[Row], kinds: Sequence[str]) -> list[dict[str, Any]]:
    """Return the number of videos of each kind with each verdict, and how many of them are right.

    A verdict is right if it is ``real`` for a real video, ``unknown`` for a strange one, and names the
    generator of a known one, alone or among others. ``inconclusive`` is neither right nor wrong.
    """
    counts: Counter[tuple[str, str]] = Counter()
    right: Counter[tuple[str, str]] = Counter()
    for row, kind in zip(rows, kinds, strict=True):
        verdict = row["verdict"]
        if verdict is not None:
            counts[kind, verdict] += 1
            right[kind, verdict] += _is_right(row, kind)
    return [
        {"truth": kind, "verdict": verdict, "num_videos": number, "num_right": right[kind, verdict]}
        for (kind, verdict), number in sorted(counts.items(), key=lambda one: (_KINDS.index(one[0][0]), one))
    ]


def _is_right(row: Row, kind: str) -> bool:
    verdict = row["verdict"]
    if kind == "known":
        return verdict in ("attributed", "one_of") and row["true_generator"] in row["prediction_set"]
    return bool(verdict == {"real": "real", "strange": "unknown"}[kind])


def _against_real(
    rows: Sequence[Row], kinds: Sequence[str], kind: str, classes: Sequence[str]
) -> dict[str, Any] | None:
    if REAL not in classes:
        return None
    both = [(row, one) for row, one in zip(rows, kinds, strict=True) if one in (kind, REAL)]
    fake = np.array([1 - row["probabilities"][classes.index(REAL)] for row, _ in both])
    return _separation(fake, np.array([one == kind for _, one in both]))


def _against_others(rows: Sequence[Row], kinds: Sequence[str]) -> dict[str, Any] | None:
    scores = [row["unknown_score"] for row in rows]
    if any(score is None for score in scores):
        return None
    return _separation(np.array(scores), np.array([kind == "strange" for kind in kinds]))


def _separation(scores: Array, positive: Any) -> dict[str, Any] | None:
    """Return how well high ``scores`` tell the ``positive`` videos from the others."""
    num_positive = int(positive.sum())
    if not 0 < num_positive < len(positive):
        return None
    areas = one_vs_rest_auc(positive.astype(np.int64), np.stack([-scores, scores], axis=1))
    threshold = np.quantile(scores[positive], 1 - RECALL, method="lower")
    return {
        "auroc": float(areas[1]),
        "false_alarms": float((scores[~positive] >= threshold).mean()),
        "num_positive": num_positive,
        "num_negative": len(positive) - num_positive,
    }


def _coverage(rows: Sequence[Row], classes: Sequence[str]) -> dict[str, Any] | None:
    found = [
        row["true_generator"] in row["prediction_set"]
        for row in rows
        if row["p_values"] and row["true_generator"] in classes
    ]
    return {"share": float(np.mean(found)), "num_videos": len(found)} if found else None


def _family(rows: Sequence[Row]) -> dict[str, Any] | None:
    found = [
        FAMILY.get(row["generator"]) == FAMILY[row["true_generator"]]
        for row in rows
        if row["true_generator"] in FAMILY
    ]
    return {"accuracy": float(np.mean(found)), "num_videos": len(found)} if found else None
