"""A second run into a folder notices the first while that lives, on any machine, and never after a kill."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from dfdm_ray.engine import heartbeat as module
from dfdm_ray.engine.heartbeat import heartbeat, require_alone
from dfdm_ray.errors import UserError

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {"_EVERY_S": 0.02, "_WATCHED_S": 0.6, "_POLL_S": 0.01}.items():
        monkeypatch.setattr(module, name, seconds)


def left_by(root: Path, **facts: Any) -> Path:
    """The heartbeat of a driver that was killed, with other ``facts`` than this process has."""
    path = root / "heartbeat-0123abcd.json"
    path.write_text(json.dumps({**module._this_process(), **facts}))
    return path


@contextmanager
def touched(path: Path) -> Iterator[None]:
    """As if the driver that wrote ``path`` lived."""
    ended = threading.Event()
    thread = threading.Thread(target=module._beat, args=(str(path), path.read_bytes(), ended))
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def wait_until(happened: Callable[[], bool], *, limit_s: float = 20) -> None:
    end = time.monotonic() + limit_s
    while not happened():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def test_a_second_run_ends_with_a_line_that_names_the_first(tmp_path: Path) -> None:
    with heartbeat(str(tmp_path)):
        with pytest.raises(
            UserError, match=rf"another run writes to .*: process {os.getpid()} on .*, since 2"
        ):
            require_alone(str(tmp_path))
        with (
            pytest.raises(UserError, match="wait until it ends, stop it, or give a new --out"),
            heartbeat(str(tmp_path)),
        ):
            pass
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []
    require_alone(str(tmp_path))


def test_the_time_moves_while_the_run_lives_and_a_lost_heartbeat_comes_back(tmp_path: Path) -> None:
    with heartbeat(str(tmp_path)) as name:
        path = tmp_path / name
        first, inode = path.stat().st_mtime_ns, path.stat().st_ino
        wait_until(lambda: path.stat().st_mtime_ns > first)
        assert path.stat().st_ino == inode
        path.unlink()
        wait_until(path.exists)


def test_the_heartbeat_of_a_killed_driver_stops_nobody(tmp_path: Path) -> None:
    driver = (
        "import os, sys; from dfdm_ray.engine.heartbeat import heartbeat\n"
        "with heartbeat(sys.argv[1]): os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", driver, str(tmp_path)], check=False).returncode == 9
    assert len(list(tmp_path.iterdir())) == 1
    started = time.monotonic()
    with heartbeat(str(tmp_path)) as own:
        assert [path.name for path in tmp_path.iterdir()] == [own]
    assert time.monotonic() - started < 0.5  # a process of this machine needs no watching


def test_a_killed_driver_that_nobody_has_waited_for_stops_nobody(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    left_by(tmp_path, pid=process.pid, created_s=psutil.Process(process.pid).create_time())
    with pytest.raises(UserError, match="another run writes"):
        require_alone(str(tmp_path))
    process.kill()
    wait_until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE)
    require_alone(str(tmp_path))
    process.communicate()


def test_another_process_with_the_number_of_a_killed_driver_stops_nobody(tmp_path: Path) -> None:
    left_by(tmp_path, created_s=1.0)
    require_alone(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("facts", [{"host": "elsewhere"}, {"namespace": "pid:[1]"}, {"boot": "x"}])
def test_a_run_on_another_machine_lives_while_its_time_moves(tmp_path: Path, facts: dict[str, str]) -> None:
    path = left_by(tmp_path, pid=1, **facts)
    with touched(path), pytest.raises(UserError, match=r"another run writes to --out .*: process 1 on"):
        require_alone(str(tmp_path))
    require_alone(str(tmp_path))  # now it stays as it is
    assert not path.exists()


def test_a_run_that_ends_while_it_is_watched_stops_nobody(tmp_path: Path) -> None:
    path = left_by(tmp_path, host="elsewhere")
    threading.Timer(0.1, path.unlink).start()
    require_alone(str(tmp_path))


@pytest.mark.parametrize("content", ["", "{", "[1]", "null"])
def test_a_damaged_heartbeat_stops_nobody(tmp_path: Path, content: str) -> None:
    (tmp_path / "heartbeat-0123abcd.json").write_text(content)
    (tmp_path / "heartbeat.json").write_text("of the user")
    require_alone(str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["heartbeat.json"]


def test_a_submitted_job_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metadata = {"metadata": {"job_submission_id": "raysubmit_1"}}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(metadata))
    with heartbeat(str(tmp_path)), pytest.raises(UserError, match=r"on .*, job raysubmit_1, since"):
        require_alone(str(tmp_path))
