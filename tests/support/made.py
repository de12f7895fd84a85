"""Clusters for tests of the checks: sound unless told otherwise."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from dfdm_ray.jobs.doctor.facts import Cluster, Node, Stored, Told
from dfdm_ray.jobs.doctor.findings import Finding, Status

TOLD = Told(
    versions={"python": "3.11.9", "ray": "2.60.0", "torch": "2.14.1+cu128", "numpy": "2.4.0"},
    package="0.1.0",
    code="c0de",
    gpus=0,
    auth_mode="token",
    shm_bytes=16 * 10**9,
    disks={"/tmp/ray/session": (10**12, 5 * 10**11)},
)


def node(name: str = "n1", told: Told | None = TOLD, **changes: Any) -> Node:
    return replace(Node(name=name, told=told, cpus=8.0, store_bytes=8 * 10**9), **changes)


def cluster(*nodes: Node, driver: Told = TOLD, local: bool = False) -> Cluster:
    return Cluster(driver=Node(name="driver", told=driver), nodes=nodes or (node(),), local=local)


def stored(told: Told = TOLD, **changes: Any) -> Told:
    """Return facts of a node that saw one URI, a folder of two names to read unless told otherwise."""
    seen = {"uri": "/data/DFDM", "use": "reads", "num_names": 2, "names_sha256": "a"} | changes
    return replace(told, storage=(Stored(**seen),))


def bad(findings: Iterable[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.status != Status.OK]


def only(findings: Iterable[Finding]) -> Finding:
    (finding,) = bad(findings)
    return finding
