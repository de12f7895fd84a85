import pytest

from dfdm_ray.models.verdict import NO_REFERENCE, decide

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
