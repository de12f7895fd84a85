"""The reference set: videos with known truth on which calibration, thresholds and error rates were measured.

Its people and networks should be unseen in training; otherwise its error rates hold only for those that
trained. Everything here is numpy. Shape suffixes: N videos, C channels, K classes.
"""

import base64
import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from dfdm_ray.errors import UserError
from dfdm_ray.labels import REAL
from dfdm_ray.models.calibration import (
    best_temperature,
    conformal,
    fits,
    for_new_networks,
    left_out_p_values,
    softmax,
)
from dfdm_ray.models.unknown import (
    KINDS,
    Array,
    Indices,
    Kind,
    KnownFeatures,
    OutlierFeatures,
    found_outliers,
    left_out_scores,
)
from dfdm_ray.models.verdict import ALPHA, decide

DEFAULT_KIND: Kind = "mahalanobis"
"""Unknown score of a set without outliers; docs/results.md compares them."""
FALSE_ALARMS = 0.05
"""Share of the reference videos whose unknown score is above the threshold."""
_LEAST = math.ceil(1 / ALPHA) - 1
"""Reference videos of a class that a p-value below alpha needs."""
_ARRAYS = {"features": np.float32, "logits": np.float32, "labels": np.int64, "left_out": np.float64}


@dataclass(frozen=True, kw_only=True, eq=False)
class ReferenceSet:
    """What a verdict rests on; small enough for a checkpoint."""

    name: str
    """Name of the set, for a person."""
    classes: tuple[str, ...]
    features: Array
    """Penultimate features, shape ``(N, C)``."""
    logits: Array
    """Shape ``(N, K)``."""
    labels: Indices
    """Class of each video, shape ``(N,)``."""
    temperature: float
    """Divides the logits; found by the least negative log likelihood (Guo et al., 2017)."""
    kind: Kind
    """Unknown score in use."""
    threshold: float
    """Unknown score above which a video is unknown."""
    left_out: Array
    """P-value of each video's class when its network was left out, shape ``(N,)``; empty in earlier sets."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """``num_videos`` and ``num_networks`` by class, ``date``, ``videos_sha256``, ``shared_with_training``,
    ``error_rates``, and ``outliers_auroc`` by unknown score."""

    def probabilities(self, logits_MK: Array) -> Array:
        """Return calibrated probabilities, shape ``(M, K)``."""
        return softmax(logits_MK / self.temperature)

    def p_values(self, logits_MK: Array) -> Array:
        """Return the class-conditional conformal p-value of each class, shape ``(M, K)``.

        It is ``(1 + number of the class's reference videos that fit it no better) / (1 + their number)``,
        raised by :func:`for_new_networks`. The fit is that of :func:`fits`. The p-value of a class without
        reference videos is 1.
        """
        found = conformal(fits(logits_MK / self.temperature), self._own_fits, self.labels)
        return for_new_networks(found, self.left_out, self.labels)

    @cached_property
    def _own_fits(self) -> Array:
        own: Array = fits(self.logits / self.temperature)[np.arange(len(self.labels)), self.labels]
        return own

    def unknown_scores(self, features_MC: Array, logits_MK: Array) -> Array:
        """Return the unknown score, shape ``(M,)``."""
        return self._known.score(features_MC, logits_MK)

    @cached_property
    def _known(self) -> KnownFeatures:
        return KnownFeatures(kind=self.kind, features=self.features, labels=self.labels, logits=self.logits)

    def log10_lr(self, probability: float, label: int) -> float:
        """Return the log10 likelihood ratio of a class against all others, within what the set supports.

        It is the calibrated odds times ``K - 1``, the prior odds of balanced classes. ``n`` videos cannot
        show ratios above about ``n``.
        """
        bound = self.log10_lr_bound(label)
        odds = max(probability, 1e-12) / max(1 - probability, 1e-12) * (len(self.classes) - 1)
        return float(np.clip(math.log10(odds), -bound, bound))

    def log10_lr_bound(self, label: int) -> float:
        """Return log10 of the number of videos of the class, or of the others if they are fewer."""
        own = int((self.labels == label).sum())
        return math.log10(max(1, min(own, len(self.labels) - own)))

    def to_plain(self) -> dict[str, Any]:
        """Return the set as plain types."""
        arrays = {name: _encoded(getattr(self, name).astype(kind)) for name, kind in _ARRAYS.items()}
        plain = {name: getattr(self, name) for name in ("name", "temperature", "kind", "threshold")}
        return {**plain, **arrays, "classes": [*self.classes], "facts": dict(self.facts)}


def from_plain(plain: Mapping[str, Any]) -> ReferenceSet:
    """Return the set from the result of :meth:`ReferenceSet.to_plain`.

    Raises:
        ValueError: If it is damaged.
    """
    try:
        plain = {"left_out": _encoded(np.empty(0)), **plain}
        values: dict[str, Any] = {name: _decoded(plain[name], kind) for name, kind in _ARRAYS.items()}
        values |= {name: plain[name] for name in ("name", "kind", "facts")}
        values |= {name: float(plain[name]) for name in ("temperature", "threshold")}
        made = ReferenceSet(**values, classes=tuple(plain["classes"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"damaged reference set: {error}") from error
    number = len(made.labels)
    if not isinstance(made.name, str) or not isinstance(made.facts, Mapping):
        raise ValueError("damaged reference set: its name or facts are no text")
    lengths = {len(made.features), len(made.logits), len(made.left_out) or number}
    if made.kind not in KINDS or lengths != {number} or not number:
        raise ValueError("damaged reference set: its parts do not fit each other")
    return made


def fit_reference(
    *,
    name: str,
    classes: Sequence[str],
    features: npt.ArrayLike,
    logits: npt.ArrayLike,
    labels: Sequence[int],
    networks: Sequence[str],
    directions: Sequence[str],
    video_ids: Sequence[str],
    kind: Kind | None = None,
    shared_with_training: str = "unknown",
    outliers: OutlierFeatures | None = None,
) -> ReferenceSet:
    """Fit temperature, p-values and the unknown score on ``N`` videos.

    Args:
        networks: Network of each video, for real videos the person: thresholds and error rates come from
            leaving each out in turn, so that they hold for networks that are not in the set.
        directions: Target and source of each video. In a class of one network, they are left out instead:
            without the network, the class would be unknown.
        kind: Unknown score; ``None``: the one that finds most ``outliers``, which were made of its videos.
        shared_with_training: What the set shares with the training: ``networks``, ``people`` or ``nothing``.

    Raises:
        UserError: If there are fewer than two classes.
    """
    found_features, found_logits = (np.asarray(values, np.float64) for values in (features, logits))
    truth = np.asarray(labels, np.int64)
    there = [classes[label] for label in np.unique(truth)]
    if len(there) < 2:
        only = f"only {there[0]}" if there else "no videos"
        raise UserError(f"the reference set {name} has {only}; calibration needs at least two classes")
    groups = _groups(truth, networks, directions)
    known = KnownFeatures(
        kind=kind or DEFAULT_KIND, features=found_features, labels=truth, logits=found_logits
    )
    found = {one: found_outliers(replace(known, kind=one), groups, outliers) for one in KINDS if outliers}
    if kind is None and found:
        known = replace(known, kind=max(found, key=lambda one: found[one]))
    scores, temperature = left_out_scores(known, groups), best_temperature(found_logits, truth)
    left_out = left_out_p_values(fits(found_logits / temperature), truth, groups)
    made = ReferenceSet(
        name=name,
        classes=tuple(classes),
        features=found_features,
        logits=found_logits,
        labels=truth,
        temperature=temperature,
        left_out=left_out[np.arange(len(truth)), truth],
        kind=known.kind,
        threshold=float(np.quantile(scores, 1 - FALSE_ALARMS)),
    )
    facts = {
        "num_videos": _counts(classes, truth),
        "num_networks": _counts(classes, [label for label, _ in {*zip(labels, networks, strict=True)}]),
        "date": datetime.now(UTC).date().isoformat(),
        "videos_sha256": hashlib.sha256(repr(sorted(video_ids)).encode()).hexdigest(),
        "shared_with_training": shared_with_training,
        "error_rates": _error_rates(made, scores, left_out),
        "outliers_auroc": found,
    }
    return replace(made, facts=facts)


def _groups(labels: Indices, networks: Sequence[str], directions: Sequence[str]) -> Indices:
    """Return the number of the group of each video that is left out at a time."""
    of_class = Counter(label for label, _ in {*zip(labels.tolist(), networks, strict=True)})
    names = [
        f"{label} {network if of_class[label] > 1 else direction}"
        for label, network, direction in zip(labels.tolist(), networks, directions, strict=True)
    ]
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def remarks_on(classes: Sequence[str], num_videos: Mapping[str, int], shared_with_training: str) -> list[str]:
    """Return what a reference set of these sizes cannot support, a line each."""
    remarks = []
    few = [f"{name} ({num_videos.get(name, 0)})" for name in classes if num_videos.get(name, 0) < _LEAST]
    if few:
        listed = ", ".join(few)
        remarks.append(f"fewer than {_LEAST} reference videos: {listed}; no verdict can rule these out")
    if REAL not in classes:
        remarks.append("no class of real videos: no verdict can be real")
    if shared_with_training in ("networks", "people"):
        remarks.append(
            f"the reference set shows {shared_with_training} of the training: its error rates hold for "
            "these only"
        )
    return remarks


def _error_rates(made: ReferenceSet, scores: Array, left_out_NK: Array) -> dict[str, Any]:
    """Return how often verdicts on the set itself are wrong, each network against the others."""
    verdicts: Counter[str] = Counter()
    p_values = for_new_networks(left_out_NK, made.left_out, made.labels)
    for p, score, label in zip(p_values, scores, made.labels, strict=True):
        decision = decide(p, made.classes, unknown_score=float(score), threshold=made.threshold)
        kind = REAL if made.classes[label] == REAL else "swapped"
        right = made.classes[label] in decision.prediction_set
        verdicts[f"{kind}: {decision.verdict}{'' if right else ', wrong'}"] += 1
    return {
        "accuracy": float((made.logits.argmax(axis=1) == made.labels).mean()),
        "verdicts": dict(sorted(verdicts.items())),
    }


def _counts(classes: Sequence[str], labels: Sequence[int] | Indices) -> dict[str, int]:
    found = Counter(int(label) for label in labels)
    return {name: found[index] for index, name in enumerate(classes)}


def _encoded(array: npt.NDArray[Any]) -> dict[str, Any]:
    return {"shape": [*array.shape], "base64": base64.b64encode(array.tobytes()).decode()}


def _decoded(plain: Mapping[str, Any], kind: type) -> Any:
    flat: npt.NDArray[Any] = np.frombuffer(base64.b64decode(plain["base64"], validate=True), kind)
    wide = np.int64 if kind is np.int64 else np.float64
    return flat.reshape(plain["shape"]).astype(wide)
