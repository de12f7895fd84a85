"""Nodes that join and go, and a head with an autoscaler whose nodes are processes of this machine."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray._raylet import GcsClient
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID, FAKE_HEAD_NODE_TYPE
from ray.core.generated import gcs_pb2

from dfdm_ray.engine.session import alive_nodes
from support.token_cluster import CALM, PATIENCE, RAY, free_port, kill_group, started

_FAKE = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
"""By its name, because Ray's wheel lacks the default settings for its own name of this provider."""
_OPTIONS = ("launch_multiple", "use_node_id_as_ip", "disable_node_updaters", "disable_launch_config_check")
_COMMANDS = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
_messages: Any = gcs_pb2  # made by protobuf, without types


def until(happened: Callable[[], object], *, limit_s: float = 200) -> None:
    end = time.monotonic() + limit_s
    while not happened():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.2)


@contextmanager
def joined_node(folder: Path, *, cpus: int) -> Iterator[subprocess.Popen[bytes]]:
    """Add a node to the Ray of this process; it has joined when the block begins, and is gone at the end."""
    before = len(alive_nodes())
    options = (f"--address={ray.get_runtime_context().gcs_address}", f"--num-cpus={cpus}")
    node = started(lambda: _start(folder, *options), lambda: len(alive_nodes()) > before, folder / "node.log")
    try:
        yield node
    finally:
        if node.poll() is None:
            os.killpg(node.pid, signal.SIGTERM)
        until(lambda: len(alive_nodes()) == before)
        kill_group(node)


@contextmanager
def autoscaling_head(
    folder: Path, *, cpus: int, most_nodes: int, idle_s: float
) -> Iterator[tuple[str, Callable[[], int]]]:
    """Run a head without CPUs that starts nodes of ``cpus`` CPUs when they are asked for.

    Yields its address and a function that counts the other nodes. ``ray.cluster_utils.AutoscalingCluster``
    would end every other Ray of this machine.
    """
    port = free_port()
    address = f"127.0.0.1:{port}"
    kind = {"resources": {"CPU": cpus, "object_store_memory": 10**8}, "node_config": {}}
    provider = {"type": "external", "module": _FAKE, "head_node_id": FAKE_HEAD_NODE_ID}
    provider |= {"gcs_address": address, **dict.fromkeys(_OPTIONS, True)}
    content = {
        "cluster_name": "elastic",
        "max_workers": most_nodes,
        "provider": provider,
        "available_node_types": {
            FAKE_HEAD_NODE_TYPE: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "worker": {**kind, "min_workers": 0, "max_workers": most_nodes},
        },
        "head_node_type": FAKE_HEAD_NODE_TYPE,
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": idle_s / 60,
        "auth": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
        **{f"{name}_commands": [] for name in _COMMANDS},
    }
    settings = folder / "autoscaler.json"
    settings.write_text(json.dumps(content))
    head = _start(
        folder,
        *("--head", f"--port={port}", "--num-cpus=0", f"--autoscaling-config={settings}"),
        *(f"--dashboard-port={free_port()}", f"--ray-client-server-port={free_port()}"),
        RAY_AUTH_MODE="disabled",
        RAY_FAKE_CLUSTER="1",
        RAY_enable_autoscaler_v2="1",
        AUTOSCALER_UPDATE_INTERVAL_S="1",
        RAY_CLOUD_INSTANCE_ID=FAKE_HEAD_NODE_ID,
        RAY_OVERRIDE_NODE_ID_FOR_TESTING=FAKE_HEAD_NODE_ID,
    )
    try:
        until(lambda: head.poll() is None and _answers(port) and _num_alive(address) == 1)
        yield address, lambda: _num_alive(address) - 1
    finally:
        kill_group(head)


def _answers(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def _num_alive(address: str) -> int:
    """Return the number of nodes of a cluster that this process has not joined."""
    client = GcsClient(address=address)
    return sum(node.state == _messages.GcsNodeInfo.ALIVE for node in client.get_all_node_info().values())


def _start(folder: Path, *options: str, **variables: str) -> subprocess.Popen[bytes]:
    ports = [f"--dashboard-agent-{kind}-port={free_port()}" for kind in ("listen", "grpc")]
    command = [RAY, "start", "--block", "--min-worker-port=0", "--max-worker-port=0", *ports]
    command.append(f"--metrics-export-port={free_port()}")
    with (folder / "node.log").open("ab") as log:
        return subprocess.Popen(
            [*command, *options],
            env={**os.environ, **PATIENCE, **CALM, **variables},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
