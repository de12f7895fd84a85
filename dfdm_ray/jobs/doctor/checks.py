"""Checks of a cluster: pure functions from facts to findings."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from rich.filesize import decimal

from dfdm_ray.io.storage import is_remote
from dfdm_ray.jobs.doctor.probe import Facts, Stored

_LITTLE_EACH, _MUCH_EACH, _MUCH_FROM_CPUS = 48e6, 190e6, 72
"""Bytes in transit at most for each CPU and for each GPU; in a cluster with this many CPUs blocks are larger
and a CPU counts as a GPU (cluster/README.md, "How many CPUs for a GPU")."""
_LITTLE_BYTES = 10e9
_SHARE_FIX = "mount the same file system at this path on all nodes, or use s3://"


class Status(StrEnum):
    """Severity of a finding."""

    OK = "ok"
    WARN = "warn"  # jobs run, but more slowly or less safely
    FAIL = "fail"  # jobs fail, or differ from node to node


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    check: str
    status: Status
    nodes: tuple[str, ...]
    found: str
    fix: str = ""  # what to do about it; empty if nothing


@dataclass(frozen=True)
class Node:
    """A node of the cluster: what Ray reports of it, and what it reports itself."""

    name: str
    answer: Facts | str  # its facts, or why there are none
    cpus: float
    gpus: float
    store_bytes: int  # size of the object store


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Everything that the checks look at."""

    nodes: tuple[Node, ...]
    driver: Facts  # about the process of this command, with which the nodes are compared
    driver_name: str = "driver"  # that of the node if the cluster is a Ray in this process

    @property
    def answers(self) -> list[tuple[Node, Facts]]:
        """Nodes that answered, with their facts."""
        return [(node, node.answer) for node in self.nodes if not isinstance(node.answer, str)]

    @property
    def places(self) -> dict[str, Facts]:
        """Facts about the driver and the nodes that answered, by name."""
        return {self.driver_name: self.driver} | {node.name: facts for node, facts in self.answers}


def merged(findings: Iterable[Finding]) -> list[Finding]:
    """Return ``findings`` in order, those that differ only in their nodes as one."""
    nodes: dict[Finding, list[str]] = {}
    for finding in findings:
        nodes.setdefault(replace(finding, nodes=()), []).extend(finding.nodes)
    return [replace(finding, nodes=tuple(dict.fromkeys(names))) for finding, names in nodes.items()]


def check_answers(cluster: Cluster) -> Iterator[Finding]:
    """Check that every node answers."""
    fix = "read /tmp/ray/session_latest/logs there and look for storage that hangs; "
    fix += "raise --timeout-s for a slow node, remove a broken one from the cluster"
    for node in cluster.nodes:
        if isinstance(node.answer, str):
            yield Finding("answers", Status.FAIL, (node.name,), node.answer, fix)
    if names := tuple(node.name for node, _ in cluster.answers):
        workers = sum(bool(node.cpus or node.gpus) for node in cluster.nodes)
        found = f"{len(names)} of {len(cluster.nodes)} nodes, {workers} with CPUs or GPUs"
        yield Finding("answers", Status.OK, names, found)


def check_package(cluster: Cluster) -> Iterator[Finding]:
    """Check that every node has the driver's dfdm-ray and can import what workers need."""
    fix = "install this dfdm-ray there, or send it with `ray job submit` from the root of its repository"
    for name, facts in cluster.places.items():
        package, errors = facts["package"], facts["import_errors"]
        if package is None:
            yield Finding("package", Status.FAIL, (name,), "dfdm-ray is not installed", fix)
        elif facts["code"] != cluster.driver["code"]:
            found = f"dfdm-ray {package}, but other code than the driver's {cluster.driver['package']}"
            yield Finding("package", Status.FAIL, (name,), found, fix)
        elif not errors:
            found = f"dfdm-ray {package}, the same code; workers can import all they need"
            yield Finding("package", Status.OK, (name,), found)
        for module, error in errors.items():
            found = f"cannot import {module}: {error:.300}"
            yield Finding("imports", Status.FAIL, (name,), found, _import_fix(error))


def _import_fix(error: str) -> str:
    if "cannot open shared object file" in error:
        return f"install the system library {error.partition(': cannot open')[0].rpartition(' ')[2]} there"
    if "not done after" in error:
        return "the node is slow or its disk hangs; raise --timeout-s"
    return "install requirements.lock there: pip install --no-deps -r requirements.lock"


def check_versions(cluster: Cluster) -> Iterator[Finding]:
    """Check that Python and the packages that results depend on have the driver's versions."""
    wanted = cluster.driver["versions"]
    fix = "install the same requirements.lock on all nodes and restart Ray there"
    for name, facts in cluster.places.items():
        different: dict[Status, list[str]] = {}
        for package, version in wanted.items():
            there = facts["versions"].get(package)
            if (status := differ(version, there)) != Status.OK:
                words = f"{package} {there or 'missing'} (driver: {version or 'missing'})"
                different.setdefault(status, []).append(words)
        for status, packages in different.items():
            yield Finding("versions", status, (name,), ", ".join(packages), fix)
        if not different:
            found = ", ".join(f"{package} {version}" for package, version in wanted.items() if version)
            yield Finding("versions", Status.OK, (name,), found)


def differ(one: str | None, other: str | None) -> Status:
    """Return how bad it is that two nodes have these versions of a package.

    Local labels such as ``+cpu`` and ``+cu128`` of torch may differ; another third number is a warning.
    """
    if one is None or other is None:
        return Status.OK if one == other else Status.FAIL
    first, second = (version.partition("+")[0].split(".") for version in (one, other))
    if first == second:
        return Status.OK
    return Status.WARN if first[:2] == second[:2] else Status.FAIL


def check_gpus(cluster: Cluster) -> Iterator[Finding]:
    """Check that torch computes on as many GPUs as Ray offers, with the same driver everywhere."""
    having = [(node, facts) for node, facts in cluster.answers if node.gpus or facts["gpus"]]
    if not having:
        names = tuple(node.name for node, _ in cluster.answers)
        yield Finding("GPUs", Status.OK, names, "no node has a GPU: the model runs on CPUs")
    for node, facts in having:
        if facts["gpus"] is not None:
            found = f"Ray counts {node.gpus:.0f}, torch computes on {facts['gpus']}"
            status, more, fix = _compare_gpus(int(node.gpus), facts["gpus"], facts)
            yield Finding("GPUs", status, (node.name,), found + more, fix)
    drivers = {node.name: facts["gpu_driver"] for node, facts in having if node.gpus and facts["gpu_driver"]}
    for name, driver in drivers.items() if len(set(drivers.values())) > 1 else ():
        found = f"NVIDIA driver {driver}; other nodes have another version"
        yield Finding("GPUs", Status.WARN, (name,), found, "install the same driver on all nodes with GPUs")


def _compare_gpus(ray: int, torch: int, facts: Facts) -> tuple[Status, str, str]:
    """Return status, details and fix for the numbers of GPUs that Ray offers and torch computes on."""
    error, cuda, driver = facts["gpu_error"], facts["cuda_build"], facts["gpu_driver"]
    sound = torch >= ray and not (error and ray)
    if sound and torch > ray:
        return Status.WARN, "", f"start Ray there with --num-gpus={torch} to use them"
    if sound:
        return Status.OK, f", NVIDIA driver {driver}" if driver else "", ""
    if cuda is None:
        fix = "install requirements.lock there, not a CPU build"
        return Status.FAIL, ": torch is built without CUDA", fix
    fix = f"install an NVIDIA driver for CUDA {cuda}; `nvidia-smi` must work there"
    if "no kernel image" in error:
        fix = f"torch for CUDA {cuda} has no code for that GPU: start Ray without it"
    return Status.FAIL, f": {error:.200}" if error else "", fix


def check_object_store(cluster: Cluster) -> Iterator[Finding]:
    """Check that the object store is large enough for what is in transit, and is in memory."""
    sound, needs = [], needed_bytes(cluster)
    for node, facts in cluster.answers:
        store, needed, shm = node.store_bytes, needs[node.name], facts["shm_bytes"]
        if store < needed:
            found = f"{decimal(store)}, but up to {decimal(needed)} in transit: the rest goes to disk"
            fix = f"ray start --object-store-memory={needed}"
            yield Finding("object store", Status.WARN, (node.name,), found, fix)
        if shm is not None and shm < store:
            found = f"{decimal(shm)} for an object store of {decimal(store)}, which is therefore on disk"
            fix = f"docker run --shm-size={store}; in Kubernetes an emptyDir with medium: Memory"
            yield Finding("/dev/shm", Status.WARN, (node.name,), found, fix)
        elif store >= needed:
            sound.append((node.name, store, needed))
    if sound:
        names, stores, most = zip(*sound, strict=True)
        found = f"at least {decimal(min(stores))} in memory, up to {decimal(max(most))} in transit"
        yield Finding("object store", Status.OK, names, found)


def needed_bytes(cluster: Cluster) -> dict[str, int]:
    """Return how much is in transit through the object store of each node at most."""
    many = sum(node.cpus for node in cluster.nodes) >= _MUCH_FROM_CPUS
    for_cpu = _MUCH_EACH if many else _LITTLE_EACH
    return {node.name: int(node.cpus * for_cpu + node.gpus * _MUCH_EACH) for node in cluster.nodes}


def check_disks(cluster: Cluster) -> Iterator[Finding]:
    """Check that disks have room for logs, spilled objects and temporary files."""
    sound: dict[str, int] = {}
    for name, facts in cluster.places.items():
        disks = [(free, total, folder) for folder, (total, free) in facts["disks"].items()]
        full = [disk for disk in disks if disk[0] <= (1 - facts["full_fraction"]) * disk[1]]
        free, total, folder = min(full or disks)  # a full disk counts first, however large it is
        if not full and free >= _LITTLE_BYTES:
            sound[name] = free
            continue
        found = f"{folder} has {decimal(free)} of {decimal(total)} free"
        fix = "make room there, or start Ray with another --temp-dir"
        fix += "; Ray makes no objects on a full disk" if full else ""
        yield Finding("disk", Status.FAIL if full else Status.WARN, (name,), found, fix)
    if sound:
        found = f"at least {decimal(min(sound.values()))} free for Ray's session and temporary files"
        yield Finding("disk", Status.OK, tuple(sound), found)


def check_token(cluster: Cluster) -> Iterator[Finding]:
    """Check that only holders of the token can run commands on the cluster."""
    fix = "run `ray get-auth-token --generate`, then start all nodes with RAY_AUTH_MODE=token (SECURITY.md)"
    for node, facts in cluster.answers:
        if facts["auth_mode"] == "token":
            yield Finding("token", Status.OK, (node.name,), "only holders of the token can submit jobs")
        elif node.name != cluster.driver_name:  # a Ray in this process admits nobody else
            found = f"RAY_AUTH_MODE is {facts['auth_mode']}: anyone who reaches Ray's ports can run commands"
            yield Finding("token", Status.WARN, (node.name,), found, fix)


def check_sandbox(cluster: Cluster) -> Iterator[Finding]:
    """Check that decoding processes can give up what a hostile file could use."""
    for name, facts in cluster.places.items():
        lacks = ", ".join(f"{layer} ({reason})" for layer, reason in facts["sandbox"].items() if reason)
        if lacks:
            fix = "use Linux 6.12 or newer on x86_64 or aarch64, and allow Landlock and seccomp in containers"
            found = f"decoding processes run without {lacks}"
            yield Finding("sandbox", Status.WARN, (name,), found, f"{fix} (SECURITY.md)")
        elif facts["sandbox"]:
            found = f"decoding processes are confined by {', '.join(facts['sandbox'])}"
            yield Finding("sandbox", Status.OK, (name,), found)


def check_storage(cluster: Cluster) -> Iterator[Finding]:
    """Check that jobs can read and write storage wherever they run, and that it is the same storage."""
    by_driver = {(one["use"], one["uri"]): one for one in cluster.driver["storage"]}
    workers = [(node.name, facts) for node, facts in cluster.answers if node.cpus or node.gpus]
    for name, facts in (*workers, (cluster.driver_name, cluster.driver)):
        for seen in facts["storage"]:
            use, uri = seen["use"], seen["uri"]
            status, found, fix = _compare_storage(seen, by_driver.get((use, uri), {}))
            yield Finding(use, status, (name,), f"{uri}: {found}", fix)


def _compare_storage(seen: Stored, by_driver: Stored) -> tuple[Status, str, str]:
    """Return status, details and fix for a URI as a node and the driver see it."""
    if "error" in seen:
        verb = "read" if seen["use"] == "reads" else "written"
        return Status.FAIL, f"cannot be {verb}: {seen['error']}", _access_fix(seen)
    if seen["use"] == "writes":
        if not seen.get("shared", True):
            return Status.FAIL, "not shared: the driver's file is not there", _SHARE_FIX
        return Status.OK, "written and removed again", ""
    content, expected = seen["content"], by_driver.get("content")
    if seen["num_names"] == 0 and not by_driver.get("num_names"):
        return Status.WARN, content, "if it should contain something, mount it or give another path"
    if expected is None or seen == by_driver:
        return Status.OK, content, ""
    if by_driver["num_names"] and not seen["num_names"]:
        return Status.FAIL, f"{content}, but the driver sees {expected}", _SHARE_FIX
    other = "other names" if content == expected else expected
    return Status.WARN, f"{content}, but the driver sees {other}", f"unless it is changing now: {_SHARE_FIX}"


def _access_fix(seen: Stored) -> str:
    reads = seen["use"] == "reads"
    if not is_remote(seen["uri"]):
        return f"mount it at this path there, and let Ray's user {'read' if reads else 'write in'} it"
    credentials = f"give the node credentials to {'read' if reads else 'write and delete in'} it"
    return f"{credentials}, by its instance's role or in Ray's environment; check region and endpoint"


CHECKS = (
    *(check_answers, check_package, check_versions, check_gpus, check_object_store),
    *(check_disks, check_token, check_sandbox, check_storage),
)
