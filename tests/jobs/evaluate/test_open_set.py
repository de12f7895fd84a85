from typing import Any

import pytest

from dfdm_ray.jobs.evaluate.cases import FATES
from dfdm_ray.jobs.evaluate.open_set import open_set

CLASSES = ("faceswap", "dfaker", "real")


def row(truth: str, verdict: str | None, real: float, *found: str, score: float = 0.0) -> dict[str, Any]:
    return {
        "true_generator": truth,
        "generator": "faceswap" if real < 0.5 else "real",
        "probabilities": [1 - real, 0.0, real],
        "verdict": verdict,
        "prediction_set": [*found],
        "p_values": [0.1] * 3 if verdict else [],
        "unknown_score": score if verdict else None,
        "status": "scored",
    }


def fates(*scored: dict[str, Any], strange: tuple[dict[str, Any], ...] = ()) -> dict[str, list[Any]]:
    return {name: [] for name in FATES} | {"scored": [*scored], "no_class": [*strange]}


def test_verdicts_are_counted_by_truth_with_those_that_are_right() -> None:
    found = open_set(
        fates(
            row("real", "real", 0.9, "real"),
            row("real", "attributed", 0.2, "dfaker"),
            row("faceswap", "attributed", 0.1, "faceswap"),
            row("faceswap", "attributed", 0.1, "dfaker"),
            row("dfaker", "one_of", 0.1, "faceswap", "dfaker"),
            row("dfaker", "inconclusive", 0.1, "dfaker", "real"),
            strange=(
                row("FSGAN", "unknown", 0.1),
                row("FSGAN", "attributed", 0.1, "dfaker"),
                {**row("FSGAN", "unknown", 0.1), "status": "rejected"},
            ),
        ),
        CLASSES,
    )
    assert [(*one.values(),) for one in found["verdicts"]] == [
        ("real", "attributed", 1, 0),
        ("real", "real", 1, 1),
        ("known", "attributed", 2, 1),
        ("known", "inconclusive", 1, 0),
        ("known", "one_of", 1, 1),
        ("strange", "attributed", 1, 0),
        ("strange", "unknown", 1, 1),
    ]
    assert found["coverage"] == {"share": pytest.approx(4 / 6), "num_videos": 6}
    assert found["family"] == {"accuracy": 0.5, "num_videos": 4}


def test_real_and_strange_videos_are_told_apart_by_rank() -> None:
    scored = [row("real", "real", real, score=0.1) for real in (0.9, 0.8, 0.4)]
    scored += [row("dfaker", "real", real, score=0.2) for real in (0.1, 0.3)]
    found = open_set(fates(*scored, strange=(row("FSGAN", "real", 0.6, score=0.15),)), CLASSES)
    assert found["known_real"] == {"auroc": 1.0, "false_alarms": 0.0, "num_positive": 2, "num_negative": 3}
    assert found["strange_real"]["auroc"] == pytest.approx(2 / 3)
    assert found["strange_other"]["auroc"] == pytest.approx(3 / 5)
    assert found["strange_other"]["false_alarms"] == pytest.approx(2 / 5)


def test_what_is_missing_is_none() -> None:
    found = open_set(fates(row("faceswap", None, 0.1), row("dfaker", None, 0.2)), CLASSES[:2])
    assert found == {
        "verdicts": [],
        "known_real": None,
        "strange_real": None,
        "strange_other": None,
        "coverage": None,
        "family": {"accuracy": 0.5, "num_videos": 2},
    }
