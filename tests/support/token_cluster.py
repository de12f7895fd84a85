"""A Ray cluster with token authentication whose nodes are processes of this machine."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

from support.cluster_files import REPOSITORY, commands, fences

RAY = str(Path(sys.executable).with_name("ray"))
TOKEN = "0123456789abcdef" * 2
START_S = 300.0
ATTEMPTS = 3
PATIENCE = {"RAY_raylet_start_wait_time_s": "120", "RAY_health_check_timeout_ms": "60000"}
"""For a busy machine, and for nodes that a test stops for a minute."""
CALM = {
    "RAY_LOG_MONITOR_MANY_FILES_THRESHOLD": "0",
    "LOG_NAME_UPDATE_INTERVAL_S": "3",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_worker_niceness": "0",
    "RAY_local_fs_capacity_threshold": "0.999",
}
"""Ray looks for new log files every 3 s; its default, all the time, takes a tenth of a core. Ray Train starts
no actor to watch for nodes that are about to go. Workers need not wait for the other tests. A disk that
others have filled is no fault of the tests."""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@dataclass(kw_only=True)
class TokenCluster:
    """Nodes of one CPU each; :meth:`start` adds one."""

    folder: Path
    gcs_port: int = field(default_factory=free_port)
    dashboard_port: int = field(default_factory=free_port)
    metrics_port: int = field(default_factory=free_port)
    nodes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    temporary: str = field(default_factory=lambda: tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    """Ray's folder, with a short path. Ray gives a job the address in a file of this folder, which the next
    Ray of the machine overwrites if they share it."""

    def __post_init__(self) -> None:
        (self.folder / "token").write_text(TOKEN)

    @property
    def address(self) -> str:
        """Where drivers join."""
        return f"127.0.0.1:{self.gcs_port}"

    @property
    def dashboard(self) -> str:
        """Where jobs are submitted."""
        return f"http://127.0.0.1:{self.dashboard_port}"

    @property
    def environment(self) -> dict[str, str]:
        """Variables of a person with the token, in an activated environment."""
        plain = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.folder / "token")}
        token["RAY_TMPDIR"] = self.temporary
        return {**plain, **token, "RAY_USAGE_STATS_ENABLED": "0", "PATH": path, "COLUMNS": "110"}

    def start_head(self) -> None:
        """Start the head with the documented options and wait until it takes jobs."""
        documented = next(words for words in commands("\n".join(fences())) if words[:2] == ["ray", "start"])
        ports = [f"--port={self.gcs_port}", f"--dashboard-port={self.dashboard_port}"]
        ports += [f"--metrics-export-port={self.metrics_port}", f"--ray-client-server-port={free_port()}"]
        job = json.dumps({"entrypoint": "true"}).encode()
        self._start("head", *documented[2:], *ports, until=lambda: self.ask("/api/jobs/", job) is not None)

    def start(self, name: str, *, paths: tuple[Path, ...] = (REPOSITORY,)) -> None:
        """Start a node whose Python looks into ``paths`` first, and wait until it has joined."""
        wanted = len(self.nodes) + 1
        options = [f"--address={self.address}", f"--metrics-export-port={free_port()}"]
        self._start(name, *options, until=lambda: self.num_alive() == wanted, paths=paths)

    def stop_last(self, *, num_nodes: int) -> None:
        """Kill the nodes that were started last, but for ``num_nodes``, and wait until the head knows."""
        while len(self.nodes) > num_nodes:
            kill_group(self.nodes.pop())
        deadline = time.monotonic() + START_S
        while self.num_alive() != num_nodes:
            assert time.monotonic() < deadline, "killed nodes are still counted"
            time.sleep(0.5)

    def num_alive(self) -> int:
        answer = self.ask("/nodes?view=summary") or {"data": {"summary": []}}
        return sum(node["raylet"].get("state") == "ALIVE" for node in answer["data"]["summary"])

    def ask(self, path: str, content: bytes | None = None) -> dict[str, Any] | None:
        """Return the dashboard's answer, ``None`` if it gives none."""
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        with (
            suppress(URLError, ConnectionError, TimeoutError),
            urlopen(Request(self.dashboard + path, content, headers), timeout=60) as answer,
        ):
            return dict(json.load(answer))
        return None

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _start(
        self, name: str, *options: str, until: Callable[[], bool], paths: tuple[Path, ...] = (REPOSITORY,)
    ) -> None:
        node = started(lambda: self._process(name, *options, paths=paths), until, self.log(name))
        self.nodes.append(node)

    def _process(self, name: str, *options: str, paths: tuple[Path, ...]) -> subprocess.Popen[bytes]:
        # Every port of its own: another Ray on this machine, as that of other tests, may hold the defaults.
        agent = [f"--dashboard-agent-{kind}-port={free_port()}" for kind in ("listen", "grpc")]
        command = [RAY, "start", "--block", "--num-cpus=1", "--min-worker-port=0", "--max-worker-port=0"]
        path = os.pathsep.join(map(str, paths))
        with self.log(name).open("ab") as stream:
            return subprocess.Popen(
                [*command, *agent, *options],
                env={**self.environment, **PATIENCE, **CALM, "PYTHONPATH": path},
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


def started(
    start: Callable[[], subprocess.Popen[bytes]], until: Callable[[], bool], log: Path
) -> subprocess.Popen[bytes]:
    """Start a node and wait for ``until``, more than once.

    On a busy machine Ray gives up too early, or another process takes a port that was free.
    """
    deadline = time.monotonic() + START_S
    for _ in range(ATTEMPTS):
        node = start()
        while node.poll() is None and time.monotonic() < deadline:
            if until():
                return node
            time.sleep(0.5)
        kill_group(node)
    raise AssertionError(log.read_text())


@contextmanager
def run_token_cluster(folder: Path) -> Iterator[TokenCluster]:
    """Run a head as documented and two more nodes, a CPU each."""
    cluster = TokenCluster(folder=folder)
    try:
        cluster.start_head()
        for name in ("node-1", "node-2"):  # one after the other: of two that start at once, one may give up
            cluster.start(name)
        yield cluster
    finally:
        for node in cluster.nodes:  # all of it is ours; an orderly end takes half a minute
            kill_group(node)
        shutil.rmtree(cluster.temporary, ignore_errors=True)


def kill_group(node: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(node.pid, signal.SIGKILL)
    node.wait(timeout=60)
