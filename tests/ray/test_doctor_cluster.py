"""`dfdm-ray doctor` on real nodes: sound, without the package, with an old library, and stopped."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support.hidden_package import hide_package
from test_ray_job_submit import REPOSITORY, START_S, free_port, start_node

pytestmark = [pytest.mark.ray, pytest.mark.e2e]


@dataclass(kw_only=True)
class RealCluster:
    """Nodes that are processes of this machine, started one after the other."""

    folder: Path
    environment: dict[str, str]
    address: str
    nodes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, name: str, *options: str, paths: tuple[Path, ...] = (REPOSITORY,)) -> None:
        """Start a node whose Python looks into ``paths`` first, and wait until it is there."""
        seen = {**self.environment, "PYTHONPATH": os.pathsep.join(str(path) for path in paths)}
        self.nodes.append(start_node(seen, self.log(name), *options))
        deadline = time.monotonic() + START_S
        while self.num_alive() < len(self.nodes):
            assert self.nodes[-1].poll() is None, self.log(name).read_text()
            assert time.monotonic() < deadline, "the node did not join"
            time.sleep(1)

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def num_alive(self) -> int:
        code = "import ray; ray.init(logging_level='ERROR'); print(sum(n['Alive'] for n in ray.nodes()))"
        environment = {**self.environment, "RAY_ADDRESS": self.address}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
        )
        return 0 if done.returncode else int(done.stdout.split()[-1])

    def doctor(self, *options: str, **changes: str) -> subprocess.CompletedProcess[str]:
        """Run the command in a folder that is not this repository, as a driver of its own."""
        with self.begin(*options, **changes) as run:
            out, err = run.communicate(timeout=300)
        return subprocess.CompletedProcess(run.args, run.returncode, out, err)

    def begin(self, *options: str, **changes: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "dfdm_ray.cli", "doctor", "--ray-address", self.address, *options]
        environment = {**self.environment, "PYTHONPATH": str(REPOSITORY), **changes}
        pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=self.folder, env=environment, **pipes)

    def findings(self, *options: str) -> tuple[int, list[dict[str, Any]]]:
        """Return the exit code and what is not ok."""
        done = self.doctor("--json", *options)
        assert done.stdout.startswith("{"), done.stderr
        found = json.loads(done.stdout)["findings"]
        return done.returncode, [one for one in found if one["status"] != "ok"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    """Two sound nodes with token authentication."""
    folder, port = tmp_path_factory.mktemp("doctor"), free_port()
    (folder / "token").write_text("0123456789abcdef" * 2)
    plain = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    settings = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(folder / "token")}
    made = RealCluster(
        folder=folder,
        environment={**plain, **settings, "RAY_USAGE_STATS_ENABLED": "0", "COLUMNS": "110"},
        address=f"127.0.0.1:{port}",
    )
    try:
        head = [f"--port={port}", "--include-dashboard=false", f"--ray-client-server-port={free_port()}"]
        made.start("0", "--head", *head)
        made.start("1", f"--address={made.address}")
        yield made
    finally:
        for node in made.nodes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(node.pid, signal.SIGKILL)
            node.wait(timeout=60)


def test_sound_nodes_are_ready(cluster: RealCluster, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    read = ["--reads", str(tmp_path / "videos"), "--writes", str(tmp_path / "out")]
    done = cluster.doctor(*read, "--driver-writes", str(tmp_path / "scores"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 nodes" in done.stdout
    assert "ready: nothing failed" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["videos"]


def test_a_wrong_token_is_told_in_one_line(cluster: RealCluster, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("f" * 32)
    refused, missing = "refuses this token", "there is no token"
    for wrong, says in (
        ({"RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}, refused),
        ({"RAY_AUTH_MODE": "disabled"}, refused),
        ({"RAY_AUTH_TOKEN_PATH": "", "HOME": str(tmp_path)}, missing),
    ):
        done = cluster.doctor(**wrong)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1, done.stderr
        assert says in done.stderr


def test_storage_that_cannot_be_written_or_read_fails_with_what_helps(
    cluster: RealCluster, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    gone, below = tmp_path / "gone", tmp_path / "file" / "out"
    code, found = cluster.findings("--reads", str(gone), "--writes", str(below))
    assert code == 1
    assert [(one["check"], one["status"], len(one["nodes"])) for one in found] == [
        ("reads", "fail", 3),
        ("writes", "fail", 3),
    ]
    assert found[0]["found"] == f"{gone}: cannot be read: not there"
    assert found[1]["found"] == f"{below}: cannot be written: Not a directory"
    assert all("mount" in one["fix"] for one in found)


@pytest.fixture(scope="module")
def unequal(cluster: RealCluster) -> RealCluster:
    """The cluster with a node that lacks this package, and one with an older numpy and other code."""
    bare, old = cluster.folder / "bare", cluster.folder / "old"
    bare.mkdir()
    hide_package(bare)
    metadata = old / "numpy-1.26.0.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 1.26.0\n")
    shutil.copytree(REPOSITORY / "dfdm_ray", old / "dfdm_ray")
    with (old / "dfdm_ray" / "labels.py").open("a") as module:
        module.write("# Another version.\n")
    cluster.start("bare", f"--address={cluster.address}", paths=(bare,))
    cluster.start("old", f"--address={cluster.address}", paths=(old,))
    return cluster


def test_nodes_that_differ_fail_with_what_helps(unequal: RealCluster) -> None:
    done = unequal.doctor()
    assert done.returncode == 1
    assert "4 of 4 nodes" in done.stdout
    code, found = unequal.findings()
    assert code == 1
    told = {one["found"].partition(" (driver")[0]: one for one in found}
    assert set(told) == {
        "dfdm-ray is not installed",
        "dfdm-ray 0.1.0, but other code than the driver's 0.1.0",
        "numpy 1.26.0",
    }
    assert all(len(one["nodes"]) == 1 and one["status"] == "fail" for one in found)
    assert "install this dfdm-ray there" in told["dfdm-ray is not installed"]["fix"]
    assert "requirements.lock" in told["numpy 1.26.0"]["fix"]


def test_a_node_that_hangs_is_told_and_holds_nothing_up(unequal: RealCluster) -> None:
    last = unequal.nodes[-1].pid
    os.killpg(last, signal.SIGSTOP)
    try:
        code, found = unequal.findings("--timeout-s", "25")
    finally:
        os.killpg(last, signal.SIGCONT)
    assert code == 1
    (silent,) = [one for one in found if one["check"] == "answers"]
    assert silent["found"] == "no answer within 25 s"
    assert len(silent["nodes"]) == 1


def test_a_node_that_dies_meanwhile_is_told(unequal: RealCluster) -> None:
    last = unequal.nodes[-1]
    os.killpg(last.pid, signal.SIGSTOP)
    with unequal.begin("--json", "--timeout-s", "200") as run:
        assert run.stderr is not None
        assert "waiting for 4 nodes" in run.stderr.readline()
        time.sleep(3)
        os.killpg(last.pid, signal.SIGKILL)
        out, _ = run.communicate(timeout=150)
    assert run.returncode == 1
    (silent,) = [one for one in json.loads(out)["findings"] if one["check"] == "answers" and one["fix"]]
    assert silent["found"] == "the node died meanwhile"
