"""Files lent to a process that may open none."""

import os
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from support.flaky_s3 import FlakyS3, serving
from support.videos import VideoRecipe, write_video

from dfdm_ray.errors import RejectCode, VideoRejectedError
from dfdm_ray.io import lending, object_store, storage
from dfdm_ray.io.lending import BorrowedFiles, Entry, Files, Lender
from dfdm_ray.io.listing import FileEntry, ListingProblem
from dfdm_ray.video.decode import VideoReader
from dfdm_ray.video.plan import plan_frames


@pytest.fixture
def lender() -> Iterator[Lender]:
    made = Lender()
    yield made
    made.theirs.close()


def lent(lender: Lender, *entries: Entry) -> BorrowedFiles:
    lender.lend(lambda: entries)
    return BorrowedFiles(lender.theirs)


def test_a_local_file_is_a_descriptor_that_can_only_be_read(tmp_path: Path, lender: Lender) -> None:
    (tmp_path / "a").write_bytes(b"content")
    file = lent(lender, str(tmp_path / "a")).open()
    assert file.size_bytes == 7
    with file.stream as stream:
        assert stream.read() == b"content"
        stream.seek(3)
        assert stream.read(2) == b"te"
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.write(stream.fileno(), b"x")
    assert lender._open is None  # only the borrower has it


def test_files_of_a_folder_are_lent_by_number_under_their_names(tmp_path: Path, lender: Lender) -> None:
    entries = [
        *(FileEntry(uri=str(tmp_path / name), relative=name, size_bytes=1) for name in ("b", "a")),
        ListingProblem(uri="/x", relative="c", reason="not a regular file"),
    ]
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(name.encode())
    files = lent(lender, *entries)
    assert files.names() == ["b", "a", "c"]
    assert [files.open(number).stream.read() for number in (1, 0)] == [b"a", b"b"]
    with pytest.raises(VideoRejectedError, match="unreadable: not a regular file"):
        files.open(2)
    with pytest.raises(VideoRejectedError, match="asked for what is not lent"):
        files.open(3)


def test_what_cannot_be_opened_is_the_same_rejection_on_both_sides(tmp_path: Path, lender: Lender) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path / "gone", tmp_path):
        with pytest.raises(VideoRejectedError) as here:
            Files([str(path)]).open()
        with pytest.raises(VideoRejectedError) as there:
            lent(lender, str(path)).open()
        assert (there.value.code, there.value.detail) == (here.value.code, here.value.detail)
        assert there.value.code == RejectCode.UNREADABLE


def test_an_empty_file_is_not_opened(tmp_path: Path, lender: Lender) -> None:
    (tmp_path / "empty").touch()
    file = lent(lender, str(tmp_path / "empty")).open()
    assert (file.size_bytes, file.stream.read()) == (0, b"")


def test_a_bug_of_the_lender_costs_the_file_and_not_the_next(
    tmp_path: Path, lender: Lender, caplog: pytest.LogCaptureFixture
) -> None:
    def bug() -> Sequence[Entry]:
        raise ZeroDivisionError

    lender.lend(bug)
    with pytest.raises(VideoRejectedError) as rejected:
        BorrowedFiles(lender.theirs).names()
    assert rejected.value.code == RejectCode.INTERNAL_ERROR
    assert "ZeroDivisionError" in caplog.text
    caplog.clear()
    assert lent(lender, str(tmp_path)).names() == [""]


NOT_LENT = [(b"r", 0, 100), (b"o", 2**63, 0), (b"?", 0, 0)]


@pytest.mark.parametrize("request_", NOT_LENT)
def test_a_borrower_that_was_taken_over_gets_nothing_else(
    request_: tuple[bytes, int, int], tmp_path: Path, lender: Lender
) -> None:
    (tmp_path / "a").write_bytes(b"content")
    files = lent(lender, str(tmp_path / "a"))
    files.open().stream.close()
    lender.theirs.sendall(struct.pack("<cQQ", *request_))
    with pytest.raises(VideoRejectedError, match="asked for what is not lent"):
        files._received(files._exactly(9))
    socket.send_fds(lender.theirs, [struct.pack("<cQQ", b"n", 0, 0)], [0])  # a descriptor for the worker
    files._received(files._exactly(9))


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(object_store._again.wait, "multiplier", 0.01)
    object_store.remote_filesystem.cache_clear()
    yield
    object_store.remote_filesystem.cache_clear()


def use_a_part(video: str | lending.OpenedFile) -> None:
    with VideoReader(video) as reader:
        runs = plan_frames(
            "keyframe_runs", reader.index.keys, num_frames=len(reader.index), wanted=10, runs=2
        )
        assert runs is not None
        assert sum(len(batch) for batch in reader.read_planned(runs, flexible=True)) == 10


def read_all(video: str | lending.OpenedFile) -> None:
    file = lending.open_regular(video) if isinstance(video, str) else video
    with file.stream as stream:
        assert len(stream.read()) == file.size_bytes


@pytest.mark.slow
@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("use", [use_a_part, read_all])
@pytest.mark.parametrize("num_frames", [30, 240])
def test_a_remote_file_costs_the_same_requests_as_if_it_were_opened_here(
    use: Callable[[str | lending.OpenedFile], None], num_frames: int, tmp_path: Path, lender: Lender
) -> None:
    def noise(number: int) -> np.ndarray:
        return np.random.default_rng(number).integers(0, 255, (96, 160, 3), dtype=np.uint8)

    path = write_video(tmp_path / "v.mp4", VideoRecipe(num_frames=num_frames), draw=noise)
    app = FlakyS3(share=0.0)
    with serving(app) as bucket:
        uri = bucket.format("v.mp4")
        storage.write_atomic(uri, path.read_bytes())
        counts = []
        for video in (lambda: uri, lent(lender, uri).open):
            app.requests.clear()
            use(video())
            counts.append([method for method, _ in app.requests])
    assert counts[0] == counts[1]
    assert counts[0][:3] == ["HEAD", "HEAD", "GET"]
    assert len(counts[0]) == 3 or num_frames > 30


@pytest.mark.slow
@pytest.mark.usefixtures("_quick")
def test_requests_that_fail_are_repeated_counted_and_end_in_the_same_rejection(lender: Lender) -> None:
    app = FlakyS3(share=0.0, kinds=("500 InternalError",))
    content = np.random.default_rng(0).bytes(3 << 20)
    with serving(app) as bucket:
        uri = bucket.format("a")
        storage.write_atomic(uri, content)
        app.share = 0.3
        with lent(lender, uri).open().stream as stream:
            assert stream.read() == content
        faults = lender.losses.drain()
        assert len(faults) >= 0.5 * app.injected["500 InternalError"]
        assert all(fault.startswith("storage_error: ") for fault in faults)
        app.share = 0.0
        file = lent(lender, uri).open()
        app.share = 1.0
        with pytest.raises(VideoRejectedError) as rejected:
            file.stream.read()
        assert rejected.value.code == RejectCode.STORAGE_ERROR
        assert len(lender.losses.failures) == object_store.ATTEMPTS - 1
        assert lender.losses.lost_seconds() > 0
        file.stream.close()
