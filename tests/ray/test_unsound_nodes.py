"""`dfdm-ray doctor` on nodes without the package, with an old library, stopped and killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
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


def add_unequal_nodes(cluster: TokenCluster) -> None:
    """Start a node that lacks this package, and one with an older numpy and other code."""
    bare, old = cluster.folder / "bare", cluster.folder / "old"
    bare.mkdir()
    hide_package(bare)
    metadata = old / "numpy-1.26.0.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 1.26.0\n")
    shutil.copytree(REPOSITORY / "dfdm_ray", old / "dfdm_ray")
    with (old / "dfdm_ray" / "labels.py").open("a") as module:
        module.write("# Another version.\n")
    cluster.start("bare", paths=(bare,))
    cluster.start("old", paths=(old,))


def test_nodes_that_differ_hang_or_die_and_storage_that_cannot_be_used_fail_with_what_helps(
    token_cluster: TokenCluster, tmp_path: Path
) -> None:
    """The last test of the cluster: its nodes are broken afterwards."""
    _, hangs, dies = token_cluster.nodes
    add_unequal_nodes(token_cluster)
    (tmp_path / "file").touch()
    gone, below = tmp_path / "gone", tmp_path / "file" / "out"
    for node in (hangs, dies):
        os.killpg(node.pid, signal.SIGSTOP)
    options = ["--json", "--reads", str(gone), "--writes", str(below), "--timeout-s", "90"]
    with begin(token_cluster, *options) as run:
        assert run.stderr is not None
        assert "waiting for 5 nodes" in run.stderr.readline()
        time.sleep(3)
        os.killpg(dies.pid, signal.SIGKILL)
        out, err = run.communicate(timeout=300)
    assert run.returncode == 1, err
    found = [one for one in json.loads(out)["findings"] if one["status"] != "ok"]
    silent = [one for one in found if one["check"] == "answers"]
    assert {one["found"] for one in silent} == {"no answer within 90 s", "the node died meanwhile"}
    assert all(len(one["nodes"]) == 1 and one["fix"] for one in silent)
    storage = {one["check"]: one for one in found if one["check"] in ("reads", "writes")}
    differing = [one for one in found if one["check"] not in ("answers", "reads", "writes")]
    told = {one["found"].partition(" (driver")[0]: one for one in differing}
    assert set(told) == {
        "dfdm-ray is not installed",
        "dfdm-ray 0.1.0, but other code than the driver's 0.1.0",
        "numpy 1.26.0",
    }
    assert all(len(one["nodes"]) == 1 and one["status"] == "fail" for one in told.values())
    assert "install this dfdm-ray there" in told["dfdm-ray is not installed"]["fix"]
    assert "requirements.lock" in told["numpy 1.26.0"]["fix"]
    assert set(storage) == {"reads", "writes"}
    for one in storage.values():
        assert (one["status"], len(one["nodes"])) == ("fail", 3)  # head and old node, and the driver
        assert "mount" in one["fix"]
    assert storage["reads"]["found"] == f"{gone}: cannot be read: not there"
    assert storage["writes"]["found"] == f"{below}: cannot be written: Not a directory"
