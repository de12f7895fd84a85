"""Jobs that are run as a user would and killed, or whose workers are."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

import psutil
import ray


@contextmanager
def dfdm_ray(
    *arguments: str, variables: Mapping[str, str] | None = None, joins: bool = False
) -> Iterator[psutil.Popen]:
    """Start the job as a user would; its children are gone afterwards.

    Args:
        joins: Whether the job joins the Ray of this process; without, it has its own.
    """
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    if joins:
        environment["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
    job = psutil.Popen(
        [sys.executable, "-m", "dfdm_ray.cli", *arguments],
        env={**environment, "RAY_USAGE_STATS_ENABLED": "0", **(variables or {})},
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


def workers(name: str) -> list[psutil.Process]:
    """Return the living workers of that name, of the Ray of this process or of a job."""
    processes = psutil.Process().children(recursive=True)
    return [one for one in processes if f"ray::{name}" in command_of(one) and is_alive(one)]


def kill_driver(job: psutil.Popen, *, worker: str, limit_s: float = 60) -> None:
    """Kill the job; workers of that name end by themselves, and its agents, which take longer, are killed."""
    own, its_workers = job.children(recursive=True), workers(worker)
    assert its_workers
    job.kill()
    end = time.monotonic() + limit_s
    while any(is_alive(one) for one in its_workers):
        assert time.monotonic() < end, f"workers outlive their driver: {its_workers}"
        time.sleep(0.1)
    for one in own:
        with suppress(psutil.NoSuchProcess):
            one.kill()


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE  # dead, and buried by nobody
    except psutil.NoSuchProcess:
        return False


def command_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()).strip()  # Ray pads its titles
    except psutil.NoSuchProcess:
        return ""


def finish(job: psutil.Popen, *, limit_s: float = 400) -> str:
    out, _ = job.communicate(timeout=limit_s)
    assert job.returncode == 0, out
    return out


def kill_worker(worker: str) -> bool:
    """Kill one worker of that name; whether there was one."""
    for one in workers(worker)[:1]:
        one.kill()
        return True
    return False
