import pytest
from support.report_rows import Row, answered, without_answer

from dfdm_ray.jobs.report.check import differences

BEFORE = answered("a.mp4", "attributed")
LOGITS = BEFORE["logits"]


def after(**changes: object) -> Row:
    return {**BEFORE, **changes}


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (after(), []),
        (after(logits=[value + 9e-4 for value in LOGITS], probability=0.1), []),
        (after(logits=[value + 2e-3 for value in LOGITS]), ["a logit differs by 0.002, more than 0.001"]),
        (after(logits=[]), ["a logit differs by inf, more than 0.001"]),
        (after(logits=[float("nan")] * len(LOGITS)), ["a logit differs by nan, more than 0.001"]),
        (after(verdict="unknown"), ["the verdict was attributed and is unknown"]),
        (after(generator="dfaker"), ["the generator was iae and is dfaker"]),
        (after(pts_s=[0.0, 0.08]), ["other frames were used"]),
        (after(boxes_xyxy=[[10.0, 10.0, 41.0, 50.0]] * 2), ["a box differs by 1.0 pixels"]),
        (
            without_answer("a.mp4"),
            [
                "the verdict was attributed and is rejected",
                "the reject code was None and is no_face",
                "1 faces were examined, 0 now",
            ],
        ),
    ],
)
def test_differences_are_named(now: Row, expected: list[str]) -> None:
    assert [*differences(BEFORE, now, tolerance=1e-3)] == expected


def test_two_equal_rejections_are_equal() -> None:
    assert not [*differences(without_answer("a"), without_answer("a"), tolerance=1e-3)]


def test_each_face_is_compared() -> None:
    other = answered("a.mp4", "real", "real")
    both = {**BEFORE, "faces": [other, BEFORE]}
    changed = {**BEFORE, "faces": [other, after(generator="dfaker")]}
    assert [*differences(both, changed, tolerance=1e-3)] == ["the generator of face 2 was iae and is dfaker"]
