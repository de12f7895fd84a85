"""All metrics of one predictions table as plain values, fit for JSON: ``None`` is what is not defined."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dfdm_ray.jobs.evaluate.bootstrap import interval, resample
from dfdm_ray.jobs.evaluate.cases import Cases, Selection
from dfdm_ray.jobs.evaluate.metrics import (
    NUM_BINS,
    Array,
    Indices,
    Rates,
    calibration,
    group_confusions,
    one_vs_rest_auc,
    rates,
)

Metrics = dict[str, Any]


def number(value: Any) -> float | None:
    """Return ``value`` as a float, ``None`` for NaN."""
    return None if math.isnan(value) else float(value)


def _span(bounds: Array) -> list[float] | None:
    return None if np.isnan(bounds).any() else [float(bound) for bound in bounds]


def summarise(
    selection: Selection, *, name: str, classes: Sequence[str], num_samples: int, seed: int, num_mistakes: int
) -> Metrics:
    """Measure the cases of ``selection``.

    Args:
        selection: What counts.
        name: What the predictions are called.
        classes: In class order.
        num_samples: Resamples behind each interval.
        seed: Of the resamples.
        num_mistakes: How many of the most confident mistakes are listed.
    """
    cases = selection.cases
    by_group = group_confusions(cases.truth, cases.predicted, cases.groups, len(classes))

    def draw(confusions: Indices) -> Rates:
        return rates(resample(confusions, num_samples=num_samples, seed=seed))

    drawn = draw(by_group)
    areas = one_vs_rest_auc(cases.truth, cases.probabilities)
    return {
        "name": name,
        **_accuracy(by_group, drawn),
        "accuracy_rejected_as_wrong": _with_rejected(selection),
        "macro_f1": number(rates(by_group.sum(axis=0)).macro_f1),
        "macro_f1_interval": _span(interval(drawn.macro_f1, len(by_group))),
        "macro_auc": number(np.nanmean(areas)) if np.isfinite(areas).any() else None,
        "chance": {"one_in_k": 1 / len(classes), "majority_share": _majority_share(cases.truth)},
        "generators": _generators(by_group, drawn, areas, classes),
        "confusion": _confusion(by_group, classes),
        "qualities": _breakdown("crf", cases.crfs, cases, len(classes), draw),
        "targets": _breakdown("target_identity", cases.targets, cases, len(classes), draw),
        "calibration": _calibration(cases),
        "mistakes": _mistakes(cases, classes, num_mistakes),
        "videos": _videos(selection),
    }


def _with_rejected(selection: Selection) -> float:
    """Return the accuracy with rejected videos counted as wrong."""
    cases = selection.cases
    return int((cases.truth == cases.predicted).sum()) / (len(cases.truth) + len(selection.rejected))


def _majority_share(truth: Indices) -> float:
    return float(np.bincount(truth).max() / len(truth))


def _accuracy(by_group: Indices, drawn: Rates) -> Metrics:
    return {
        "accuracy": float(rates(by_group.sum(axis=0)).accuracy),
        "accuracy_interval": _span(interval(drawn.accuracy, len(by_group))),
        "num_videos": int(by_group.sum()),
        "num_groups": len(by_group),
    }


def _generators(by_group: Indices, drawn: Rates, areas: Array, classes: Sequence[str]) -> list[Metrics]:
    whole = by_group.sum(axis=0)
    point = rates(whole)
    made, attributed = by_group.sum(axis=2), by_group.sum(axis=1)
    recall_spans = interval(drawn.recall, (made > 0).sum(axis=0))
    precision_spans = interval(drawn.precision, (attributed > 0).sum(axis=0))
    return [
        {
            "generator": name,
            "num_videos": int(whole[index].sum()),
            "num_attributed": int(whole[:, index].sum()),
            "recall": number(point.recall[index]),
            "recall_interval": _span(recall_spans[:, index]),
            "precision": number(point.precision[index]),
            "precision_interval": _span(precision_spans[:, index]),
            "f1": number(point.f1[index]),
            "auc": number(areas[index]),
        }
        for index, name in enumerate(classes)
    ]


def _confusion(by_group: Indices, classes: Sequence[str]) -> Metrics:
    counts = by_group.sum(axis=0)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.full(counts.shape, np.nan), where=totals > 0)
    return {
        "classes": list(classes),
        "counts": counts.tolist(),
        "row_shares": [[number(share) for share in row] for row in shares],
    }


def _breakdown(
    key: str, values: Sequence[Any], cases: Cases, num_classes: int, draw: Callable[[Indices], Rates]
) -> list[Metrics]:
    """Return the accuracy of the videos with each of ``values``, one for each case; ``None`` comes last."""
    rows = []
    for value in sorted(set(values), key=lambda value: (value is None, value)):
        chosen = [index for index, one in enumerate(values) if one == value]
        part = group_confusions(
            cases.truth[chosen], cases.predicted[chosen], cases.groups[chosen], num_classes
        )
        rows.append({key: value, **_accuracy(part, draw(part))})
    return rows


def _calibration(cases: Cases) -> Metrics:
    fit = calibration(cases.truth, cases.predicted, cases.probabilities)
    return {
        "ece": fit.ece,
        "nll": fit.nll,
        "brier": fit.brier,
        "bins": [
            {
                "low": index / NUM_BINS,
                "high": (index + 1) / NUM_BINS,
                "num_videos": int(fit.count[index]),
                "confidence": number(fit.confidence[index]),
                "accuracy": number(fit.accuracy[index]),
            }
            for index in range(NUM_BINS)
        ],
    }


def _mistakes(cases: Cases, classes: Sequence[str], limit: int) -> list[Metrics]:
    confidence = cases.probabilities[np.arange(len(cases.truth)), cases.predicted]
    wrong = np.flatnonzero(cases.truth != cases.predicted)
    worst = sorted(wrong.tolist(), key=lambda index: (-confidence[index], cases.video_ids[index]))
    return [
        {
            "video_id": cases.video_ids[index],
            "true_generator": classes[cases.truth[index]],
            "generator": classes[cases.predicted[index]],
            "probability": float(confidence[index]),
            "crf": cases.crfs[index],
        }
        for index in worst[:limit]
    ]


def _videos(selection: Selection) -> Metrics:
    """Return where every row went; ``rows`` is the sum of the numbers below it."""
    codes = Counter(str(row["reject_code"] or "unknown") for row in selection.rejected)
    return {
        "rows": selection.num_rows,
        "scored": len(selection.cases.truth),
        "rejected": len(selection.rejected),
        "unknown_generator": len(selection.unknown),
        "no_class": len(selection.other),
        "other_split": selection.num_other_split,
        "other_quality": selection.num_other_quality,
        "ungrouped": selection.cases.num_ungrouped,
        "rejects_by_code": dict(codes.most_common()),
        "rejected_videos": [
            {
                name: row[name]
                for name in ("video_id", "reject_code", "reject_detail", "true_generator", "crf")
            }
            for row in selection.rejected
        ],
        "unknown_generator_videos": list(selection.unknown),
        "no_class_videos": [{"video_id": name, "true_generator": kind} for name, kind in selection.other],
    }
