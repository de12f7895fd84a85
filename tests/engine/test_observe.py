"""Faults that a run survived, as the driver counts them."""

from typing import Any

import pytest
from ray.core.generated.common_pb2 import NodeDeathInfo

from dfdm_ray.clips.sandbox import LAYERS
from dfdm_ray.engine.observe import lost_nodes, unconfined


def node(reason: int, message: str = "", *, alive: bool = False) -> dict[str, Any]:
    """A node as ``ray.nodes()`` describes it."""
    return {"NodeID": "n", "Alive": alive, "DeathReason": reason, "DeathReasonMessage": message}


@pytest.mark.parametrize(
    ("found", "lost"),
    [
        (node(NodeDeathInfo.UNSPECIFIED, alive=True), False),
        (node(NodeDeathInfo.UNEXPECTED_TERMINATION, "health check failed"), True),
        # a spot node, and one that was evicted or stopped by hand
        (node(NodeDeathInfo.AUTOSCALER_DRAIN_PREEMPTED), True),
        (node(NodeDeathInfo.EXPECTED_TERMINATION, "received SIGTERM"), True),
        # an autoscaler that found them idle: of Kubernetes, and of `ray up`
        (node(NodeDeathInfo.AUTOSCALER_DRAIN_IDLE, "Termination of node that's idle"), False),
        (node(NodeDeathInfo.EXPECTED_TERMINATION, "Terminated by autoscaler."), False),
    ],
)
def test_nodes_that_an_autoscaler_removed_as_idle_are_not_lost(found: dict[str, Any], lost: bool) -> None:
    assert lost_nodes([found]) == ({"n"} if lost else set())


def test_nodes_that_lack_a_layer_of_the_sandbox_are_one_line() -> None:
    assert unconfined({"a": LAYERS}) is None
    assert unconfined({}) is None
    some = unconfined({"a": LAYERS, "c": LAYERS[:4], "b": LAYERS[:3]})
    assert some == "decoding processes on b and 1 more nodes ran without landlock, seccomp; see SECURITY.md"
