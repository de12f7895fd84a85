"""Files that cost the decoding process its life, among others that do not."""

import logging
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dfdm_ray.clips import child as clip_work
from dfdm_ray.clips.isolation import Allowance, ChildLostError
from dfdm_ray.clips.stage import MakeClips
from dfdm_ray.errors import RejectCode, VideoRejectedError
from dfdm_ray.io.lending import Files
from dfdm_ray.io.listing import FileEntry, ListingProblem
from dfdm_ray.jobs.png_tree.read import ReadFolders
from dfdm_ray.schemas import CLIP_COLUMNS, CLIPS, MANIFEST, SCORED

pytestmark = pytest.mark.slow

FRAMES, SIZE = 2, 32
SHAPE = (1, FRAMES, SIZE, SIZE, 3)
ROW = {**clip_work.NOTHING_KNOWN, **clip_work.NO_CLIPS, "seconds_decode": 0.0, "status": SCORED}
FACE = {"num_frames_scored": FRAMES, "pts_s": [], "boxes_xyxy": [], "landmarks": [], "face_score": None}
ROW |= {**FACE, "faces": [FACE], "crops": bytes(math.prod(SHAPE))}


def answer(schema: pa.Schema = CLIP_COLUMNS, **columns: Any) -> bytes:
    """Return what a child answers that was taken over."""
    return as_bytes(pa.Table.from_pylist([{**ROW, **columns}], schema=schema))


def of_face(*, crops: bytes = bytes(math.prod(SHAPE)), **columns: Any) -> bytes:
    """Return an answer with another face."""
    face = {**FACE, **columns}
    return answer(**face, faces=[face], crops=crops)


def as_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def not_utf8() -> bytes:
    rejected = {"status": "rejected", "reject_code": "no_face", "faces": [], "crops": b""}
    return answer(**rejected, reject_detail="?!?!").replace(b"?!?!", b"\xff" * 4)


ANSWERS = {
    "whole": answer(),
    "nothing": b"",
    "no arrow": b"not arrow",
    "torn": answer()[:2000],
    "other columns": as_bytes(pa.table({"a": [1]})),
    "no row": as_bytes(CLIP_COLUMNS.empty_table()),
    "two rows": as_bytes(pa.Table.from_pylist([ROW, ROW], schema=CLIP_COLUMNS)),
    "no status": answer(status=None),
    "other status": answer(status="done"),
    "no text": not_utf8(),
    "few crops": answer(crops=b"123"),
    "no faces": answer(faces=[], crops=b""),
    "two faces": answer(faces=[FACE] * 2, crops=bytes(2 * math.prod(SHAPE))),
    "another face": answer(num_frames_scored=FRAMES + 1),
    "many frames": of_face(num_frames_scored=2 * FRAMES, crops=bytes(2 * math.prod(SHAPE))),
    "half a clip": of_face(num_frames_scored=FRAMES - 1, crops=bytes(math.prod(SHAPE) // FRAMES)),
    "no frames": of_face(num_frames_scored=0, crops=b""),
    "few times": of_face(pts_s=[0.0]),
    "unknown code": answer(status="rejected", reject_code="because", faces=[], crops=b""),
    "rejected with crops": answer(status="rejected", reject_code="no_face", faces=[]),
    "rejected with faces": answer(status="rejected", reject_code="no_face", crops=b""),
}

NO_ROW = "the answer of the decoding process is no row"


class DeadlyFolders(ReadFolders):
    """Reads PNG folders, but dies of folders with certain names."""

    def __init__(self, folder: str) -> None:
        super().__init__(num_frames=FRAMES, size=SIZE)
        self._folder = folder

    def files(self, uri: str) -> list[FileEntry | ListingProblem]:
        """Return a file whose name says what to do, if the name of the folder is none of a video."""
        name = Path(uri).name
        if name == "once" and not os.path.exists(os.path.join(self._folder, "died")):
            Path(self._folder, "died").touch()
            name = "always"
        if name in (*ANSWERS, "always", "bug"):
            return [FileEntry(uri="/gone", relative=name, size_bytes=0)]
        return super().files(uri)

    def answer(self, files: Files) -> Iterable[bytes]:
        """Do what the name says."""
        try:
            name = files.names()[0]
        except VideoRejectedError:
            return super().answer(files)
        if name == "always":
            os.abort()
        if name == "bug":
            raise ZeroDivisionError("a bug of ours")
        return [ANSWERS[name]]


def stage(tmp_path: Path, attempts: int) -> MakeClips:
    allowance = Allowance(seconds=60, memory_bytes=2**30)
    work = DeadlyFolders(str(tmp_path))
    return MakeClips(work=work, detector="none", shape=SHAPE, allowance=allowance, attempts=attempts)


def manifest(*names: str) -> pa.Table:
    rows = [{"video_id": name, "uri": f"/gone/{name}", "size_bytes": 0} for name in names]
    return pa.Table.from_pylist(rows, schema=MANIFEST)


def test_a_deadly_file_is_rejected_after_its_attempts_and_its_neighbours_are_served(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        rows = stage(tmp_path, 2)(manifest("a", "always", "b"))
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
    tmp_path: Path,
) -> None:
    row = stage(tmp_path, 2)(manifest("once")).to_pylist()[0]
    assert row["reject_code"] == "unknown_class"  # as if nothing had happened
    assert row["faults"] == ["crashed: the decoding process ended with SIGABRT"]


def test_one_attempt_is_one(tmp_path: Path) -> None:
    row = stage(tmp_path, 1)(manifest("once")).to_pylist()[0]
    assert row["reject_code"] == "crashed"
    assert len(row["faults"]) == 1


@pytest.mark.logs_an_error
def test_a_bug_that_shows_on_one_file_costs_that_file_and_is_told_in_full(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = stage(tmp_path, 2)(manifest("a", "bug", "b"))
    assert rows["reject_code"].to_pylist() == ["unknown_class", "internal_error", "unknown_class"]
    detail = rows["reject_detail"][1].as_py()
    assert detail.startswith("ZeroDivisionError: a bug of ours (File ")
    assert rows["faults"][1].as_py() == [f"internal_error: {detail}"]  # not tried again
    (told,) = (record for record in caplog.records if record.levelname == "ERROR")
    assert "Traceback" in told.getMessage()


@pytest.mark.parametrize("name", sorted(ANSWERS.keys() - {"whole"}))
def test_an_answer_that_is_no_row_is_a_crash(name: str) -> None:
    with pytest.raises(ChildLostError) as lost:
        clip_work.row_of(ANSWERS[name], SHAPE)
    assert (lost.value.code, lost.value.detail) == (RejectCode.CRASHED, NO_ROW)


def test_an_answer_has_up_to_so_many_faces_as_were_asked_for() -> None:
    row = clip_work.row_of(ANSWERS["two faces"], SHAPE, most_faces=2)
    assert [face["num_frames_scored"] for face in row["faces"]] == [FRAMES] * 2


def test_an_answer_that_is_no_row_costs_that_file_alone(tmp_path: Path) -> None:
    rows = stage(tmp_path, 1)(manifest("whole", "torn", "whole")).to_pylist()
    assert [row["reject_code"] for row in rows] == [None, "crashed", None]
    assert [row["reject_detail"] for row in rows] == [None, NO_ROW, None]
