from itertools import pairwise
from typing import Any

import pytest

from dfdm_ray.models.verdict import NO_REFERENCE, decide, least_innocent

CLASSES = ("faceswap", "iae", "dfaker", "real")


@pytest.mark.parametrize(
    ("p_values", "score", "verdict", "found", "family"),
    [
        ((0.5, 0.01, 0.01, 0.01), 0.0, "attributed", ("faceswap",), "64 pixels"),
        ((0.5, 0.05, 0.01, 0.01), 0.0, "one_of", ("faceswap", "iae"), "64 pixels"),
        ((0.5, 0.01, 0.2, 0.01), 0.0, "one_of", ("faceswap", "dfaker"), None),
        ((0.01, 0.01, 0.01, 0.9), 0.0, "real", ("real",), None),
        ((0.5, 0.01, 0.01, 0.2), 0.0, "inconclusive", ("faceswap", "real"), None),
        ((0.5, 0.5, 0.5, 0.5), 0.0, "inconclusive", CLASSES, None),
        ((0.04, 0.01, 0.01, 0.01), 0.0, "unknown", (), None),
        ((0.5, 0.01, 0.01, 0.01), 2.0, "unknown", ("faceswap",), "64 pixels"),
        ((0.01, 0.01, 0.01, 0.9), 2.0, "unknown", ("real",), None),
    ],
)
def test_the_rule_is_its_table(
    p_values: tuple[float, ...], score: float, verdict: str, found: tuple[str, ...], family: str | None
) -> None:
    decision = decide(p_values, CLASSES, unknown_score=score, threshold=1.0)
    assert (decision.verdict, decision.prediction_set, decision.family) == (verdict, found, family)
    assert decision.reason


def test_all_generators_without_a_class_of_real_videos_say_nothing() -> None:
    decision = decide((0.5, 0.5), ("faceswap", "iae"), unknown_score=0.0, threshold=1.0)
    assert decision.verdict == "inconclusive"


def test_without_a_reference_set_every_verdict_is_inconclusive() -> None:
    decision = decide((), CLASSES, unknown_score=0.0, threshold=0.0)
    assert (decision.verdict, decision.reason, decision.prediction_set) == ("inconclusive", NO_REFERENCE, ())


def face(verdict: str, **columns: Any) -> dict[str, Any]:
    return {"verdict": verdict, "p_values": [], "log10_lr": None, "unknown_score": None, **columns}


def fits_real(verdict: str, p: float) -> dict[str, Any]:
    return face(verdict, p_values=[0.3, 0.3, 0.3, p])


INNOCENT_FIRST = (
    fits_real("real", 0.9),
    fits_real("real", 0.2),
    fits_real("inconclusive", 0.9),
    fits_real("inconclusive", 0.06),
    face("unknown", unknown_score=2.0),
    face("unknown", unknown_score=5.0),
    face("one_of", log10_lr=0.1),
    face("one_of", log10_lr=1.5),
    face("attributed", log10_lr=-0.5),
    face("attributed", log10_lr=1.5),
)


@pytest.mark.parametrize(("innocent", "other"), [*pairwise(INNOCENT_FIRST)])
def test_of_two_faces_the_less_innocent_decides(innocent: dict[str, Any], other: dict[str, Any]) -> None:
    assert least_innocent([innocent, other], CLASSES) == 1
    assert least_innocent([other, innocent], CLASSES) == 0


def test_of_equal_faces_the_most_prominent_decides() -> None:
    for one in INNOCENT_FIRST:
        assert least_innocent([one, one, INNOCENT_FIRST[0]], CLASSES) == 0


def test_without_a_reference_set_or_a_class_of_real_videos_the_most_prominent_decides() -> None:
    assert least_innocent([face("inconclusive")] * 3, CLASSES) == 0
    alike = [face("inconclusive", p_values=[p, 0.5]) for p in (0.9, 0.1)]
    assert least_innocent(alike, ("faceswap", "iae")) == 0
