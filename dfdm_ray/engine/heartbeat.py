"""A sign of life of the run that writes to an output folder, so that no second run begins there.

``OUT/heartbeat-<8 hexadecimal digits>.json`` contains the process and its start. Its time of change moves
every few seconds until the run ends; then it is deleted. A kill leaves it, but then the process is gone or,
on another host, the time stops. Clocks of hosts are not compared.
"""

import json
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from dfdm_ray.engine.record import now
from dfdm_ray.engine.session import submission_id
from dfdm_ray.errors import UserError, writing_to
from dfdm_ray.io import storage

_NAME = re.compile(r"heartbeat-[0-9a-f]{8}\.json")
_EVERY_S = 5.0
_WATCHED_S, _POLL_S = 20.0, 1.0
"""How long the heartbeat of another host is watched: NFS clients may show a change some seconds late."""
_CLOCK_SLACK_S = 2.0
"""Start times of a process differ by this much when the clock is set."""


def is_heartbeat(name: str) -> bool:
    """Whether a file of that name is a heartbeat."""
    return _NAME.fullmatch(name) is not None


def require_alone(root: str, *, own: str = "") -> None:
    """Check that no other run writes to ``root``, and delete heartbeats of runs that were killed.

    Args:
        own: Name of the heartbeat of this run.

    Raises:
        UserError: If another run does, with its process and start.
    """
    for name in storage.list_names(root):
        if not is_heartbeat(name) or name == own:
            continue
        uri = storage.join(root, name)
        with writing_to(root):
            run = _read(uri)
            alive = run is not None and _is_alive(uri, run)
        if run is not None and alive:
            job = f", job {run['job']}" if run.get("job") else ""
            raise UserError(
                f"another run writes to --out {root}: process {run.get('pid')} on {run.get('host')}{job}, "
                f"since {run.get('started_at')}; wait until it ends, stop it, or give a new --out"
            )
        with suppress(OSError):
            storage.remove(uri)


@contextmanager
def heartbeat(root: str) -> Iterator[str]:
    """Show while the block runs that this process writes to ``root``; yield the name of the heartbeat.

    Raises:
        UserError: If another run writes there, or nothing can be written.
    """
    name = f"heartbeat-{uuid.uuid4().hex[:8]}.json"
    uri, content = storage.join(root, name), json.dumps(_this_process()).encode()
    with writing_to(root):
        storage.write_atomic(uri, content)
    ended = threading.Event()
    thread = threading.Thread(target=_beat, args=(uri, content, ended), daemon=True)
    thread.start()
    try:
        require_alone(root, own=name)
        yield name
    finally:
        ended.set()
        thread.join(_EVERY_S)  # a store that does not answer may hold it
        with suppress(OSError):
            storage.remove(uri)


def _beat(uri: str, content: bytes, ended: threading.Event) -> None:
    while not ended.wait(_EVERY_S):
        with suppress(OSError, UserError):
            _touch(uri, content)


def _touch(uri: str, content: bytes) -> None:
    """Move the time of change; NFS clients see it sooner in the same file than in a new one."""
    if not storage.is_remote(uri):
        with suppress(FileNotFoundError):
            os.utime(storage.local_path(uri))
            return
    storage.write_atomic(uri, content)


def _this_process() -> dict[str, Any]:
    return {
        **_machine(),
        "pid": os.getpid(),
        "created_s": psutil.Process().create_time(),
        "started_at": now(),
        "job": submission_id(),
    }


def _machine() -> dict[str, Any]:
    """Return what two processes share that see each other's process numbers; names of hosts may repeat."""
    machine = {"host": socket.gethostname()}
    with suppress(OSError):
        machine["namespace"] = os.readlink("/proc/self/ns/pid")
        machine["boot"] = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return machine


def _read(uri: str) -> dict[str, Any] | None:
    """Return the content of a heartbeat, ``{}`` if it cannot be read; ``None`` if it has ended or is none."""
    try:
        with storage.open_input(uri) as stream:
            return dict(json.loads(stream.read()))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    except OSError:
        return {}


def _is_alive(uri: str, run: dict[str, Any]) -> bool:
    if _machine().items() <= run.items():
        try:
            process = psutil.Process(run["pid"])
            same = abs(process.create_time() - run["created_s"]) < _CLOCK_SLACK_S
            return bool(same and process.status() != psutil.STATUS_ZOMBIE)  # dead, but not yet reaped
        except psutil.NoSuchProcess:
            return False
    end = time.monotonic() + _WATCHED_S
    with suppress(FileNotFoundError):  # it has just ended
        first_ns = storage.modified_ns(uri)
        while time.monotonic() < end:
            time.sleep(_POLL_S)
            if storage.modified_ns(uri) != first_ns:
                return True
    return False
