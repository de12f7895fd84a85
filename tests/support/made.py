"""Clusters for tests of the checks: sound unless a test changes them."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from dfdm_ray.jobs.doctor.checks import Cluster, Finding, Node, Status
from dfdm_ray.jobs.doctor.probe import Facts, Stored

FACTS: Facts = {
    "versions": {"python": "3.11.9", "ray": "2.60.0", "torch": "2.14.1+cu128", "numpy": "2.4.0"},
    "package": "0.1.0",
    "code": "c0de",
    "import_errors": {},
    "gpus": 0,
    "gpu_error": "",
    "cuda_build": None,
    "gpu_driver": None,
    "auth_mode": "token",
    "shm_bytes": 16 * 10**9,
    "disks": {"/tmp/ray/session": (10**12, 5 * 10**11)},
    "full_fraction": 0.95,
    "storage": [],
    "sandbox": {},
}


def facts(**changes: Any) -> Facts:
    return {**FACTS, **changes}  # type: ignore[typeddict-item]


def node(name: str = "n1", answer: Facts | str = FACTS, **changes: Any) -> Node:
    return replace(Node(name=name, answer=answer, cpus=8.0, gpus=0.0, store_bytes=8 * 10**9), **changes)


def cluster(*nodes: Node, driver: Facts = FACTS, driver_name: str = "driver") -> Cluster:
    return Cluster(nodes=nodes or (node(),), driver=driver, driver_name=driver_name)


def reads(**changes: Any) -> Facts:
    """Return facts of a machine that reads one URI, a folder with two entries unless changed."""
    folder = {"content": "a folder with 2 entries", "num_names": 2, "names_sha256": "a"}
    return _stored({"uri": "/data/DFDM", "use": "reads", **folder, **changes})


def writes(**changes: Any) -> Facts:
    """Return facts of a machine that writes into one folder."""
    return _stored({"uri": "/data/crops", "use": "writes", **changes})


def _stored(seen: dict[str, Any]) -> Facts:
    if "error" in seen:
        seen = {name: seen[name] for name in ("uri", "use", "error")}
    return facts(storage=[Stored(**seen)])


def bad(findings: Iterable[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.status != Status.OK]


def only(findings: Iterable[Finding]) -> Finding:
    (finding,) = bad(findings)
    return finding
