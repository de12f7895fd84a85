"""Scores that tell unknown inputs from known ones, from logits and penultimate features, in numpy.

Every score is high for the unknown. They are fitted on the features of a reference set. Sources: maximum
logit, Hendrycks et al. (2022); energy, Liu et al. (2020); relative Mahalanobis distance, Ren et al. (2021);
k nearest neighbours, Sun et al. (2022); virtual-logit matching (ViM), Wang et al. (2022). Shape suffixes: N
videos, C channels, K classes.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Kind = Literal["max_logit", "energy", "mahalanobis", "neighbours", "vim"]
KINDS: tuple[Kind, ...] = get_args(Kind)

NEIGHBOURS = 3
"""Number of the neighbour whose distance counts; reference sets have tens of videos in a class."""
_SHRINKAGE = 0.1
"""Weight of a multiple of the identity in each covariance: sets have fewer videos than channels."""
_FOLDS = 5
"""Parts in which groups are left out to choose a score, which costs a fit of each score for each part."""
_EXPLAINED = 0.95
"""Share of the variance in the principal space of ViM."""


@dataclass(frozen=True, kw_only=True, eq=False)
class KnownFeatures:
    """The fitted part of a score."""

    kind: Kind
    features: Array
    """Shape ``(N, C)``."""
    labels: Indices
    """Class of each video, shape ``(N,)``."""
    logits: Array
    """Shape ``(N, K)``."""

    def without(self, videos_N: npt.NDArray[np.bool_]) -> "KnownFeatures":
        """Return the same score fitted on the other videos."""
        arrays = {name: getattr(self, name)[~videos_N] for name in ("features", "labels", "logits")}
        return replace(self, **arrays)

    def score(self, features_MC: Array, logits_MK: Array) -> Array:
        """Return the score of ``M`` videos, shape ``(M,)``."""
        if self.kind == "max_logit":
            best: Array = -logits_MK.max(axis=1)
            return best
        if self.kind == "energy":
            return -log_sum(logits_MK)
        if self.kind == "neighbours":
            return _to_neighbours(features_MC, self.features)
        if self.kind == "mahalanobis":
            return self._distances.relative(features_MC)
        return _vim(features_MC, logits_MK, self.features, self.logits)

    @cached_property
    def _distances(self) -> "_Distances":
        return _Distances(self.features, self.labels)


def left_out_scores(known: KnownFeatures, groups: Indices) -> Array:
    """Return the score of each video against the videos of other groups, shape ``(N,)``.

    Videos of one network are alike: against each other they would look better known than others are.

    Args:
        groups: Group of each video, shape ``(N,)``.
    """
    found = np.empty(len(known.features))
    for group in np.unique(groups):
        there = groups == group
        others = known.without(there)
        found[there] = others.score(known.features[there], known.logits[there])
    return found


@dataclass(frozen=True, kw_only=True, eq=False)
class OutlierFeatures:
    """Features of ``M`` outliers, each made of a video of the reference set."""

    features: Array
    """Shape ``(M, C)``."""
    logits: Array
    """Shape ``(M, K)``."""
    made_of: Indices
    """Video of the set that each was made of, shape ``(M,)``."""


def found_outliers(known: KnownFeatures, groups: Indices, outliers: OutlierFeatures) -> float:
    """Return the AUROC of outliers against the videos of the set, 0..1.

    Both are scored against the videos of other groups, an outlier without those of the video that it was made
    of. Groups are left out in :data:`_FOLDS` parts.
    """
    folds, inside, outside = groups % _FOLDS, [], []
    for fold in np.unique(folds):
        there, made_there = folds == fold, folds[outliers.made_of] == fold
        others = known.without(there)
        inside.append(others.score(known.features[there], known.logits[there]))
        outside.append(others.score(outliers.features[made_there], outliers.logits[made_there]))
    return auroc(np.concatenate(outside), np.concatenate(inside))


def auroc(high: Array, low: Array) -> float:
    """Return the share of pairs whose member of ``high`` is above that of ``low``; ties count half."""
    ranked = np.sort(low)
    below = np.searchsorted(ranked, high, side="left") + np.searchsorted(ranked, high, side="right")
    return float(below.mean() / 2 / len(low))


def log_sum(logits_NK: Array) -> Array:
    """Return the log of the summed exponentials of each row, shape ``(N,)``."""
    most = logits_NK.max(axis=1)
    found: Array = most + np.log(np.exp(logits_NK - most[:, None]).sum(axis=1))
    return found


def _unit(features_NC: Array) -> Array:
    unit: Array = features_NC / np.maximum(np.linalg.norm(features_NC, axis=1, keepdims=True), 1e-12)
    return unit


def _to_neighbours(features_MC: Array, known_NC: Array) -> Array:
    """Return the distance of unit features to the third nearest known one."""
    squares_MN = np.maximum(2 - 2 * _unit(features_MC) @ _unit(known_NC).T, 0)
    nearest = min(NEIGHBOURS, len(known_NC)) - 1
    found: Array = np.sqrt(np.partition(squares_MN, nearest, axis=1)[:, nearest])
    return found


def _whitening(centred_NC: Array) -> Array:
    """Return the inverse of the shrunken covariance, ``(C, C)``."""
    channels = centred_NC.shape[1]
    covariance = centred_NC.T @ centred_NC / len(centred_NC)
    size = np.trace(covariance) / channels + 1e-12
    inverse: Array = np.linalg.inv((1 - _SHRINKAGE) * covariance + _SHRINKAGE * size * np.eye(channels))
    return inverse


def _distance(features_MC: Array, mean_C: Array, inverse_CC: Array) -> Array:
    offset_MC = features_MC - mean_C
    found: Array = np.einsum("mc,cd,md->m", offset_MC, inverse_CC, offset_MC)
    return found


class _Distances:
    """Mahalanobis distances to the classes of known features, and to all of them."""

    def __init__(self, known_NC: Array, labels: Indices) -> None:
        classes = np.unique(labels)
        self._means = np.stack([known_NC[labels == label].mean(axis=0) for label in classes])
        self._centre = known_NC.mean(axis=0)
        self._within = _whitening(known_NC - self._means[np.searchsorted(classes, labels)])
        self._whole = _whitening(known_NC - self._centre)

    def relative(self, features_MC: Array) -> Array:
        """Return the least distance to the mean of a class, less the distance to the mean of all."""
        to_class = np.stack([_distance(features_MC, mean, self._within) for mean in self._means]).min(axis=0)
        found: Array = to_class - _distance(features_MC, self._centre, self._whole)
        return found


def _vim(features_MC: Array, logits_MK: Array, known_NC: Array, known_logits_NK: Array) -> Array:
    """Return the length outside the principal space, scaled to the logits, less the energy."""
    centre = known_NC.mean(axis=0)
    _, values, axes = np.linalg.svd(known_NC - centre, full_matrices=False)
    share = np.cumsum(values**2) / max(float((values**2).sum()), 1e-12)
    principal = axes[: int(np.searchsorted(share, _EXPLAINED)) + 1]

    def outside(features: Array) -> Array:
        offset = features - centre
        length: Array = np.linalg.norm(offset - offset @ principal.T @ principal, axis=1)
        return length

    scale = known_logits_NK.max(axis=1).mean() / max(float(outside(known_NC).mean()), 1e-12)
    found: Array = scale * outside(features_MC) - log_sum(logits_MK)
    return found
