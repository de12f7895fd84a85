"""Metrics and their bootstrap intervals. ``NaN`` marks an undefined value, such as the recall of no videos.

Rates are computed from confusion matrices with any leading axes, so one function serves the data and all
resamples. The bootstrap draws groups of videos, not videos: videos of one network, or of one scene and one
pair of people, are alike, and intervals from single videos would be too narrow.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

NUM_BINS = 15
"""Bins of the calibration error; 15 as in Guo et al., On Calibration of Modern Neural Networks, 2017."""
_LEAST_PROBABILITY = 1e-12
"""Lower bound of a probability in the log likelihood, which is infinite at 0."""
_LEVEL = 0.95
"""Confidence level of the intervals."""
_Z = 1.96
"""Standard deviations of a 95% interval."""
_DRAWS_AT_ONCE = 4_000_000
"""Numbers held in memory at a time: 32 MB."""

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Rates:
    """Rates of confusion matrices of shape ``(..., K, K)``."""

    accuracy: Array  # (...)
    recall: Array  # (..., K), NaN where a generator made none of the videos
    precision: Array  # (..., K), NaN where no video is attributed to a generator
    f1: Array  # (..., K), NaN where recall is
    macro_f1: Array  # (...), mean over the generators that made any of the videos


def group_confusions(truth: Indices, predicted: Indices, groups: Indices, num_classes: int) -> Indices:
    """Return the confusion matrix of each group, shape ``(G, K, K)``, groups in ascending order.

    Rows are true generators, columns are attributions; ``truth`` and ``predicted`` are class indices.
    """
    found, index = np.unique(groups, return_inverse=True)
    cells = (index * num_classes + truth) * num_classes + predicted
    counts: Indices = np.bincount(cells, minlength=len(found) * num_classes**2)
    return counts.reshape(len(found), num_classes, num_classes)


def rates(confusion: npt.NDArray[np.integer] | Array) -> Rates:
    """Return the rates of confusion matrices of shape ``(..., K, K)``."""
    right = np.diagonal(confusion, axis1=-2, axis2=-1).astype(np.float64)
    made = confusion.sum(axis=-1).astype(np.float64)
    attributed = confusion.sum(axis=-2).astype(np.float64)
    f1 = np.where(made > 0, ratio(2 * right, made + attributed), np.nan)
    return Rates(
        accuracy=ratio(right.sum(axis=-1), made.sum(axis=-1)),
        recall=ratio(right, made),
        precision=ratio(right, attributed),
        f1=f1,
        macro_f1=ratio(np.nansum(f1, axis=-1), (made > 0).sum(axis=-1)),
    )


def ratio(part: npt.NDArray[Any], whole: npt.NDArray[Any]) -> Array:
    """Return ``part / whole``, NaN where ``whole`` is 0."""
    shape = np.broadcast_shapes(np.shape(part), np.shape(whole))
    quotient: Array = np.divide(part, whole, out=np.full(shape, np.nan), where=whole > 0)
    return quotient


def number(value: Any) -> float | None:
    """Return ``value`` as JSON has it: ``None`` for NaN."""
    return None if math.isnan(value) else float(value)


def one_vs_rest_auc(truth: Indices, probabilities: Array) -> Array:
    """Return the area under the ROC curve of each class against all others, shape ``(K,)``; ties count half.

    The area of a class with no videos, or with all of them, is NaN. The others follow from the mean rank of
    the class, as in the test of Mann and Whitney.
    """
    areas = np.full(probabilities.shape[1], np.nan)
    for index, is_class in enumerate(truth == np.arange(len(areas))[:, None]):
        num_class, num_others = is_class.sum(), (~is_class).sum()
        if num_class and num_others:
            _, place, count = np.unique(probabilities[:, index], return_inverse=True, return_counts=True)
            rank = (np.cumsum(count) - (count - 1) / 2)[place]  # from 1; equal ones share their mean
            areas[index] = (rank[is_class].mean() - (num_class + 1) / 2) / num_others
    return areas


def calibration(truth: Indices, predicted: Indices, probabilities: Array) -> dict[str, Any]:
    """Return how well the probabilities of shape ``(N, K)`` fit the truth, as plain values.

    The error is computed over the bins of the reliability diagram. torchmetrics puts probabilities of exactly
    1, which are common in float32, into a bin of their own.

    Returns:
        ``ece``, the expected calibration error, 0..1: mean over videos of |accuracy - confidence| of their
        bin; ``nll``, the mean negative log likelihood of the true generator in nats; ``brier``, the mean over
        videos of the summed squared error of all K probabilities, 0..2; ``bins``, ``NUM_BINS`` half-open
        bins, the last of which includes 1.
    """
    rows = np.arange(len(truth))
    confidence = probabilities[rows, predicted]
    bins = np.minimum((confidence * NUM_BINS).astype(np.int64), NUM_BINS - 1)
    count = np.bincount(bins, minlength=NUM_BINS)
    sum_confidence = np.bincount(bins, confidence, NUM_BINS).astype(np.float64)
    sum_right = np.bincount(bins, truth == predicted, NUM_BINS).astype(np.float64)
    one_hot = np.eye(probabilities.shape[1])[truth]
    return {
        "ece": float(np.abs(sum_right - sum_confidence).sum() / len(truth)),
        "nll": float(-np.log(np.maximum(probabilities[rows, truth], _LEAST_PROBABILITY)).mean()),
        "brier": float(((probabilities - one_hot) ** 2).sum(axis=1).mean()),
        "bins": [
            {
                "low": index / NUM_BINS,
                "high": (index + 1) / NUM_BINS,
                "num_videos": int(count[index]),
                "confidence": number(ratio(sum_confidence, count)[index]),
                "accuracy": number(ratio(sum_right, count)[index]),
            }
            for index in range(NUM_BINS)
        ],
    }


def resample(confusions: Indices, *, num_samples: int, seed: int) -> Array:
    """Draw ``G`` groups with replacement, ``num_samples`` times, and sum their confusion matrices.

    ``confusions`` has the shape ``(G, K, K)``, the result ``(num_samples, K, K)``.
    """
    num_groups, random = len(confusions), np.random.default_rng(seed)
    flat = confusions.reshape(num_groups, -1).astype(np.float64)
    share = np.full(num_groups, 1 / num_groups)
    at_once = max(1, _DRAWS_AT_ONCE // num_groups)
    sums = [
        random.multinomial(num_groups, share, size=min(at_once, num_samples - start)) @ flat
        for start in range(0, num_samples, at_once)
    ]
    return np.concatenate(sums).reshape(num_samples, *confusions.shape[1:])


def interval(values: Array, num_groups: npt.ArrayLike) -> Array:
    """Return low and high of the 95% percentile interval, shape ``(2, ...)``, NaN with fewer than two groups.

    Args:
        values: One value per resample, shape ``(B, ...)``; undefined ones (NaN) are ignored.
        num_groups: Number of groups that contribute to the value, shape ``(...)``.
    """
    tail = 50 * (1 - _LEVEL)
    defined = np.isfinite(values).any(axis=0) & (np.asarray(num_groups) > 1)
    safe = np.where(defined, values, 0.0)
    return np.where(defined, np.nanpercentile(safe, [tail, 100 - tail], axis=0), np.nan)


def share(right: Sequence[bool], groups: Sequence[object]) -> tuple[float, float, float]:
    """Return a share and its 95% interval over groups of alike videos: a bootstrap.

    Where all groups agree, which a bootstrap takes for certainty, it is Wilson's interval for one answer of
    each group.
    """
    index = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    truth = np.zeros(len(right), np.int64)
    by_group = group_confusions(
        truth, 1 - np.array(right, np.int64), np.array([index[group] for group in groups], np.int64), 2
    )
    shares, number = rates(by_group).accuracy, len(by_group)
    found = float(np.mean(right))
    if np.ptp(shares) > 0:
        low, high = interval(rates(resample(by_group, num_samples=2000, seed=0)).accuracy, number)
        return found, float(low), float(high)
    middle = (found + _Z**2 / (2 * number)) / (1 + _Z**2 / number)
    half = _Z / (1 + _Z**2 / number) * (found * (1 - found) / number + _Z**2 / (4 * number**2)) ** 0.5
    return found, max(0.0, middle - half), min(1.0, middle + half)
