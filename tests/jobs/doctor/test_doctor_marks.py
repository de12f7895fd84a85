import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from threading import Event

import pytest

from dfdm_ray.io import storage
from dfdm_ray.jobs.doctor.job import _mark

NAME = ".dfdm-ray-doctor-x"


def test_a_mark_is_there_until_the_look_is_over(tmp_path: Path) -> None:
    with ExitStack() as marks:
        assert _mark(marks, str(tmp_path), NAME, 60.0) is None
        assert (tmp_path / NAME).exists()
    assert not (tmp_path / NAME).exists()


def test_a_mark_that_comes_after_its_time_is_removed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once, written = storage.write_atomic, []

    def late(uri: str, content: bytes) -> None:
        time.sleep(0.3)
        at_once(uri, content)
        written.append(uri)

    monkeypatch.setattr(storage, "write_atomic", late)
    with ExitStack() as marks:
        assert "no answer" in str(_mark(marks, str(tmp_path), NAME, 0.05))
    wait_until(lambda: written and not (tmp_path / NAME).exists())


def test_storage_that_hangs_when_a_mark_is_removed_holds_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once, answers = storage.remove_file, Event()
    monkeypatch.setattr(storage, "remove_file", lambda uri: (answers.wait(60), at_once(uri)))
    with ExitStack() as marks:
        assert _mark(marks, str(tmp_path), NAME, 0.2) is None
    assert (tmp_path / NAME).exists()  # nobody waited for it
    answers.set()
    wait_until(lambda: not (tmp_path / NAME).exists())


def wait_until(happened: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.01)
