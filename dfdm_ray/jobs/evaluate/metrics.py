"""The arithmetic of the metrics. ``NaN`` stands for what is not defined, such as the recall of no videos.

Rates come from confusion matrices with any leading axes, so that one function serves the data and all
of its resamples.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torchmetrics.functional.classification import binary_auroc

NUM_BINS = 15
"""Bins of the calibration error; 15 as in Guo et al., On Calibration of Modern Neural Networks, 2017."""
_LEAST_PROBABILITY = 1e-12
"""Below this a probability counts as this in the log likelihood, which is infinite at 0."""

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Rates:
    """What follows from confusion matrices of shape ``(..., K, K)``."""

    accuracy: Array
    """Shape ``(...)``."""
    recall: Array
    """Shape ``(..., K)``; NaN where a generator made none of the videos."""
    precision: Array
    """Shape ``(..., K)``; NaN where no video is attributed to a generator."""
    f1: Array
    """Shape ``(..., K)``; NaN where recall is."""
    macro_f1: Array
    """Shape ``(...)``: mean over the generators that made any of the videos."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibration:
    """How far probabilities can be taken at their word."""

    ece: float
    """Expected calibration error, 0..1: mean over videos of |accuracy - confidence| of their bins."""
    nll: float
    """Mean negative log likelihood of the true generator, nats."""
    brier: float
    """Mean over videos of the summed squared error of all K probabilities, 0..2."""
    count: Indices
    """Videos in each bin, shape ``(NUM_BINS,)``; bin ``b`` is ``[b, b + 1) / NUM_BINS``, the last with 1."""
    confidence: Array
    """Mean probability of the attribution in each bin, NaN in empty ones."""
    accuracy: Array
    """Share of right attributions in each bin, NaN in empty ones."""


def group_confusions(truth: Indices, predicted: Indices, groups: Indices, num_classes: int) -> Indices:
    """Return the confusion matrix of each group.

    Args:
        truth: Class indices, shape ``(N,)``.
        predicted: Class indices, shape ``(N,)``.
        groups: Group numbers, shape ``(N,)``; only those that occur get a matrix, in ascending order.
        num_classes: ``K``.

    Returns:
        Counts, shape ``(G, K, K)``: true generator in rows, attribution in columns.
    """
    found, index = np.unique(groups, return_inverse=True)
    cells = (index * num_classes + truth) * num_classes + predicted
    counts: Indices = np.bincount(cells, minlength=len(found) * num_classes**2)
    return counts.reshape(len(found), num_classes, num_classes)


def rates(confusion: npt.NDArray[np.integer] | Array) -> Rates:
    """Return accuracy, recall, precision and F1 of confusion matrices of shape ``(..., K, K)``."""
    right = np.diagonal(confusion, axis1=-2, axis2=-1).astype(np.float64)
    made = confusion.sum(axis=-1).astype(np.float64)
    attributed = confusion.sum(axis=-2).astype(np.float64)
    f1 = np.where(made > 0, _ratio(2 * right, made + attributed), np.nan)
    return Rates(
        accuracy=_ratio(right.sum(axis=-1), made.sum(axis=-1)),
        recall=_ratio(right, made),
        precision=_ratio(right, attributed),
        f1=f1,
        macro_f1=_ratio(np.nansum(f1, axis=-1), (made > 0).sum(axis=-1).astype(np.float64)),
    )


def _ratio(part: Array, whole: Array) -> Array:
    ratio: Array = np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)
    return ratio


def one_vs_rest_auc(truth: Indices, probabilities: Array) -> Array:
    """Return the area under the ROC curve of each class against all others; ties count half.

    A class without videos, or with all of them, has none. (torchmetrics' multiclass function would
    count it as 0 in the mean, hence its binary one here.)

    Args:
        truth: Class indices, shape ``(N,)``.
        probabilities: Shape ``(N, K)``.

    Returns:
        Shape ``(K,)``.
    """
    areas = np.full(probabilities.shape[1], np.nan)
    for index in range(len(areas)):
        is_class = truth == index
        if is_class.any() and not is_class.all():
            score = torch.from_numpy(np.ascontiguousarray(probabilities[:, index]))
            areas[index] = float(binary_auroc(score, torch.from_numpy(is_class.astype(np.int64))))
    return areas


def calibration(truth: Indices, predicted: Indices, probabilities: Array) -> Calibration:
    """Return how well the probabilities of ``(N, K)`` fit the truth.

    The error is over the bins that the reliability diagram shows. (That of torchmetrics puts
    probabilities of exactly 1, which are common in float32, into a bin of their own.)
    """
    rows = np.arange(len(truth))
    confidence = probabilities[rows, predicted]
    right = (truth == predicted).astype(np.float64)
    bins = np.minimum((confidence * NUM_BINS).astype(np.int64), NUM_BINS - 1)
    count = np.bincount(bins, minlength=NUM_BINS)
    sum_confidence = np.bincount(bins, confidence, NUM_BINS).astype(np.float64)
    sum_right = np.bincount(bins, right, NUM_BINS).astype(np.float64)
    one_hot = np.eye(probabilities.shape[1])[truth]
    return Calibration(
        ece=float(np.abs(sum_right - sum_confidence).sum() / len(truth)),
        nll=float(-np.log(np.maximum(probabilities[rows, truth], _LEAST_PROBABILITY)).mean()),
        brier=float(((probabilities - one_hot) ** 2).sum(axis=1).mean()),
        count=count,
        confidence=_ratio(sum_confidence, count.astype(np.float64)),
        accuracy=_ratio(sum_right, count.astype(np.float64)),
    )
