"""A run of `generate` that is killed, or whose workers are, ends with the files of one that is not."""

import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from dfdm_ray import assets

pytestmark = pytest.mark.e2e

ITERATIONS = 400
"""Enough to outlast a checkpoint, 100 iterations, and to be caught in the act."""


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("people") / "people.csv"
    with path.open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["identity", "video"])
        rows.writerow(["driver", assets.get("carphone_pristine.mp4")])
        rows.writerow(["man", assets.get("single_face.mp4")])
    return path


@contextmanager
def generate(people: Path, out: Path) -> Iterator[psutil.Popen]:
    """Start the job as a user would; whatever it started is gone afterwards."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    flags = "--generators faceswap iae --scene-frames 20 --scenes-per-identity 2 --max-frames 60"
    train = f"--train.iterations {ITERATIONS} --train.width 0.05 --train.batch-size 2 --train.face-px 64"
    paths = ["--identities", str(people), "--out", str(out)]
    job = psutil.Popen(
        [sys.executable, "-m", "dfdm_ray.cli", "generate", *paths, *flags.split(), *train.split()],
        env={**environment, "RAY_USAGE_STATS_ENABLED": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    started = {job.pid: job}
    try:
        yield job
    finally:
        started |= {one.pid: one for one in job.children(recursive=True)} if job.is_running() else {}
        for one in started.values():
            if one.is_running():
                one.kill()


def wait_until(happened: Callable[[], object], job: psutil.Popen, *, limit_s: float = 240) -> None:
    end = time.monotonic() + limit_s
    while not happened():
        assert job.poll() is None, job.stdout.read()
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def kill_driver(job: psutil.Popen, *, limit_s: float = 60) -> None:
    """Kill the job; its workers end by themselves, and Ray's agents, which take longer, are killed too."""
    processes = job.children(recursive=True)
    workers = [one for one in processes if "ray::train" in command_of(one)]
    job.kill()
    end = time.monotonic() + limit_s
    while any(is_alive(one) for one in workers):
        assert time.monotonic() < end, f"workers outlive their driver: {workers}"
        time.sleep(0.1)
    for one in processes:
        with suppress(psutil.NoSuchProcess):
            one.kill()


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE  # dead, and buried by nobody
    except psutil.NoSuchProcess:
        return False


def command_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def finish(job: psutil.Popen) -> str:
    out, _ = job.communicate(timeout=400)
    assert job.returncode == 0, out
    return out


def iterations_done(out: Path) -> int:
    return sum(int(path.read_text() or 0) for path in out.glob("work/models/*/*/progress.txt"))


def kill_worker(job: psutil.Popen, task: str) -> bool:
    """Kill a worker that runs a task of that name; whether there was one."""
    for one in job.children(recursive=True):
        if f"ray::{task}" in command_of(one):
            one.kill()
            return True
    return False


def files(out: Path) -> set[str]:
    kept = {"progress.txt"}  # how far a training is, of no use once it is over
    return {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file() and path.name not in kept}


@pytest.fixture(scope="module")
def undisturbed(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    with generate(people, out) as job:
        finish(job)
    return out


def assert_same_dataset(out: Path, undisturbed: Path) -> None:
    assert files(out) == files(undisturbed)
    for path in undisturbed.glob("work/models/*/*/result.json"):
        again = json.loads((out / path.relative_to(undisturbed)).read_text())
        assert again == pytest.approx(json.loads(path.read_text()), abs=0.01)
    for path in undisturbed.rglob("*.mp4"):
        assert (out / path.relative_to(undisturbed)).read_bytes() == path.read_bytes()


def test_a_driver_killed_while_it_trains_is_continued_by_the_same_command(
    people: Path, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with generate(people, out) as job:
        wait_until(lambda: 100 <= iterations_done(out) < 2 * ITERATIONS, job)
        kill_driver(job)
    assert not list(out.rglob("*.mp4"))
    with generate(people, out) as job:
        finish(job)
    assert_same_dataset(out, undisturbed)


def test_workers_killed_in_training_and_in_conversion_are_replaced(
    people: Path, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with generate(people, out) as job:
        wait_until(lambda: iterations_done(out) >= 100 and kill_worker(job, "train"), job)
        wait_until(lambda: list(out.rglob("*.mp4")) and kill_worker(job, "convert"), job)
        finish(job)
    assert_same_dataset(out, undisturbed)
