"""`dfdm-ray doctor` on real nodes: sound, without the package, with an old library, and stopped."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.cluster_files import REPOSITORY
from support.hidden_package import hide_package
from support.token_cluster import TokenCluster

pytestmark = [pytest.mark.ray, pytest.mark.e2e]


def begin(cluster: TokenCluster, *options: str, **changes: str) -> subprocess.Popen[str]:
    """Start the command in a folder that is not this repository, as a driver of its own."""
    command = [sys.executable, "-m", "dfdm_ray.cli", "doctor", "--ray-address", cluster.address, *options]
    environment = {**cluster.environment, "PYTHONPATH": str(REPOSITORY), **changes}
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=cluster.folder, env=environment, **pipes)


def doctor(cluster: TokenCluster, *options: str) -> subprocess.CompletedProcess[str]:
    with begin(cluster, *options) as run:
        out, err = run.communicate(timeout=400)
    return subprocess.CompletedProcess(run.args, run.returncode, out, err)


def findings(cluster: TokenCluster, *options: str) -> tuple[int, list[dict[str, Any]]]:
    """Return the exit code and what is not ok."""
    done = doctor(cluster, "--json", *options)
    assert done.stdout.startswith("{"), done.stderr
    found = json.loads(done.stdout)["findings"]
    return done.returncode, [one for one in found if one["status"] != "ok"]


def test_a_wrong_token_is_told_in_one_line(token_cluster: TokenCluster, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("f" * 32)
    refused, missing = "refuses this token", "there is no token"
    cases: list[tuple[dict[str, str], str]] = [
        ({"RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}, refused),
        ({"RAY_AUTH_MODE": "disabled"}, refused),
        ({"RAY_AUTH_TOKEN_PATH": "", "HOME": str(tmp_path)}, missing),
    ]
    runs = [begin(token_cluster, **wrong) for wrong, _ in cases]
    for run, (_, says) in zip(runs, cases, strict=True):
        _, err = run.communicate(timeout=400)
        assert run.returncode == 2
        assert err.count("\n") == 1, err
        assert says in err


@pytest.fixture(scope="module")
def unequal(token_cluster: TokenCluster) -> Iterator[TokenCluster]:
    """The cluster with a node that lacks this package, and one with an older numpy and other code."""
    bare, old = token_cluster.folder / "bare", token_cluster.folder / "old"
    bare.mkdir()
    hide_package(bare)
    metadata = old / "numpy-1.26.0.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 1.26.0\n")
    shutil.copytree(REPOSITORY / "dfdm_ray", old / "dfdm_ray")
    with (old / "dfdm_ray" / "labels.py").open("a") as module:
        module.write("# Another version.\n")
    sound = len(token_cluster.nodes)
    token_cluster.start("bare", paths=(bare,))
    token_cluster.start("old", paths=(old,))
    yield token_cluster
    token_cluster.stop_last(num_nodes=sound)


def test_nodes_that_differ_and_storage_that_cannot_be_used_fail_with_what_helps(
    unequal: TokenCluster, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    gone, below = tmp_path / "gone", tmp_path / "file" / "out"
    code, found = findings(unequal, "--reads", str(gone), "--writes", str(below), "--timeout-s", "280")
    assert code == 1
    *differing, reads, writes = sorted(found, key=lambda one: one["check"] in ("reads", "writes"))
    told = {one["found"].partition(" (driver")[0]: one for one in differing}
    assert set(told) == {
        "dfdm-ray is not installed",
        "dfdm-ray 0.1.0, but other code than the driver's 0.1.0",
        "numpy 1.26.0",
    }
    assert all(len(one["nodes"]) == 1 and one["status"] == "fail" for one in differing)
    assert "install this dfdm-ray there" in told["dfdm-ray is not installed"]["fix"]
    assert "requirements.lock" in told["numpy 1.26.0"]["fix"]
    everyone = len(unequal.nodes)  # but for the node without the package, and with the driver
    for one, check in ((reads, "reads"), (writes, "writes")):
        assert (one["check"], one["status"], len(one["nodes"])) == (check, "fail", everyone)
        assert "mount" in one["fix"]
    assert reads["found"] == f"{gone}: cannot be read: not there"
    assert writes["found"] == f"{below}: cannot be written: Not a directory"


def test_nodes_that_hang_or_die_meanwhile_are_told_and_hold_nothing_up(unequal: TokenCluster) -> None:
    hangs, dies = unequal.nodes[-2:]
    for node in (hangs, dies):
        os.killpg(node.pid, signal.SIGSTOP)
    try:
        with begin(unequal, "--json", "--timeout-s", "60") as run:
            assert run.stderr is not None
            assert "waiting for 5 nodes" in run.stderr.readline()
            time.sleep(3)
            os.killpg(dies.pid, signal.SIGKILL)
            out, _ = run.communicate(timeout=300)
    finally:
        os.killpg(hangs.pid, signal.SIGCONT)
    assert run.returncode == 1
    silent = [one for one in json.loads(out)["findings"] if one["check"] == "answers" and one["fix"]]
    assert {one["found"] for one in silent} == {"no answer within 60 s", "the node died meanwhile"}
    assert [len(one["nodes"]) for one in silent] == [1, 1]
