import os
import socket

import pytest

from dfdm_ray.engine import session as cluster
from dfdm_ray.engine.session import ray_session, require_cluster, without_restart_warning
from dfdm_ray.errors import UserError


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
