"""Files that cost the decoding process its life, among others that do not."""

import logging
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

from dfdm_ray import clip_work
from dfdm_ray.isolation import Allowance, Work
from dfdm_ray.schemas import CLIPS, MANIFEST
from dfdm_ray.stages.make_clips import MakeClips

FRAMES, SIZE = 2, 32


def deadly_png_work(folder: str) -> Work:
    """Read PNG folders, but die of those called so."""
    return partial(_die_or_work, folder, clip_work.png_work(FRAMES, SIZE))


def _die_or_work(folder: str, work: Work, uri: str) -> bytes:
    name = Path(uri).name
    if name.startswith("once") and not os.path.exists(os.path.join(folder, "died")):
        Path(folder, "died").touch()
        os.abort()
    if name.startswith("always"):
        os.abort()
    if name.startswith("bug"):
        raise ZeroDivisionError("a bug of ours")
    return work(uri)


@pytest.fixture
def stage(tmp_path: Path) -> Callable[[int], MakeClips]:
    def make(attempts: int) -> MakeClips:
        work = partial(deadly_png_work, str(tmp_path))
        allowance = Allowance(seconds=60, memory_bytes=2**30)
        return MakeClips(work, detector="none", allowance=allowance, attempts=attempts)

    return make


def manifest(*names: str) -> pa.Table:
    rows = [{"video_id": name, "uri": f"/gone/{name}", "size_bytes": 0} for name in names]
    return pa.Table.from_pylist(rows, schema=MANIFEST)


def test_a_deadly_file_is_rejected_after_its_attempts_and_its_neighbours_are_served(
    stage: Callable[[int], MakeClips], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        rows = stage(2)(manifest("a", "always", "b"))
    assert rows.schema.equals(CLIPS)
    assert rows["reject_code"].to_pylist() == ["unknown_class", "crashed", "unknown_class"]
    assert rows["faults"].to_pylist() == [
        [],
        ["crashed: the decoding process ended with SIGABRT"] * 2,
        [],
    ]
    told = [(record.video_id, record.reject_code) for record in caplog.records if record.levelname == "INFO"]  # type: ignore[attr-defined]
    assert told == [("a", "unknown_class"), ("always", "crashed"), ("b", "unknown_class")]


def test_a_file_of_which_the_child_died_once_has_its_row_and_the_fault(
    stage: Callable[[int], MakeClips],
) -> None:
    row = stage(2)(manifest("once")).to_pylist()[0]
    assert row["reject_code"] == "unknown_class"  # as if nothing had happened
    assert row["faults"] == ["crashed: the decoding process ended with SIGABRT"]


def test_one_attempt_is_one(stage: Callable[[int], MakeClips]) -> None:
    row = stage(1)(manifest("once")).to_pylist()[0]
    assert row["reject_code"] == "crashed"
    assert len(row["faults"]) == 1


def test_a_bug_that_shows_on_one_file_costs_that_file_and_is_told_in_full(
    stage: Callable[[int], MakeClips], caplog: pytest.LogCaptureFixture
) -> None:
    rows = stage(2)(manifest("a", "bug", "b"))
    assert rows["reject_code"].to_pylist() == ["unknown_class", "internal_error", "unknown_class"]
    detail = rows["reject_detail"][1].as_py()
    assert detail.startswith("ZeroDivisionError: a bug of ours (File ")
    assert rows["faults"][1].as_py() == [f"internal_error: {detail}"]  # not tried again
    (told,) = (record for record in caplog.records if record.levelname == "ERROR")
    assert "Traceback" in told.getMessage()
