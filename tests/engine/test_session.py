import os
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc  # type: ignore[import-untyped]
import pytest

from dfdm_ray.engine import session as cluster
from dfdm_ray.engine.session import ray_session, require_cluster, without_restart_warning
from dfdm_ray.errors import UserError

UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_where_nothing_listens_is_told_at_once(scheme: str) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        address = f"{scheme}127.0.0.1:{sock.getsockname()[1]}"  # bound, but nobody listens
        with pytest.raises(UserError, match="no Ray cluster answers at"):
            require_cluster(address)


def test_a_listener_that_is_no_ray_is_told_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_ANSWER_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(UserError, match=rf"no Ray cluster answers at {address}: something else listens"):
            require_cluster(address)


class Refuses(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc publishes no types
    """A head with another token."""

    def service(self, handler_call_details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(lambda _, call: call.abort(UNAUTHENTICATED, ""))


def test_a_job_that_ray_sends_to_another_cluster_of_its_machine_says_how_to_name_the_right_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    head = grpc.server(ThreadPoolExecutor(1), handlers=[Refuses()])
    address = f"127.0.0.1:{head.add_insecure_port('127.0.0.1:0')}"
    head.start()
    try:
        with pytest.raises(UserError, match=r"refuses this token: .*RAY_AUTH_TOKEN_PATH$"):
            require_cluster(address)
        monkeypatch.setenv(cluster._SUBMITTED, '{"metadata": {"job_submission_id": "a"}}')
        with pytest.raises(UserError, match=r"if several Ray clusters .*, name yours with --ray-address"):
            require_cluster(address)
    finally:
        head.stop(None)


def test_words_for_addresses_pass() -> None:
    for word in ("auto", "local"):
        require_cluster(word)


def test_one_line_of_rays_core_is_held_back_and_all_else_is_passed_on(
    capfd: pytest.CaptureFixture[str],
) -> None:
    warning = (
        b"E core_worker.cc: Actor X has constructor arguments in the object store and max_restarts > 0.\n"
    )

    def run_and_fail() -> None:
        with without_restart_warning():
            os.write(2, b"before\n" + warning + b"E core_worker.cc: another error\n")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_and_fail()
    os.write(2, b"later\n")
    assert capfd.readouterr().err == "before\nE core_worker.cc: another error\nlater\n"


LATE = Exception(
    "The current node timed out during startup. This could happen because some of the raylet failed"
)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            OSError("AF_UNIX path length cannot exceed 107 bytes: /a/b"),
            "too long; set RAY_TMPDIR to a shorter one",
        ),
        (LATE, r"not ready in time, because the machine is busy or RAY_TMPDIR \(.* is full; correct"),
        (RuntimeError("Timed out waiting for file /tmp/ray/gcs_server_port_1"), "not ready in time, because"),
        (
            OSError(28, "No space left on device", "/tmp/ray"),
            "No space left .* set RAY_TMPDIR to a folder with",
        ),
        (RuntimeError("no GCS"), "cannot join Ray at local: no GCS"),
    ],
)
def test_a_ray_that_does_not_start_is_one_line_with_the_remedy(
    error: Exception, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(cluster.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(cluster.ray, "init", fail)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(UserError, match=says), ray_session(None):
        pass
