import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from support.child_acts import Act, Broken, KilledAtStart

from dfdm_ray.clips import isolation
from dfdm_ray.clips.isolation import Allowance, ChildLostError, Isolated, WorkBugError
from dfdm_ray.errors import RejectCode

pytestmark = pytest.mark.slow

MANY = Allowance(seconds=60, memory_bytes=2 * 2**30)


@contextmanager
def isolated(allowance: Allowance = MANY) -> Iterator[Isolated]:
    child = Isolated(Act(), allowance)
    try:
        yield child
    finally:
        child.close()


def test_the_child_gets_no_variable_but_those_that_python_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_TOKEN", "AWS_SECRET_ACCESS_KEY", "GOOGLE_APPLICATION_CREDENTIALS", "ANY_OTHER"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("TZ", "UTC")
    with isolated() as child:
        names = {*child("environment").decode().split(",")}
    kept = {*isolation._KEPT, *isolation._THREADS, *isolation._NO_THREADS}
    assert {"PYTHONPATH", "TZ"} <= names <= {"PYTHONPATH", *kept}


def test_an_answer_may_come_in_pieces_and_the_next_one_is_not_mixed_with_them() -> None:
    with isolated() as child:
        pieces = list(child.pieces("pieces"))
        for _ in child.pieces("pieces"):
            break  # the rest is not wanted
        assert child("next").startswith(b"did next")
    assert pieces[:3] == [b"one ", b"two ", b"three "]
    assert pieces[3].startswith(b"did pieces")


def test_an_answer_for_which_there_is_no_room_costs_the_file() -> None:
    with isolated() as child, pytest.raises(ChildLostError) as lost:
        child("no room")
    assert lost.value.code == RejectCode.OUT_OF_MEMORY


@pytest.mark.parametrize("uri", ["boast", "babble"])
def test_an_answer_that_is_not_there_costs_the_file(uri: str) -> None:
    with isolated() as child:
        with pytest.raises(ChildLostError) as lost:
            child(uri)
        assert lost.value.code == RejectCode.CRASHED
        assert child("next").startswith(b"did next")


def test_one_child_serves_one_file_after_another_in_a_process_of_its_own() -> None:
    with isolated() as child:
        first, second = child("a"), child("ü \x1b")
    assert first.rsplit(b" ", 1) == [b"did a", second.rsplit(b" ", 1)[1]]
    assert second.startswith("did ü \x1b".encode())
    assert int(first.rsplit(b" ", 1)[1]) != os.getpid()


@pytest.mark.parametrize(
    ("uri", "code", "words"),
    [
        ("segfault", RejectCode.CRASHED, "SIGSEGV"),
        ("exit", RejectCode.CRASHED, "exit code 3"),
        ("hang", RejectCode.TIMED_OUT, "no result after 1 s"),
        ("hang in C", RejectCode.TIMED_OUT, "no result after 1 s"),
        ("half", RejectCode.TIMED_OUT, "no result after 1 s"),
        ("swell", RejectCode.OUT_OF_MEMORY, "grew beyond 0.5 GiB"),
        ("absurd", RejectCode.OUT_OF_MEMORY, "refused memory"),
    ],
)
def test_a_file_that_costs_the_child_is_told_and_the_next_one_is_served(
    uri: str, code: RejectCode, words: str
) -> None:
    seconds = 1 if code == RejectCode.TIMED_OUT else 60
    with isolated(Allowance(seconds=seconds, memory_bytes=2**29)) as child:
        before = child("before")
        with pytest.raises(ChildLostError, match=words) as lost:
            child(uri)
        assert lost.value.code == code
        after = child("after")
    assert after.startswith(b"did after")
    assert before.rsplit(b" ", 1)[1] != after.rsplit(b" ", 1)[1]


@pytest.mark.parametrize(
    ("uri", "code"),
    [
        ("silent store", RejectCode.STORAGE_ERROR),
        ("late store", RejectCode.TIMED_OUT),  # a failure of at most 0.2 s does not explain it
    ],
)
def test_time_that_a_failing_store_took_is_no_fault_of_the_file(uri: str, code: RejectCode) -> None:
    with isolated(Allowance(seconds=1, memory_bytes=2**31)) as child:
        with pytest.raises(ChildLostError, match="no result after 1 s") as lost:
            child(uri)
        assert lost.value.code == code
        assert child("after").startswith(b"did after")


def test_a_child_that_was_killed_between_files_is_replaced() -> None:
    with isolated() as child:
        pid = int(child("a").rsplit(b" ", 1)[1])
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # all its threads are gone, and it is not reaped
        assert child("b").startswith(b"did b")


def test_a_bug_in_the_work_comes_with_the_childs_traceback_and_the_next_file_is_served() -> None:
    with isolated() as child:
        with pytest.raises(WorkBugError, match="a bug in the work") as error:
            child("bug")
        assert child("after").startswith(b"did after")
    assert "in answer" in str(error.value)
    assert error.value.summary.startswith('ZeroDivisionError: a bug in the work (File "')
    assert error.value.summary.endswith(", in act)")


def test_a_child_that_does_not_listen_costs_the_file() -> None:
    with isolated(Allowance(seconds=1, memory_bytes=2**31)) as child:
        assert child("deaf") == b""
        with pytest.raises(ChildLostError) as lost:  # of answers that were made before the questions
            list(map(child, ["a"] * 20))
        assert lost.value.code == RejectCode.TIMED_OUT
        assert child("next").startswith(b"did next")


def test_a_child_that_is_killed_while_it_loads_is_started_once_more(tmp_path: Path) -> None:
    child = Isolated(KilledAtStart(str(tmp_path), 1), MANY)
    assert child("a").startswith(b"did a")
    child.close()


def test_a_child_that_is_killed_whenever_it_loads_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"did not start: .* SIGKILL"):
        Isolated(KilledAtStart(str(tmp_path), 9), MANY)("a")
    assert len(os.listdir(tmp_path)) == 2


def test_a_bug_of_which_nothing_is_told_has_a_summary_all_the_same() -> None:
    assert WorkBugError(" ").summary == "the decoding process gave no traceback"


def test_work_that_cannot_be_made_is_a_bug_too() -> None:
    with pytest.raises(RuntimeError, match="no such decoder") as error:
        Isolated(Broken(), MANY)("a")
    assert not isinstance(error.value, WorkBugError)  # which would cost the file and not the run


def test_a_child_that_hangs_does_not_outlive_its_killed_parent() -> None:
    script = (
        "from support.child_acts import Act\n"
        "from dfdm_ray.clips.isolation import Allowance, Isolated\n"
        "child = Isolated(Act(''), Allowance(seconds=60, memory_bytes=2**31))\n"
        "print(child('').decode(), flush=True)\n"
        "child('hang in C')\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    end = time.monotonic() + 10
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end, "the child lives on"
        time.sleep(0.05)


def test_a_lost_child_pickles() -> None:
    lost = ChildLostError(RejectCode.CRASHED, "SIGSEGV")
    back = pickle.loads(pickle.dumps(lost))
    assert (back.code, back.detail, str(back)) == (lost.code, lost.detail, "crashed: SIGSEGV")
