"""Calibration in numpy: temperature, log odds and conformal p-values of logits. N videos, K classes."""

import numpy as np

from dfdm_ray.models.unknown import Array, Indices, log_sum

_TEMPERATURES = np.geomspace(0.05, 20, 600)
"""Temperatures that are tried, 1 % apart."""


def best_temperature(logits_NK: Array, labels: Indices) -> float:
    """Return the temperature with the least negative log likelihood, each class with the same weight.

    A class of ``n`` videos has the target ``(n + 1) / (n + 2)`` instead of 1 (Platt, 1999), because ``n``
    right answers do not show that there are no wrong ones.
    """
    counts, num_classes = np.bincount(labels, minlength=logits_NK.shape[1]), logits_NK.shape[1]
    targets = np.repeat(1 / (counts[labels, None] + 2) / (num_classes - 1), num_classes, axis=1)
    targets[np.arange(len(labels)), labels] = (counts[labels] + 1) / (counts[labels] + 2)
    targets /= counts[labels, None]
    losses = [-(targets * _log_softmax(logits_NK / one)).sum() for one in _TEMPERATURES]
    return float(_TEMPERATURES[int(np.argmin(losses))])


def fits(logits_NK: Array) -> Array:
    """Return the log odds of each class, shape ``(N, K)``: unlike probabilities, they never round to 1."""
    columns = np.arange(logits_NK.shape[1])
    others = np.stack([log_sum(logits_NK[:, columns != label]) for label in columns], axis=1)
    found: Array = logits_NK - others
    return found


def conformal(fits_MK: Array, own_N: Array, labels: Indices) -> Array:
    """Return class-conditional p-values, shape ``(M, K)``; see ``ReferenceSet.p_values``.

    Args:
        fits_MK: Fit of each video to each class; more is better.
        own_N: Fit of each reference video to its own class.
        labels: Class of each reference video, shape ``(N,)``.
    """
    values = np.ones_like(fits_MK)
    for label in range(fits_MK.shape[1]):
        own = np.sort(own_N[labels == label])
        no_better = np.searchsorted(own, fits_MK[:, label], side="right")
        values[:, label] = (1 + no_better) / (1 + len(own))
    return values


def left_out_p_values(fits_NK: Array, labels: Indices, groups: Indices) -> Array:
    """Return the p-values of reference videos against the videos of other groups, shape ``(N, K)``."""
    own = fits_NK[np.arange(len(labels)), labels]
    values = np.empty_like(fits_NK)
    for group in np.unique(groups):
        there = groups == group
        values[there] = conformal(fits_NK[there], own[~there], labels[~there])
    return values


def for_new_networks(p_values_MK: Array, left_out_N: Array, labels: Indices) -> Array:
    """Return p-values that are not too small for videos of networks outside the reference set.

    Videos of one network are alike, so many of them show less than as many networks would. A p-value rises to
    the share of reference videos, each class with the same weight, whose class had no larger one when their
    network was left out.

    Args:
        left_out_N: P-value of each reference video's own class then; none leaves the p-values unchanged.
    """
    if not len(left_out_N):
        return p_values_MK
    counts, order = np.bincount(labels), np.argsort(left_out_N)
    shares = np.cumsum(1 / counts[labels][order]) / np.count_nonzero(counts)
    smaller = np.searchsorted(left_out_N[order], p_values_MK, side="right")
    values: Array = np.maximum(p_values_MK, np.concatenate([[0.0], shares])[smaller])
    return np.minimum(values, 1)


def softmax(logits_NK: Array) -> Array:
    """Return probabilities of logits of shape ``(N, K)``; each row sums to 1."""
    probabilities: Array = np.exp(_log_softmax(logits_NK))
    return probabilities


def _log_softmax(logits_NK: Array) -> Array:
    found: Array = logits_NK - log_sum(logits_NK)[:, None]
    return found
