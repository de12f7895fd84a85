"""Join or start Ray."""

import json
import logging
import os
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray
import ray.data

from dfdm_ray.errors import UserError

_CONNECT_S, _ANSWER_S = 10.0, 30.0
_TOKEN_PLACES = "the cluster's into ~/.ray/auth_token, or name its file in RAY_AUTH_TOKEN_PATH"
_RESTART_WARNING = b"has constructor arguments in the object store and max_restarts > 0"
_SUBMITTED = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set by Ray for drivers that `ray job submit` starts (``ray/_private/runtime_env/constants.py``)."""


@contextmanager
def ray_session(address: str | None, *, worker_output: bool = True) -> Iterator[None]:
    """Join the Ray cluster at ``address`` or ``RAY_ADDRESS``; without either, run one while the block runs.

    A cluster that is already joined is used and left running. The output of workers is shown here if
    ``worker_output``; their errors always are.

    Raises:
        UserError: If there is no cluster at the address.
    """
    _quieten_ray_data()
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # one error is raised; Ray would log each other
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    chosen = chosen_address(address)
    _quieten("ray._private.authentication")  # reports that token authentication is on
    require_cluster(chosen)
    options: dict[str, Any] = {"include_dashboard": False} if chosen == "local" else {}
    try:
        ray.init(address=chosen, logging_level=logging.WARNING, log_to_driver=worker_output, **options)
    except Exception as error:  # Ray raises no common type, and a plain Exception if it is late
        raise UserError(no_ray(chosen, error)) from error
    try:
        yield
    finally:
        ray.shutdown()


def no_ray(address: str, error: Exception) -> str:
    """Return the line about a Ray that does not start or cannot be joined, with a remedy."""
    text = str(error)
    if "AF_UNIX path length" in text:
        return "cannot start Ray: the path of its folder is too long; set RAY_TMPDIR to a shorter one"
    if address == "local" and "timed out" in text.lower():
        return (
            "cannot start Ray: it was not ready in time, because the machine is busy or RAY_TMPDIR (default: "
            "/tmp) is full; correct this, or give the --ray-address of a running cluster"
        )
    if address == "local" and isinstance(error, OSError) and error.filename:
        return f"cannot start Ray: {text}; set RAY_TMPDIR to a folder with space that you may write"
    return f"cannot join Ray at {address}: {text}"


def chosen_address(address: str | None) -> str:
    """Return the address that :func:`ray_session` joins; ``local`` means a Ray of this process."""
    return address or os.environ.get("RAY_ADDRESS") or "local"


def worker_nodes() -> list[dict[str, float]]:
    """Return the resources of each node for workers: ``CPU``, ``GPU``, ``memory`` (bytes), others.

    Resources that this driver holds on its node (``ray job submit --entrypoint-num-cpus``) are left out: a
    worker that needs them would wait as long as the driver lives.
    """
    held, nodes = _held_by_driver(), alive_nodes()
    here = ray.get_runtime_context().get_node_id() if held else ""
    return [_without(node["Resources"], held if node["NodeID"] == here else {}) for node in nodes]


def _without(resources: Mapping[str, float], held: Mapping[str, float]) -> dict[str, float]:
    """Return ``resources`` less the ``held`` ones."""
    return {name: max(0.0, amount - held.get(name, 0.0)) for name, amount in resources.items()}


def alive_nodes() -> list[dict[str, Any]]:
    """Return Ray's description of each living node, with its total ``Resources``."""
    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]  # Ray's gap


def nodes_to_come() -> list[dict[str, float]]:
    """Return the resources of a node of each kind that the cluster's autoscaler can start, if it has one."""
    from ray._private.state import state

    settings: Any = state.get_cluster_config()
    groups = settings.node_group_configs if settings else []
    return [dict(group.resources) for group in groups if group.max_count and group.resources]


def submission_id() -> str | None:
    """Return the name of the job as which this driver was submitted, if it was."""
    settings = json.loads(os.environ.get(_SUBMITTED) or "{}")
    name: str | None = settings.get("metadata", {}).get("job_submission_id")
    return name


def _held_by_driver() -> dict[str, float]:
    name = submission_id()
    if name is None:
        return {}
    # The job table is the only place where Ray stores the resources of a submitted driver.
    from ray.dashboard.modules.job.common import JobInfoStorageClient
    from ray.experimental.internal_kv import _internal_kv_get

    key = JobInfoStorageClient.JOB_DATA_KEY.format(job_id=name).encode()
    job = json.loads(_internal_kv_get(key, namespace=b"job") or b"{}")  # none: submitted to another Ray
    held = {"CPU": job.get("entrypoint_num_cpus"), "GPU": job.get("entrypoint_num_gpus")}
    held |= {"memory": job.get("entrypoint_memory"), **(job.get("entrypoint_resources") or {})}
    return {name: float(amount) for name, amount in held.items() if amount}


def require_cluster(address: str) -> None:
    """Check that a cluster at ``host:port`` accepts this driver; Ray itself would try for minutes.

    Raises:
        UserError: If nothing listens there, it is not Ray, or it refuses the token.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return  # auto, local
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
    except OSError as error:
        raise UserError(f"no Ray cluster answers at {address}: {error.strerror or error}") from error
    if not address.startswith("ray://"):
        _ask_head(address)


def _ask_head(address: str) -> None:
    import grpc  # type: ignore[import-untyped]  # publishes no types
    from ray._private.grpc_utils import init_grpc_channel
    from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc

    messages: Any = gcs_service_pb2  # made by protobuf, without types
    services: Any = gcs_service_pb2_grpc
    # Like Ray's own channels to the head: with the configured token and TLS, and without proxies.
    channel = init_grpc_channel(address, options=[("grpc.enable_http_proxy", 0)])
    head = services.NodeInfoGcsServiceStub(channel)
    try:
        head.CheckAlive(messages.CheckAliveRequest(), timeout=_ANSWER_S)
    except ray.exceptions.AuthenticationError as error:
        raise UserError(f"RAY_AUTH_MODE is token, but there is no token: put {_TOKEN_PLACES}") from error
    except grpc.RpcError as error:
        raise UserError(_refusal(address, error.code().name)) from error
    finally:
        channel.close()


def _refusal(address: str, code: str) -> str:
    if code == "UNAUTHENTICATED":
        mend = f"set RAY_AUTH_MODE=token and put {_TOKEN_PLACES}"
        if submission_id():  # Ray gives a job the address of any Ray on its machine
            mend += "; if several Ray clusters run on this machine, name yours with --ray-address"
        return f"the Ray cluster at {address} refuses this token: {mend}"
    if code == "UNIMPLEMENTED":
        return f"another service of Ray listens at {address}: give the port of the head, 6379 by default"
    return f"no Ray cluster answers at {address}: something else listens there ({code})"


@contextmanager
def without_restart_warning() -> Iterator[None]:
    """Hold back what this process writes to stderr while the block runs, without one line of Ray's core.

    For each pool of actors the core logs an error: "has constructor arguments in the object store and
    max_restarts > 0". Ray Data itself stores these arguments and keeps them as long as the pool lives, so
    nothing is wrong. The core writes past ``sys.stderr``, hence the file descriptor.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            held.seek(0)
            for line in held:
                if _RESTART_WARNING not in line:
                    os.write(2, line)


def _quieten_ray_data() -> None:
    """Turn off Ray Data's bars and INFO lines, and its text about errors that it raises as well."""
    ray.data.DataContext.get_current().enable_progress_bars = False
    _quieten("ray.data._internal.progress")
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    for name in ("ray.data.exceptions", "ray.data._internal.execution.streaming_executor_state"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _quieten(logger: str) -> None:
    logging.getLogger(logger).setLevel(logging.ERROR)
