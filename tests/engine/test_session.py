import os
import socket

import pytest

from dfdm_ray.engine import session as cluster
from dfdm_ray.engine.session import require_cluster, without_restart_warning
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
