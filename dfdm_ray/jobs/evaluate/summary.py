"""All metrics of one predictions table as plain values for JSON; ``None`` marks an undefined value."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dfdm_ray.jobs.evaluate import metrics
from dfdm_ray.jobs.evaluate.cases import FATES, Cases, Row, as_cases
from dfdm_ray.jobs.evaluate.metrics import Array, Indices, Rates, interval, number, rates
from dfdm_ray.jobs.evaluate.open_set import open_set

Metrics = dict[str, Any]


def summarise(
    fates: Mapping[str, Sequence[Row]],
    *,
    name: str,
    classes: Sequence[str],
    num_samples: int,
    seed: int,
    num_mistakes: int,
) -> Metrics:
    """Return the metrics of selected rows, an entry of ``runs`` in ``metrics.json``.

    Each interval rests on ``num_samples`` resamples; ``mistakes`` lists the ``num_mistakes`` most confident.
    A scored row that contradicts itself or the classes raises ``UserError``.
    """
    cases = as_cases(fates["scored"], classes, origin=name)
    by_group = metrics.group_confusions(cases.truth, cases.predicted, cases.groups, len(classes))
    drawn = rates(metrics.resample(by_group, num_samples=num_samples, seed=seed))
    areas = metrics.one_vs_rest_auc(cases.truth, cases.probabilities)
    num_right = int((cases.truth == cases.predicted).sum())
    by_crf, by_target = (
        _breakdown(values, cases, len(classes), num_samples=num_samples, seed=seed)
        for values in (cases.crfs, cases.targets)
    )
    return {
        "name": name,
        **_accuracy(by_group, drawn),
        "groups": "networks" if cases.by_network else "scenes",
        "accuracy_rejected_as_wrong": num_right / (len(cases.truth) + len(fates["rejected"])),
        "macro_f1": number(rates(by_group.sum(axis=0)).macro_f1),
        "macro_f1_interval": _span(interval(drawn.macro_f1, len(by_group))),
        "macro_auc": number(np.nanmean(areas)) if np.isfinite(areas).any() else None,
        "chance": {
            "one_in_k": 1 / len(classes),
            "majority_share": float(np.bincount(cases.truth).max() / len(cases.truth)),
        },
        "generators": _generators(by_group, drawn, areas, classes),
        "confusion": _confusion(by_group.sum(axis=0), classes),
        "qualities": [{"crf": value, **accuracy} for value, accuracy in by_crf],
        "targets": [{"target_identity": value, **accuracy} for value, accuracy in by_target],
        "calibration": metrics.calibration(cases.truth, cases.predicted, cases.probabilities),
        "open_set": open_set(fates, classes),
        "mistakes": _mistakes(cases, classes)[:num_mistakes],
        "videos": _videos(fates, cases.num_ungrouped),
    }


def _span(bounds: Array) -> list[float] | None:
    return None if np.isnan(bounds).any() else [float(bound) for bound in bounds]


def _accuracy(by_group: Indices, drawn: Rates) -> Metrics:
    return {
        "accuracy": float(rates(by_group.sum(axis=0)).accuracy),
        "accuracy_interval": _span(interval(drawn.accuracy, len(by_group))),
        "num_videos": int(by_group.sum()),
        "num_groups": len(by_group),
    }


def _breakdown(
    values: Sequence[Any], cases: Cases, num_classes: int, *, num_samples: int, seed: int
) -> list[tuple[Any, Metrics]]:
    """Return the accuracy of the videos with each value, ``None`` last; ``values`` has one entry per case."""
    rows = []
    for value in sorted(set(values), key=lambda value: (value is None, value)):
        at = [index for index, one in enumerate(values) if one == value]
        part = metrics.group_confusions(cases.truth[at], cases.predicted[at], cases.groups[at], num_classes)
        rows.append(
            (value, _accuracy(part, rates(metrics.resample(part, num_samples=num_samples, seed=seed))))
        )
    return rows


def _generators(by_group: Indices, drawn: Rates, areas: Array, classes: Sequence[str]) -> list[Metrics]:
    whole = by_group.sum(axis=0)
    point = rates(whole)
    recall_spans = interval(drawn.recall, (by_group.sum(axis=2) > 0).sum(axis=0))
    precision_spans = interval(drawn.precision, (by_group.sum(axis=1) > 0).sum(axis=0))
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


def _confusion(counts: Indices, classes: Sequence[str]) -> Metrics:
    shares = metrics.ratio(counts, counts.sum(axis=1, keepdims=True))
    return {
        "classes": list(classes),
        "counts": counts.tolist(),
        "row_shares": [[number(share) for share in row] for row in shares],
    }


def _mistakes(cases: Cases, classes: Sequence[str]) -> list[Metrics]:
    confidence = cases.probabilities.max(axis=1)
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
        for index in worst
    ]


def _videos(fates: Mapping[str, Sequence[Row]], num_ungrouped: int) -> Metrics:
    """Return the count of every kind of row; ``rows`` is the sum of the six counts after it."""
    rejected, unknown, others = (fates[name] for name in ("rejected", "unknown_generator", "no_class"))
    codes = Counter(str(row["reject_code"] or "unknown") for row in rejected)
    facts = ("video_id", "reject_code", "reject_detail", "true_generator", "crf")
    return {
        "rows": sum(map(len, fates.values())),
        **{name: len(fates[name]) for name in FATES},
        "ungrouped": num_ungrouped,
        "rejects_by_code": dict(codes.most_common()),
        "rejected_videos": [{name: row[name] for name in facts} for row in rejected],
        "unknown_generator_videos": [row["video_id"] for row in unknown],
        "no_class_videos": [{name: row[name] for name in ("video_id", "true_generator")} for row in others],
    }
