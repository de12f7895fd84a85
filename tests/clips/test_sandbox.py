"""What a file cannot do that has taken over its decoder."""

import os
import platform
import re
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from support.attacks import ATTACKS, Attacked
from support.videos import VideoRecipe, write_video

from dfdm_ray.clips import landlock, sandbox, seccomp
from dfdm_ray.clips.isolation import Allowance
from dfdm_ray.clips.stage import MakeClips
from dfdm_ray.schemas import MANIFEST

HERE = platform.machine()
LINUX = sys.platform == "linux" and HERE in seccomp.ARCHITECTURES


def decide(code: bytes, *, arch: int, number: int, arguments: tuple[int, ...] = ()) -> int:
    """Run a filter as Linux does (net/core/filter.c, as far as the filter uses it)."""
    data = struct.pack("=iIQ6Q", number, arch, 0, *(*arguments, *[0] * 6)[:6])
    made, at, value = list(struct.iter_unpack("=HBBI", code)), 0, 0
    while True:
        kind, yes, no, k = made[at]
        at += 1
        match kind:
            case 0x20:
                value = struct.unpack_from("=I", data, k)[0]
            case 0x54:
                value &= k
            case 0x15:
                at += yes if value == k else no
            case 0x35:
                at += yes if value >= k else no
            case 0x06:
                return int(k)
            case _:
                raise AssertionError(f"unknown instruction {kind:#x}")


KILL, ALLOW = 0x80000000, 0x7FFF0000
REFUSED = {name: 0x50000 | error for name, error in (("EPERM", 1), ("EACCES", 13), ("ENOSYS", 38))}
READ, WRITE, OTHER, MINE = 0, 0o101, 12345, 777


@pytest.mark.parametrize("machine", seccomp.ARCHITECTURES)
def test_the_filter_decides_the_same_on_both_architectures(machine: str) -> None:
    """Simulated: only the filter of the machine at hand is ever installed."""
    column, arch = seccomp.ARCHITECTURES[machine]
    code = seccomp.program(machine, pid=MINE, may_open=True)
    strict = seccomp.program(machine, pid=MINE, may_open=False)
    cases = [
        ((0, 63), (), ALLOW),  # read
        ((59, 221), (), KILL),  # execve
        ((41, 198), (), KILL),  # socket
        ((257, 56), (0, 0, READ), ALLOW),  # openat
        ((257, 56), (0, 0, WRITE), REFUSED["EACCES"]),
        ((257, 56), (0, 0, 0o20200000), REFUSED["EACCES"]),  # O_TMPFILE
        ((56, 220), (0x3D0F00,), ALLOW),  # clone of a thread, as glibc makes it
        ((56, 220), (17,), KILL),  # clone as fork
        ((234, 131), (MINE, 1, 6), ALLOW),  # tgkill
        ((234, 131), (OTHER, 1, 6), KILL),
        ((302, 261), (0, 7, 0, 1), ALLOW),  # prlimit64, to read
        ((302, 261), (0, 7, 1 << 32, 1), REFUSED["EPERM"]),  # to set; the pointer has zeros in its low half
        ((302, 261), (OTHER, 7, 0, 1), REFUSED["EPERM"]),
        ((72, 25), (3, 3), ALLOW),  # fcntl: F_GETFL
        ((72, 25), (3, 8, OTHER), REFUSED["EPERM"]),  # F_SETOWN
        ((157, 167), (1, 0), REFUSED["EPERM"]),  # prctl: PR_SET_PDEATHSIG
        ((319, 279), (), REFUSED["EPERM"]),  # memfd_create
        ((435, 435), (), REFUSED["ENOSYS"]),  # clone3: glibc then calls clone
        ((425, 425), (), REFUSED["ENOSYS"]),  # io_uring_setup
        ((0x40000000 | 59, 0x40000000 | 59), (), KILL),  # the x32 interface
    ]
    for numbers, arguments, expected in cases:
        decision = decide(code, arch=arch, number=numbers[column], arguments=arguments)
        assert decision == expected, (numbers, arguments)
    assert decide(strict, arch=arch, number=(257, 56)[column], arguments=(0, 0, READ)) == REFUSED["EACCES"]
    for other in (0x40000003, 0xC000003E, 0xC00000B7):  # i386: the same numbers are other calls
        if other != arch:
            assert decide(code, arch=other, number=0) == KILL


def test_no_system_call_is_in_two_tables_and_each_number_stands_once() -> None:
    for machine in seccomp.ARCHITECTURES:
        tables = seccomp.calls(machine)
        found = [number for table in tables.values() for number in table.values()]
        assert len(found) == len({*found})
        assert len({name for table in tables.values() for name in table}) == len(found)


HEADERS = {
    "x86_64": (Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), r"#define __NR_(\w+) (\d+)"),
    "aarch64": (Path("/usr/include/asm-generic/unistd.h"), r"#define __NR(?:3264)?_(\w+)\s+(\d+)"),
}


@pytest.mark.parametrize("machine", HEADERS)
def test_the_numbers_are_those_of_the_kernels_headers(machine: str) -> None:
    header, line = HEADERS[machine]
    if not header.exists():
        pytest.skip("the headers of Linux are not installed")
    known = {name: int(number) for name, number in re.findall(line, header.read_text())}
    known.setdefault("newfstatat", known.get("fstatat", -1))
    for table in seccomp.calls(machine).values():
        assert table.items() <= known.items()


@pytest.fixture(scope="module")
def port() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        yield str(server.getsockname()[1])
        with pytest.raises(BlockingIOError):
            server.accept()  # nobody came


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "secret").write_text("key")
    write_video(tmp_path / "lent.mp4", VideoRecipe(num_frames=30))
    with socket.socket(socket.AF_UNIX) as unix:
        monkeypatch.chdir(tmp_path)  # the path may be too long for a socket
        unix.bind("unix")
        unix.listen()
        yield tmp_path


class Bench:
    """A worker whose videos attack."""

    def __init__(self, port: str, *, sandbox: bool = True) -> None:
        self._port, self._work = port, Attacked()
        allowance = Allowance(seconds=60, memory_bytes=2**30, sandbox=sandbox)
        shape = (1, 1, 8, 8, 3)
        self.stage = MakeClips(work=self._work, detector="none", shape=shape, allowance=allowance, attempts=1)

    def row_after(self, attack: str, folder: Path) -> dict[str, object]:
        """Return the row of a video that tries ``attack``."""
        self._work.attack = f"{attack}|{folder}|{self._port}"  # the worker names the files
        video = {"video_id": attack, "uri": str(folder / "lent.mp4"), "size_bytes": 0}
        row: dict[str, object] = self.stage(pa.Table.from_pylist([video], schema=MANIFEST)).to_pylist()[0]
        return row


@pytest.fixture(scope="module")
def bench(port: str) -> Iterator[Bench]:
    made = Bench(port)
    yield made
    made.stage._isolated.close()


def state(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Return mode, size and time of change of the files of a folder."""
    found = {path.name: path.stat() for path in folder.iterdir()}
    return {name: (facts.st_mode, facts.st_size, facts.st_mtime_ns) for name, facts in found.items()}


@pytest.mark.slow
@pytest.mark.skipif(not LINUX, reason="the sandbox needs Linux")
@pytest.mark.parametrize("attack", ATTACKS)
def test_what_a_file_tries_from_inside_its_decoder_is_refused_and_the_file_is_rejected(
    attack: str, folder: Path, bench: Bench
) -> None:
    before = state(folder)
    row = bench.row_after(attack, folder)
    if not {"landlock", "seccomp"} <= {*row["sandbox"]}:  # type: ignore[misc]
        pytest.skip("this kernel has no Landlock or no seccomp")
    assert row["reject_code"] in ("unreadable", "crashed")
    if row["reject_code"] == "crashed":
        assert "SIGSYS" in str(row["reject_detail"])
    assert state(folder) == before


@pytest.mark.slow
@pytest.mark.logs_an_error
@pytest.mark.skipif(not LINUX, reason="the sandbox needs Linux")
def test_a_video_that_does_nothing_is_decoded_and_attacks_succeed_without_the_sandbox(
    folder: Path, bench: Bench, port: str
) -> None:
    assert "30 frames decoded" in str(bench.row_after("none", folder)["reject_detail"])
    open_to_all = Bench(port, sandbox=False)
    for attack in ("read a file", "fork", "make a folder"):
        row = open_to_all.row_after(attack, folder)
        assert "succeeded" in str(row["reject_detail"])
        assert row["sandbox"] == []


CLOSED = """
import os, sys
from dfdm_ray.clips import landlock, sandbox, seccomp
{change}
held = sandbox.close(memory_bytes=2**30)
print({{name: reason for name, reason in held.items() if reason}})
for path, flags in ((os.__file__, os.O_RDONLY), ("/etc/passwd", os.O_RDONLY), ("/tmp/new", os.O_CREAT)):
    try:
        os.open(path, flags)
        print("opened")
    except OSError as error:
        print(error.strerror)
sys.stdout.flush()
{end}
"""


def closed(change: str = "", end: str = "") -> tuple[list[str], int]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OPENBLAS_NUM_THREADS": "1"}
    script = CLOSED.format(change=change, end=end)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, env=environment, check=False)
    return done.stdout.decode().splitlines(), done.returncode


@pytest.mark.skipif(not LINUX or not landlock.version(), reason="this kernel has no Landlock")
@pytest.mark.parametrize(
    ("change", "lacks", "opened"),
    [
        ("", [], ["opened", "Permission denied", "Permission denied"]),
        # without Landlock no file may be opened at all
        ("landlock.version = lambda: 0", ["landlock"], ["Permission denied"] * 3),
        # a thread that Landlock would not restrict
        (
            "import threading, time; threading.Thread(target=time.sleep, args=[9], daemon=True).start()",
            ["landlock"],
            ["Permission denied"] * 3,
        ),
        # another machine: no filter, and Landlock holds
        (
            "seccomp.platform.machine = lambda: 'riscv64'",
            ["seccomp"],
            ["opened", "Permission denied", "Permission denied"],
        ),
    ],
)
def test_each_layer_holds_without_the_others(change: str, lacks: list[str], opened: list[str]) -> None:
    printed, returncode = closed(change, "import time; time.sleep(0.01)")
    assert sorted(eval(printed[0])) == lacks
    assert printed[1:4] == opened
    assert returncode == 0


@pytest.mark.skipif(not LINUX, reason="the sandbox needs Linux")
def test_a_thread_may_be_made_and_abort_is_an_abort() -> None:
    thread = "import threading\none = threading.Thread(target=print, args=['ran'])\none.start()\none.join()"
    if os.getuid() == 0:  # RLIMIT_NPROC counts nobody but root
        printed, returncode = closed("", thread)
        assert (printed[-1], returncode) == ("ran", 0)
    assert closed("", "os.abort()")[1] == -signal.SIGABRT
    assert closed("", "os.kill(os.getppid(), 0)")[1] == -signal.SIGSYS


def test_what_does_not_hold_is_one_clause() -> None:
    layers = {"limits": "", "landlock": "the kernel offers none", "seccomp": "Function not implemented"}
    assert sandbox.missing(layers) == "landlock (the kernel offers none), seccomp (Function not implemented)"
    assert sandbox.missing(dict.fromkeys(sandbox.LAYERS, "")) == ""
