"""From the numbers of one face to a verdict that a person may act on.

The rule, from top to bottom; the first line that fits decides. The prediction set contains the classes whose
p-value is at least alpha:

=====================================================  ============
the checkpoint has no reference set                    inconclusive
the unknown score is above its threshold               unknown
the prediction set is empty                            unknown
it contains only ``real``                              real
it contains one generator                              attributed
it contains ``real`` and generators, or all classes    inconclusive
it contains several generators                         one_of
=====================================================  ============

The answer of a video is that of its least innocent face. Verdicts are listed with the least innocent first;
of two faces with the same verdict, the second column decides, then the more prominent one:

============  =========================================================
attributed    the larger likelihood ratio
one_of        the larger likelihood ratio
unknown       the higher unknown score
inconclusive  the smaller p-value of ``real``, if there is a reference set
real          the smaller p-value of ``real``
============  =========================================================
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dfdm_ray.labels import FAMILY, REAL

Verdict = Literal["attributed", "one_of", "real", "unknown", "inconclusive"]
_GUILT: tuple[Verdict, ...] = ("real", "inconclusive", "unknown", "one_of", "attributed")
"""All verdicts, the most innocent first."""
NO_REFERENCE = "no reference set: run `dfdm-ray calibrate`"
ALPHA = 0.05
"""Least p-value of a class in the prediction set: 5 % of the videos of a class are left out of it."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A verdict and what it rests on."""

    verdict: Verdict
    reason: str
    prediction_set: tuple[str, ...]
    family: str | None
    """Family of all generators in the prediction set, if it is one."""


def decide(
    p_values: Sequence[float],
    classes: Sequence[str],
    *,
    unknown_score: float,
    threshold: float,
    alpha: float = ALPHA,
) -> Decision:
    """Return the verdict on a face by the rule at the top of this module.

    Args:
        p_values: One of each class, in class order; of no meaning if empty, as without a reference set.
    """
    if not len(p_values):
        return Decision(verdict="inconclusive", reason=NO_REFERENCE, prediction_set=(), family=None)
    found = tuple(name for name, p in zip(classes, p_values, strict=True) if p >= alpha)
    families = {FAMILY.get(name) for name in found}
    verdict, reason = _verdict(found, classes, unknown_score, threshold, alpha)
    family = families.pop() if len(families) == 1 else None
    return Decision(verdict=verdict, reason=reason, prediction_set=found, family=family)


def _verdict(
    found: Sequence[str], classes: Sequence[str], unknown_score: float, threshold: float, alpha: float
) -> tuple[Verdict, str]:
    if unknown_score > threshold:
        return "unknown", f"the unknown score {unknown_score:.3g} is above {threshold:.3g}"
    if not found:
        return "unknown", f"no class has a p-value of {alpha:g}"
    if len(found) == 1:
        return ("real" if found[0] == REAL else "attributed"), f"only {found[0]} has a p-value of {alpha:g}"
    names = ", ".join(found)
    if REAL in found or len(found) == len(classes):
        return "inconclusive", f"several classes have a p-value of {alpha:g}: {names}"
    return "one_of", f"several generators have a p-value of {alpha:g}: {names}"


def least_innocent(faces: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> int:
    """Return the position of the face that decides by the second table at the top of this module.

    Args:
        faces: Columns of the verdict of each face, see :data:`dfdm_ray.schemas.PREDICTIONS`; the most
            prominent face first.
    """

    def guilt(face: Mapping[str, Any]) -> tuple[int, float]:
        verdict, p_values = face["verdict"], dict(zip(classes, face["p_values"], strict=False))
        if verdict in ("attributed", "one_of"):
            weight = face["log10_lr"]
        elif verdict == "unknown":
            weight = face["unknown_score"]
        else:
            weight = -p_values.get(REAL, 0.0)
        return _GUILT.index(verdict), weight

    return max(range(len(faces)), key=lambda at: guilt(faces[at]))
