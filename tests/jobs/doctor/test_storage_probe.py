import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.flaky_s3 import FlakyS3, serving

from dfdm_ray.io import storage
from dfdm_ray.jobs.doctor.probe import within
from dfdm_ray.jobs.doctor.storage_probe import look_at, marked


def look(
    *, reads: Sequence[Path] = (), writes: Sequence[Path] = (), marks: Sequence[Path] = ()
) -> list[dict[str, Any]]:
    return look_at(
        reads=[str(path) for path in reads],
        writes=[str(path) for path in writes],
        marks=[str(path) for path in marks],
        name="mark",
        seconds=30.0,
    )


def test_files_and_folders_are_read_and_compared_by_their_names(tmp_path: Path) -> None:
    deep = tmp_path / "DFDM" / "crf0"
    deep.mkdir(parents=True)
    (deep / "a.mp4").write_bytes(b"12345")
    folder, file = look(reads=[tmp_path / "DFDM", deep / "a.mp4"])
    assert (folder["num_names"], file["size_bytes"]) == (1, 5)
    before = folder["names_sha256"]
    (tmp_path / "DFDM" / "crf10").mkdir()
    assert look(reads=[tmp_path / "DFDM"])[0]["names_sha256"] != before


def test_what_is_not_there_or_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    gone, below = look(reads=[tmp_path / "gone"], writes=[tmp_path / "file" / "out"])
    assert gone["error"] == "not there"
    assert below["error"] == "Not a directory"


def test_trial_files_and_the_folders_made_for_them_are_removed(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b"
    assert look(writes=[out]) == [{"uri": str(out), "use": "writes", "shared": None}]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_shared_if_the_file_of_the_driver_is_seen_there(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with marked(str(out), "mark"):
        assert look(writes=[out], marks=[out])[0]["shared"] is True
        assert [path.name for path in out.iterdir()] == ["mark"]
    assert look(writes=[out], marks=[out])[0]["shared"] is False
    assert not out.exists()


def test_a_call_that_hangs_is_left_behind() -> None:
    begun = time.monotonic()
    with pytest.raises(TimeoutError, match="no answer within"):
        within(0.1, lambda: time.sleep(30))
    assert time.monotonic() - begun < 5
    assert within(5.0, lambda: 3) == 3
    with pytest.raises(OSError, match="gone"):
        within(5.0, lambda: (_ for _ in ()).throw(OSError("gone")))


def test_object_stores_are_read_and_written_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with serving(FlakyS3(share=0.0)) as bucket:
        archive, out = bucket.format("archive"), bucket.format("new/out")
        storage.write_atomic(storage.join(archive, "crf0", "a.mp4"), b"12345")
        with marked(out, "mark"):
            seen = look_at(
                reads=[archive, bucket.format("gone")], writes=[out], marks=[out], name="mark", seconds=30.0
            )
        assert [one.get("error") for one in seen] == [None, "not there", None]
        assert seen[0]["num_names"] == 1
        assert seen[2]["shared"] is True
        assert storage.list_names(out) == []
