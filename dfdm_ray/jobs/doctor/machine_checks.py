"""GPUs, memory, disks and the token of the nodes. Pure functions from facts to findings."""

from collections.abc import Iterator

from dfdm_ray.jobs.doctor.facts import Cluster, Node, Told
from dfdm_ray.jobs.doctor.findings import Finding, Status

_LITTLE_EACH, _MUCH_EACH, _MUCH_FROM_CPUS = 48e6, 190e6, 72
"""On the way at most, bytes: for each CPU, for each GPU, and for each CPU where there are so many CPUs and
blocks are larger (cluster/README.md, "How many CPUs for a GPU")."""
_FULL_FRACTION = 0.95
"""Ray makes no objects on a disk that is fuller (``RAY_local_fs_capacity_threshold``)."""
_LITTLE_BYTES = 10e9
_ROOM_FIX = "make room there, or start Ray with another --temp-dir"


def check_gpus(cluster: Cluster) -> Iterator[Finding]:
    """Torch computes on as many GPUs as Ray hands out, with the same driver everywhere."""
    if not any(node.gpus or told.gpus for node, told in cluster.answered):
        found = "no node has a GPU: the model runs on CPUs"
        yield Finding(check="GPUs", status=Status.OK, nodes=_names(cluster), found=found)
        return
    for node, told in cluster.answered:
        if told.gpus is not None and (node.gpus or told.gpus):
            yield _compare_gpus(node, told)
    drivers = {told.gpu_driver for node, told in cluster.answered if node.gpus and told.gpu_driver}
    if len(drivers) > 1:
        for node, told in cluster.answered:
            if node.gpus and told.gpu_driver:
                yield Finding(
                    check="GPUs",
                    status=Status.WARN,
                    nodes=(node.name,),
                    found=f"NVIDIA driver {told.gpu_driver}; other nodes have another",
                    fix="give all nodes with GPUs the same driver",
                )


def _compare_gpus(node: Node, told: Told) -> Finding:
    ray, torch = int(node.gpus), told.gpus or 0
    found = f"Ray counts {ray}, torch computes on {torch}"
    error = f": {told.gpu_error:.200}" if told.gpu_error else ""
    status, fix = Status.OK, ""
    if torch < ray or (error and ray):
        status = Status.FAIL
        if told.cuda_build is None:
            found, fix = (
                f"{found}: torch is built without CUDA",
                "install requirements.lock there, not a CPU build",
            )
        else:
            found = f"{found}{error}"
            fix = f"install an NVIDIA driver for CUDA {told.cuda_build}; `nvidia-smi` must work there"
            if "no kernel image" in error:
                fix = f"torch for CUDA {told.cuda_build} has no code for that GPU: start Ray without it"
    elif torch > ray:
        status, fix = Status.WARN, f"start Ray there with --num-gpus={torch} to use them"
    elif told.gpu_driver:
        found = f"{found}, NVIDIA driver {told.gpu_driver}"
    return Finding(check="GPUs", status=status, nodes=(node.name,), found=found, fix=fix)


def check_object_store(cluster: Cluster) -> Iterator[Finding]:
    """The object store holds what is on the way, and lies in memory."""
    sound = []
    needs = needed_bytes(cluster)
    for node, told in cluster.answered:
        store, needed = node.store_bytes, needs[node.name]
        in_memory = told.shm_bytes is None or store <= told.shm_bytes
        if store < needed:
            found = f"{_size(store)} for {_size(needed)} on the way at most: the rest goes over the disk"
            yield _warned("object store", node, found, f"ray start --object-store-memory={needed:.0f}")
        if not in_memory:
            found = f"/dev/shm has {_size(told.shm_bytes or 0)} for an object store of {_size(store)}"
            found += ", which is on disk then"
            fix = f"docker run --shm-size={store}; in Kubernetes an emptyDir with medium: Memory"
            yield _warned("/dev/shm", node, found, fix)
        if in_memory and store >= needed:
            sound.append(node)
    if sound:
        least, most = min(node.store_bytes for node in sound), max(needs[node.name] for node in sound)
        found = f"at least {_size(least)} in memory, at most {_size(most)} on the way"
        nodes = tuple(node.name for node in sound)
        yield Finding(check="object store", status=Status.OK, nodes=nodes, found=found)


def needed_bytes(cluster: Cluster) -> dict[str, float]:
    """Return how much is on the way through the object store of each node at most."""
    many = sum(node.cpus for node in cluster.nodes) >= _MUCH_FROM_CPUS
    for_cpu = _MUCH_EACH if many else _LITTLE_EACH
    return {node.name: node.cpus * for_cpu + node.gpus * _MUCH_EACH for node in cluster.nodes}


def check_disks(cluster: Cluster) -> Iterator[Finding]:
    """There is room for logs, for what the object store spills, and for temporary files."""
    sound: dict[str, int] = {}
    for node, told in cluster.places:
        if not told.disks:
            continue
        # A full one first, however large it is.
        folder, (total, free) = min(told.disks.items(), key=lambda disk: (not _is_full(*disk[1]), disk[1][1]))
        found = f"{folder} has {_size(free)} of {_size(total)} free"
        if _is_full(total, free):
            fix = f"{_ROOM_FIX}: Ray makes no objects on a full disk"
            yield Finding(check="disk", status=Status.FAIL, nodes=(node.name,), found=found, fix=fix)
        elif free < _LITTLE_BYTES:
            yield _warned("disk", node, found, _ROOM_FIX)
        else:
            sound[node.name] = free
    if sound:
        found = f"at least {_size(min(sound.values()))} free for Ray's session and temporary files"
        yield Finding(check="disk", status=Status.OK, nodes=tuple(sound), found=found)


def _is_full(total: int, free: int) -> bool:
    return free <= (1 - _FULL_FRACTION) * total


def check_token(cluster: Cluster) -> Iterator[Finding]:
    """Only who has the token may run commands on the cluster."""
    for node, told in cluster.answered:
        if told.auth_mode == "token":
            found = "only who has the token may submit jobs"
            yield Finding(check="token", status=Status.OK, nodes=(node.name,), found=found)
        elif not cluster.local:
            found = f"RAY_AUTH_MODE is {told.auth_mode}: who reaches Ray's ports runs any command as its user"
            fix = (
                "`ray get-auth-token --generate`, then start all nodes with RAY_AUTH_MODE=token (SECURITY.md)"
            )
            yield _warned("token", node, found, fix)


def _warned(check: str, node: Node, found: str, fix: str) -> Finding:
    return Finding(check=check, status=Status.WARN, nodes=(node.name,), found=found, fix=fix)


def _names(cluster: Cluster) -> tuple[str, ...]:
    return tuple(node.name for node, _ in cluster.answered)


def _size(number: float) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"
