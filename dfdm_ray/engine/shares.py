"""Shares of a cluster's CPUs and GPUs for the workers of a job."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pyarrow as pa

from dfdm_ray.clips.isolation import Allowance
from dfdm_ray.config import DecodeConfig, LimitsConfig, ResourceConfig
from dfdm_ray.errors import UserError

_MOST_GIB, _LEAST_GIB = 4.0, 1.0
"""Memory of a decoding process by default. An 8K frame is 133 MB as RGB and 50 MB in the decoder, which keeps
up to 16; a process with detector and libraries starts at 0.2 GB."""

_ROWS, _MOST_ROWS, _WORKERS_PER_ROW = 8, 32, 8
"""Maximum of videos in a block, 12 MB as crops; in the largest clusters; decode workers per further video."""
_MOST_PER_WORKER, _LEAST_PER_WORKER, _BLOCKS = 32, 2, 2048
"""Blocks per worker, and for all workers if there are many: a block costs the driver as much as 20 videos."""

_FINEST, _STEP = 10_000, 100
"""Parts of a CPU or GPU that Ray counts; shares of workers are multiples of the second number."""

_MOST_LOADERS = 16
"""Default limit of loader processes of a training worker; a core loads 40 clips of ten 224-pixel frames/s."""

_MOST_CPU_TRAINING = 2
"""Default number of training workers without a GPU; each takes a share of the batch."""


@dataclass(frozen=True, kw_only=True)
class Shares:
    """Sizes of the two pools and the resources that each worker reserves."""

    decode_workers: int
    decode_cpus: float
    model_workers: int
    model_cpus: float
    model_gpus: float
    device: str
    batch_size: int


def share_out(
    config: ResourceConfig,
    nodes: Sequence[Mapping[str, float]],
    to_come: Sequence[Mapping[str, float]] = (),
) -> Shares:
    """Size the pools so that all workers fit the nodes at the same time; values in ``config`` are kept.

    With GPUs, each GPU gets one model worker. The CPUs, less one per GPU, decode, but at least every second
    CPU. Model workers reserve no CPU then: a worker that did would wait forever where decode workers or the
    driver hold all CPUs of a node with a free GPU. Without GPUs, every CPU gets a model worker of one thread
    and every second CPU also a decode worker: the stage that is ahead waits for the other, so all CPUs are
    busy whatever the two stages cost. A worker reserves less than a CPU if no node has one for it.

    Args:
        to_come: A node of each kind that an autoscaler can add. They decide what a worker reserves where no
            node has CPUs yet, and whether the model waits for GPUs.

    Raises:
        UserError: If CUDA is requested and the cluster has no GPU, or if the workers do not fit.
    """
    gpus = [1.0] * _num_gpus(nodes)  # no worker has parts of two
    gpus_to_come = _num_gpus(to_come) > 0
    if config.device == "cuda" and not gpus and not gpus_to_come:
        raise UserError("--resources.device is cuda, but the Ray cluster has no GPU; use auto or cpu")
    on_gpu = (bool(gpus) or gpus_to_come) and config.device != "cpu"
    decode, model = _counts(config, nodes, on_gpu=on_gpu)
    places = _with_cpus(nodes, to_come)
    workers = _counts(config, places, on_gpu=on_gpu)
    decode_cpus = _each(_cpus_of(places), workers[0] if on_gpu else sum(workers), what="CPUs")
    return Shares(
        decode_workers=decode,
        decode_cpus=decode_cpus,
        model_workers=model,
        model_cpus=0.0 if on_gpu else decode_cpus,
        model_gpus=_each(gpus or [1.0], model, what="GPUs") if on_gpu else 0.0,
        device="cuda" if on_gpu else "cpu",
        batch_size=config.batch_size or (32 if on_gpu else 4),
    )


def _counts(config: ResourceConfig, nodes: Sequence[Mapping[str, float]], *, on_gpu: bool) -> tuple[int, int]:
    """Return the numbers of decode and model workers, at least one of each."""
    num_cpus = int(sum(_cpus_of(nodes) or [1.0]))
    most = config.max_model_workers or sys.maxsize
    model = config.model_workers or max(1, min(_num_gpus(nodes) if on_gpu else num_cpus, most))
    rest = num_cpus - model if on_gpu else 0
    return _of_decoding(config, max(num_cpus // 2, rest)), model


def _of_decoding(config: DecodeConfig, number: int) -> int:
    return config.decode_workers or max(1, min(number, config.max_decode_workers or sys.maxsize))


def pool_sizes(
    config: ResourceConfig, shares: Shares, nodes: Sequence[Mapping[str, float]]
) -> tuple[int, int]:
    """Return the numbers of decode and model workers on ``nodes``, which may be others than ``shares`` had.

    Workers keep what they reserve, so fewer may fit than :func:`share_out` would start there. The CPUs go to
    both pools in turn, so that none waits for ever.
    """
    on_gpu = bool(shares.model_gpus)
    decode, model = _counts(config, nodes, on_gpu=on_gpu)
    if not shares.decode_cpus:  # Ray would place them anywhere
        return shares.decode_workers, shares.model_workers
    places = _places(_cpus_of(nodes), shares.decode_cpus)
    if on_gpu:
        gpus = _places([1.0] * _num_gpus(nodes), shares.model_gpus)
        return max(1, min(decode, places)), max(1, min(model, gpus))
    model = max(1, min(model, places - max(1, min(decode, places // 3))))
    return max(1, min(decode, places - model)), model


def _places(amounts: Sequence[float], each: float) -> int:
    return sum(round(amount * _FINEST) // round(each * _FINEST) for amount in amounts)


def decode_only(
    config: DecodeConfig, nodes: Sequence[Mapping[str, float]], to_come: Sequence[Mapping[str, float]] = ()
) -> tuple[int, float]:
    """Return the number of decode workers in a job that only decodes, and the CPUs that each reserves."""
    workers, places = _of_decoding(config, int(sum(_cpus_of(nodes)))), _cpus_of(_with_cpus(nodes, to_come))
    return workers, _each(places, _of_decoding(config, int(sum(places))), what="CPUs")


def decode_pool_size(config: DecodeConfig, cpus: float, nodes: Sequence[Mapping[str, float]]) -> tuple[int]:
    """Return the number of decode workers, each with ``cpus``, in a job that only decodes."""
    amounts = _cpus_of(nodes)
    return (_of_decoding(config, min(int(sum(amounts)), _places(amounts, cpus)) if cpus else 1),)


def _num_gpus(nodes: Iterable[Mapping[str, float]]) -> int:
    return sum(int(node.get("GPU", 0.0)) for node in nodes)


def _with_cpus(
    nodes: Sequence[Mapping[str, float]], to_come: Sequence[Mapping[str, float]]
) -> Sequence[Mapping[str, float]]:
    """Return ``nodes`` if any has CPUs, else the smallest node that can come, else one CPU."""
    small = sorted((node for node in to_come if node.get("CPU")), key=lambda node: node["CPU"])
    return nodes if _cpus_of(nodes) else small[:1] or [{"CPU": 1.0}]


def _cpus_of(nodes: Iterable[Mapping[str, float]]) -> list[float]:
    """Return the CPUs of each node that has any."""
    return [node["CPU"] for node in nodes if "CPU" in node]


def _each(amounts: Sequence[float], workers: int, *, what: str) -> float:
    """Return the largest share, at most 1, with which ``workers`` fit into the ``amounts`` of the nodes.

    If the driver holds everything, workers reserve nothing.
    """
    if not sum(amounts):
        return 0.0
    places = [round(amount * _FINEST) for amount in amounts]
    for share in range(_FINEST, 0, -_STEP):
        fit = sum(place // share for place in places)
        if fit >= workers:
            return share / _FINEST
    raise UserError(
        f"{workers} workers do not fit the {what} of this cluster, which has room for {fit}; give fewer"
    )


def total(nodes: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return the sum of the resources of ``nodes``."""
    found: dict[str, float] = {}
    for node in nodes:
        for name, amount in node.items():
            found[name] = found.get(name, 0.0) + amount
    return found


def file_limits(config: LimitsConfig, cluster: Mapping[str, float], *, workers: int) -> dict[str, Any]:
    """Return the arguments ``allowance`` and ``attempts`` of stages that decode.

    Args:
        cluster: Resources of all nodes; ``memory`` in bytes.
    """
    share_gib = cluster.get("memory", _MOST_GIB * workers * 2**30) / workers / 2**30
    gib = config.memory_gib or min(_MOST_GIB, max(_LEAST_GIB, share_gib))
    return {
        "allowance": Allowance(
            seconds=config.seconds, memory_bytes=gib * 2**30, sandbox=config.sandbox == "on"
        ),
        "attempts": config.attempts,
    }


def of_task(nodes: Sequence[Mapping[str, float]], *, per_gpu: int = 0) -> dict[str, Any]:
    """Return the ``num_cpus`` and ``num_gpus`` of a task, so that it never waits for what no node has.

    Args:
        per_gpu: Tasks that share a GPU, if there is one; 0: the task needs none. A task on a GPU reserves no
            CPU: its node may have none, or the driver may hold them all.

    Raises:
        UserError: If the driver holds all CPUs.
    """
    if per_gpu and any(node.get("GPU", 0.0) >= 1 for node in nodes):
        return {"num_cpus": 0.0, "num_gpus": _FINEST // per_gpu / _FINEST}
    if not (cpus := _each(_cpus_of(nodes), 1, what="CPUs")):
        raise UserError("the driver holds all CPUs of this cluster; give a smaller --entrypoint-num-cpus")
    return {"num_cpus": cpus, "num_gpus": 0.0}


def loaders_of(nodes: Sequence[Mapping[str, float]], *, wanted: int | None) -> int:
    """Return the loader processes of each training worker.

    By default those are the CPUs beside each GPU, less the one of the worker itself, on the node that has
    the fewest; none without a GPU, because the loaders would take the CPUs of the workers.
    """
    if wanted is not None:
        return wanted
    beside = [
        int(node.get("CPU", 0) // node["GPU"]) for node in nodes if node.get("GPU", 0) and node.get("CPU", 0)
    ]
    return max(0, min([_MOST_LOADERS + 1, *beside]) - 1) if beside else 0


def of_training_worker(loaders: int, *, gpus: int) -> dict[str, float]:
    """Return what each worker of a training reserves, on one node."""
    return {"CPU": 1 + loaders, "GPU": min(gpus, 1)}


def training_workers(
    nodes: Sequence[Mapping[str, float]], *, gpus: int, wanted: int | None, loaders: int, most: int
) -> int:
    """Return the number of training workers: by default one per GPU that has CPUs beside it, else up to two.

    Args:
        loaders: Loader processes of each worker.
        most: Clips in a micro-batch, of which each worker needs one.

    Raises:
        UserError: If the workers do not fit the nodes or the batch; Ray would wait for more nodes forever.
    """
    each = of_training_worker(loaders, gpus=gpus)
    fit = _how_many_fit(nodes, each)
    workers = wanted or max(1, min(gpus or _MOST_CPU_TRAINING, fit))
    if workers > most:
        raise UserError(f"{workers} workers cannot share a batch of {most} clips; give fewer --workers")
    if workers > fit:
        needs = f"{each['CPU']:g} CPUs" + (f" and {each['GPU']:g} GPU" if gpus else "")
        raise UserError(
            f"{workers} workers with {needs} each do not fit this cluster of {len(nodes)} nodes, which has "
            f"room for {fit}; give fewer --workers or --loaders"
        )
    return workers


def _how_many_fit(nodes: Sequence[Mapping[str, float]], each: Mapping[str, float]) -> int:
    return sum(
        min(int(node.get(name, 0.0) // amount) for name, amount in each.items() if amount) for node in nodes
    )


def rows_of_block(num_videos: int, *, workers: int) -> int:
    """Return the number of videos in a block.

    It is small, so that no worker idles while another has a queue, and a dead worker costs little. It is
    larger where more than 64 workers would wait for the driver. It is a power of two like the model's default
    batches: blocks of six would reach the model as 32 and 4 videos.
    """
    most = min(_MOST_ROWS, max(_ROWS, workers // _WORKERS_PER_ROW))
    blocks = max(workers * _LEAST_PER_WORKER, min(workers * _MOST_PER_WORKER, _BLOCKS))
    wanted = min(most, max(1, num_videos // blocks))
    return 1 << (wanted - 1).bit_length()


def largest_first(videos: pa.Table) -> pa.Table:
    """Return a manifest with its largest files first, so that no worker begins a long video at the end."""
    return videos.sort_by([("size_bytes", "descending")])


def blocks(videos: pa.Table, *, workers: int) -> list[pa.Table]:
    """Split a manifest into blocks of at most :func:`rows_of_block` rows.

    A block has at most twice the bytes of an average one, unless a single video has more: long videos are not
    queued behind each other.
    """
    rows = rows_of_block(videos.num_rows, workers=workers)
    sizes = videos["size_bytes"].to_pylist()
    most = 2 * rows * sum(sizes) / max(len(sizes), 1)
    starts, taken = [0], 0
    for at, size in enumerate(sizes):
        if at > starts[-1] and (at - starts[-1] == rows or taken + size > most):
            starts.append(at)
            taken = 0
        taken += size
    return [videos.slice(start, end - start) for start, end in pairwise([*starts, len(sizes)])]
