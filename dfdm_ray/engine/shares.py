"""How a cluster's CPUs and GPUs are shared between the workers of a job."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from dfdm_ray.clips.isolation import Allowance
from dfdm_ray.config import DecodeConfig, LimitsConfig, ResourceConfig
from dfdm_ray.errors import UserError

_MOST_GIB, _LEAST_GIB = 4.0, 1.0
"""Memory of a decoding process by default. An 8K frame is 133 MB as RGB and 50 MB in the decoder, which keeps
up to 16; a process with detector and libraries has 0.2 GB to begin with."""

_ROWS, _MOST_ROWS, _WORKERS_PER_ROW = 8, 32, 8
"""Videos in a block at most, 12 MB as crops; in the largest clusters; decode workers for each video above."""
_MOST_PER_WORKER, _LEAST_PER_WORKER, _BLOCKS = 32, 2, 2048
"""Blocks for each worker, and for all where workers are many: a block costs the driver like 20 videos."""

_FINEST, _STEP = 10_000, 100
"""Parts of a CPU or GPU that Ray counts, and how many of them the shares of workers are multiples of."""

_MOST_CPU_TRAINING = 2
"""Workers that train by default where there is no GPU; each takes a share of the batch."""


@dataclass(frozen=True, kw_only=True)
class Shares:
    """Sizes of the two pools and what each worker reserves."""

    decode_workers: int
    decode_cpus: float
    model_workers: int
    model_cpus: float
    model_gpus: float
    device: str
    batch_size: int


def share_out(config: ResourceConfig, nodes: Sequence[Mapping[str, float]]) -> Shares:
    """Share the cluster out; what ``config`` gives is kept, and all workers fit the nodes at the same time.

    With GPUs each gets one model worker, and all CPUs but one for each of them decode, at least every
    second one. Model workers reserve no CPU then: one that did would wait for ever where decode workers or
    the driver hold all CPUs of a node with a free GPU. Without GPUs, every CPU gets a model worker of one
    thread and every second one a decode worker besides: whichever stage is ahead waits for the other, so that
    all CPUs are busy whatever the two cost. A worker reserves less than a CPU where no node has one for it.

    Args:
        config: What the user gives.
        nodes: What each node has for workers, ``CPU`` and ``GPU``.

    Raises:
        UserError: If CUDA is asked for and the cluster has no GPU, or if the workers do not fit it.
    """
    cpus = _cpus_of(nodes)
    gpus = [1.0] * sum(int(node.get("GPU", 0.0)) for node in nodes)  # no worker has parts of two
    if config.device == "cuda" and not gpus:
        raise UserError("--resources.device is cuda, but the Ray cluster has no GPU; use auto or cpu")
    on_gpu = bool(gpus) and config.device != "cpu"
    num_cpus = int(sum(cpus))
    model = config.model_workers or (len(gpus) if on_gpu else max(1, num_cpus))
    rest = num_cpus - model if on_gpu else 0
    decode = config.decode_workers or max(1, num_cpus // 2, rest)
    decode_cpus = _each(cpus, decode if on_gpu else model + decode, what="CPUs")
    return Shares(
        decode_workers=decode,
        decode_cpus=decode_cpus,
        model_workers=model,
        model_cpus=0.0 if on_gpu else decode_cpus,
        model_gpus=_each(gpus, model, what="GPUs") if on_gpu else 0.0,
        device="cuda" if on_gpu else "cpu",
        batch_size=config.batch_size or (32 if on_gpu else 4),
    )


def decode_only(config: DecodeConfig, nodes: Sequence[Mapping[str, float]]) -> tuple[int, float]:
    """Return how many workers decode where nothing else runs, and the CPUs each reserves."""
    cpus = _cpus_of(nodes)
    workers = config.decode_workers or max(1, int(sum(cpus)))
    return workers, _each(cpus, workers, what="CPUs")


def _cpus_of(nodes: Sequence[Mapping[str, float]]) -> list[float]:
    """Return the CPUs of each node with any; of a cluster that has none yet, the one it will be asked for."""
    return [node["CPU"] for node in nodes if "CPU" in node] or [1.0]


def _each(amounts: Sequence[float], workers: int, *, what: str) -> float:
    """Return the largest share, 1 at most, of which ``workers`` fit places of ``amounts``, a worker in one.

    Where the driver holds all there is, workers reserve nothing.
    """
    if not sum(amounts):
        return 0.0
    places = [round(amount * _FINEST) for amount in amounts]
    for share in range(_FINEST, 0, -_STEP):
        fit = sum(place // share for place in places)
        if fit >= workers:
            return share / _FINEST
    raise UserError(f"{workers} workers do not fit the {what} of this cluster, {fit} would; give fewer")


def total(nodes: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return what ``nodes`` have in all."""
    found: dict[str, float] = {}
    for node in nodes:
        for name, amount in node.items():
            found[name] = found.get(name, 0.0) + amount
    return found


def file_limits(config: LimitsConfig, cluster: Mapping[str, float], *, workers: int) -> dict[str, Any]:
    """Return the arguments ``allowance`` and ``attempts`` of stages that decode.

    Args:
        config: What the user allows.
        cluster: What Ray has in all; ``memory`` in bytes.
        workers: Decoding workers among which that is shared.
    """
    share_gib = cluster.get("memory", _MOST_GIB * workers * 2**30) / workers / 2**30
    gib = config.memory_gib or min(_MOST_GIB, max(_LEAST_GIB, share_gib))
    return {
        "allowance": Allowance(seconds=config.seconds, memory_bytes=gib * 2**30),
        "attempts": config.attempts,
    }


def of_training_worker(loaders: int, *, gpus: int) -> dict[str, float]:
    """Return what each worker of a training reserves, on one node."""
    return {"CPU": 1 + loaders, "GPU": min(gpus, 1)}


def training_workers(
    nodes: Sequence[Mapping[str, float]], *, gpus: int, wanted: int | None, loaders: int, most: int
) -> int:
    """Return the number of training workers: by default one per GPU that has CPUs beside it, else up to two.

    Args:
        nodes: Free resources of each node.
        gpus: GPUs of all nodes.
        wanted: Number of workers that the user asks for.
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
    """Return how many videos travel together.

    They are few, so that no worker idles while another has a queue and a worker that dies costs little, and
    more where over 64 workers would wait for the driver. A power of two, as the batches of the model are by
    default: blocks of six would come to it as 32 and 4 videos.
    """
    most = min(_MOST_ROWS, max(_ROWS, workers // _WORKERS_PER_ROW))
    blocks = max(workers * _LEAST_PER_WORKER, min(workers * _MOST_PER_WORKER, _BLOCKS))
    wanted = min(most, max(1, num_videos // blocks))
    return 1 << (wanted - 1).bit_length()


def blocks(videos: pa.Table, *, workers: int) -> list[pa.Table]:
    """Split a manifest into the tables that travel, of :func:`rows_of_block` rows."""
    rows = rows_of_block(videos.num_rows, workers=workers)
    return [videos.slice(start, rows) for start in range(0, videos.num_rows, rows)]
