import io
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from dfdm_ray.jobs.demo.ending import is_right, kind_of, measured, show_ending
from dfdm_ray.jobs.demo.people import IDS, KNOWN, UNSEEN, moved_photo
from dfdm_ray.jobs.demo.splits import split_of


def row(split: str, truth: str, verdict: str | None, **facts: Any) -> dict[str, Any]:
    """A row of predictions; without a verdict it is rejected."""
    plain: dict[str, Any] = {
        "video_id": f"{split}-{truth}-{verdict}-{len(facts)}",
        "split": split,
        "true_generator": truth,
        "status": "scored" if verdict else "rejected",
        "verdict": verdict,
        "prediction_set": [truth] if verdict in ("attributed", "one_of") else [],
        "generator": truth,
        "probabilities": [0.2] * 5 if verdict else None,
        "target_identity": "id1",
        "source_identity": "id3",
        "scene": "0001",
        "crf": 10,
    }
    return plain | facts


@pytest.mark.parametrize(
    ("one", "kind", "right"),
    [
        (row("test", "iae", "attributed"), "known", True),
        (row("test", "iae", "one_of", prediction_set=["iae", "dfaker"]), "known", True),
        (row("test", "iae", "attributed", prediction_set=["dfaker"]), "known", False),
        (row("unseen", "iae", "inconclusive"), "unseen", False),
        (row("unseen", "iae", None), "unseen", False),
        (row("test", "real", "real"), "real_known", True),
        (row("unseen", "real", "unknown"), "real_unseen", False),
        (row("originals", "real", "real"), "original", True),
        (row("pasted", "pasted", "unknown"), "other", True),
        (row("pasted", "pasted", "real"), "other", False),
        (row("originals", "real", None, video_id="originals/no_face.mp4"), "no_face", True),
    ],
)
def test_a_row_has_a_kind_and_is_right_or_not(one: dict[str, Any], kind: str, right: bool) -> None:
    assert (kind_of(one), is_right(one)) == (kind, right)


def test_the_end_has_short_lines_and_says_both_figures() -> None:
    rows = [
        row("test", "iae", "attributed", scene="0011"),
        row("test", "iae", "attributed", generator="dfaker", scene="0012"),
        row("unseen", "iae", None, target_identity="id0"),
        row("unseen", "iae", "one_of", target_identity="id2"),
        row("originals", "real", None, video_id="originals/no_face.mp4", scene=None),
    ]
    facts = {
        **measured(pa.Table.from_pylist(rows)),
        "seconds": {"generate": 250.0, "train": 5.0},
        "total_s": 255.0,
        "paths": dict.fromkeys(("contact sheet", "report page", "triage page", "measures"), "page.html"),
        "next": "dfdm-ray score --videos FOLDER",
    }
    out = io.StringIO()
    show_ending(facts, Console(file=out, width=80))
    text = out.getvalue()
    assert "  known network, crf 10: 50% of 2 (95%: " in text
    assert "unseen network, crf 10: 100% of 1 (95%: " in text
    assert "chance: 20%; rejected: 1 of 4 swaps" in text
    assert "Time: 4 min 15 s (generate 4 min 10 s, train 5 s)" in text
    assert all(len(line) <= 80 for line in text.split("Time:")[0].splitlines()), text


def test_scenes_of_the_known_pair_are_split_in_order_and_the_other_pair_is_unseen() -> None:
    known, unseen = IDS[KNOWN[0]], IDS[UNSEEN[0]]
    assert [split_of(known, scene) for scene in (0, 6, 7, 8, 11, 12, 14)] == [
        *("train", "train", "val", "calibration", "calibration", "test", "test")
    ]
    assert {split_of(unseen, scene) for scene in range(15)} == {"unseen"}


def test_all_frames_of_the_moved_photograph_differ() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (600, 512, 3), dtype=np.uint8)
    frames = [*moved_photo(photo)]
    assert {frame.shape for frame in frames} == {(480, 480, 3)}
    assert len({frame.tobytes() for frame in frames}) == len(frames)
