"""Joining or starting Ray, quietly."""

import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
import ray.data

from dfdm_ray.errors import UserError

_CONNECT_S = 10.0
_SUBMITTED = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set by Ray for drivers that `ray job submit` starts (``ray/_private/runtime_env/constants.py``)."""


@contextmanager
def ray_session(address: str | None, *, worker_output: bool = True) -> Iterator[None]:
    """Join the Ray cluster at ``address`` or ``RAY_ADDRESS``, else run one in this process meanwhile.

    A Ray that is already joined is used as it is and left running. What workers print is shown here if
    ``worker_output``; their errors are in any case.

    Raises:
        UserError: If there is no cluster at the address.
    """
    _quieten_ray_data()
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    chosen = address or os.environ.get("RAY_ADDRESS") or "local"
    _quieten("ray._private.authentication")  # says that token authentication is on
    require_listener(chosen)
    options: dict[str, Any] = {"include_dashboard": False} if chosen == "local" else {}
    try:
        ray.init(address=chosen, logging_level=logging.WARNING, log_to_driver=worker_output, **options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(f"cannot join Ray at {chosen}: {error}") from error
    try:
        yield
    finally:
        ray.shutdown()


def worker_resources() -> dict[str, float]:
    """Return what the joined Ray has for workers: ``CPU``, ``GPU``, ``memory`` (bytes) and others.

    That is all but what this driver itself holds by ``ray job submit --entrypoint-num-cpus`` and the like:
    a worker that counts on it waits as long as the driver lives.
    """
    total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]  # Ray's gap
    for name, amount in _held_by_driver().items():
        total[name] = max(0.0, total.get(name, 0.0) - amount)
    return total


def _held_by_driver() -> dict[str, float]:
    if _SUBMITTED not in os.environ:
        return {}
    # Ray tells a driver what it was submitted with nowhere else.
    from ray.dashboard.modules.job.common import JobInfoStorageClient
    from ray.experimental.internal_kv import _internal_kv_get

    name = json.loads(os.environ[_SUBMITTED])["metadata"]["job_submission_id"]
    key = JobInfoStorageClient.JOB_DATA_KEY.format(job_id=name).encode()
    told = json.loads(_internal_kv_get(key, namespace=b"job") or b"{}")  # nothing: submitted to another Ray
    held = {"CPU": told.get("entrypoint_num_cpus"), "GPU": told.get("entrypoint_num_gpus")}
    held |= {"memory": told.get("entrypoint_memory"), **(told.get("entrypoint_resources") or {})}
    return {name: float(amount) for name, amount in held.items() if amount}


def require_listener(address: str) -> None:
    """Tell at once that nothing listens at ``host:port``; Ray itself would try for many minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return  # auto, local
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
    except OSError as error:
        raise UserError(f"no Ray cluster answers at {address}: {error.strerror or error}") from error


def _quieten_ray_data() -> None:
    """Turn off Ray Data's own bars and INFO lines: this package shows progress by videos."""
    ray.data.DataContext.get_current().enable_progress_bars = False
    _quieten("ray.data._internal.progress")
    logging.getLogger("ray.data").setLevel(logging.WARNING)


def _quieten(logger: str) -> None:
    logging.getLogger(logger).setLevel(logging.ERROR)
