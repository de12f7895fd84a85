"""How long an archive takes on N nodes, what it costs and what is full first: arithmetic, nothing is run.

Each part of a cluster lets so many videos pass in a second; the least of them is the rate of all::

    CPUs       cores that decode / seconds of a video up to its crops
    waiting    decode workers / (those seconds + seconds that a worker waits for the storage)
    GPUs       GPUs * videos a GPU scores in a second
    network    what a node takes in / (bytes read of a video + its crops, when they change nodes)
    storage    bytes, or requests, that the storage answers in a second / those of a video
    driver     1 / (seconds of a block / videos in it + seconds of a video)
"""

from collections.abc import Mapping
from dataclasses import dataclass

from dfdm_ray.labels import QUALITIES


@dataclass(frozen=True, kw_only=True)
class Archive:
    """What is scored; a third of the videos has each quality."""

    name: str
    num_videos: int


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What a video costs, whatever it runs on."""

    prepare_s: Mapping[int, float]
    """Seconds of a decode worker, one on every core, from opening to the crops, by crf."""
    model_s: float
    """CPU seconds of one core in the network, where there is no GPU."""
    read_mb: Mapping[int, float]
    """MB that are read of a file, by crf."""
    requests: Mapping[int, float]
    """Requests to the storage for it, by crf."""
    crops_mb: float
    """MB of a video's crops on the way to the model."""
    block_s: float
    """CPU seconds of the driver for a block."""
    video_s: float
    """The same for a row in it."""
    plan_s: float
    """Seconds of the driver for a block before anything runs."""
    finish_s: float
    """Seconds of the driver for a row after all have come."""
    start_s: float
    """Seconds from the command to the first row of a small run, on a cluster that runs."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """One kind of machine. All but the cores are assumptions: see ``scale.py``."""

    name: str
    cores: int
    gpus: int
    gpu_videos_s: float
    """Videos a second that one GPU scores."""
    gbit_s: float
    """What its network takes in, lasting."""
    usd_per_hour: float


@dataclass(frozen=True, kw_only=True)
class Storage:
    """Where the videos lie; assumptions, too."""

    name: str
    mb_s: float | None
    """MB a second in all; ``None`` where it grows with the cluster."""
    requests_s: float | None
    """Requests a second in all."""
    latency_s: float
    """Until a request of up to 1 MiB is answered; a worker has one at a time."""
    usd_per_1000_requests: float


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One archive on so many nodes."""

    limits: Mapping[str, float]
    """Videos a second that each part lets pass."""
    seconds: float
    usd: float
    """Nodes and requests."""

    @property
    def rate(self) -> float:
        """Videos a second."""
        return min(self.limits.values())

    @property
    def bound(self) -> str:
        """The part that is full first."""
        return min(self.limits, key=lambda name: self.limits[name])


def mean(values: Mapping[int, float]) -> float:
    """Return the mean over the qualities, a third each."""
    return sum(values[crf] for crf in QUALITIES) / len(QUALITIES)


def driver_rate(costs: Costs, *, rows: int) -> float:
    """Return the videos a second that a driver hands out and takes back in blocks of ``rows``."""
    return 1 / (costs.block_s / rows + costs.video_s)


def cpu_rate(node: Node, costs: Costs) -> float:
    """Return the videos a second that the cores of one node pass; one core feeds each GPU."""
    if node.gpus:
        return max(1, node.cores - node.gpus) / mean(costs.prepare_s)
    return node.cores / (mean(costs.prepare_s) + costs.model_s)


def limits(
    node: Node, num_nodes: int, costs: Costs, storage: Storage, *, rows: int, workers: int
) -> dict[str, float]:
    """Return the videos a second that each part of a cluster lets pass.

    Args:
        node: The kind of nodes.
        num_nodes: How many.
        costs: Of a video.
        storage: Where the videos lie.
        rows: Videos in a block.
        workers: Decode workers of all nodes.
    """
    # At worst, crops go to any node's model worker with equal chance.
    arriving_mb = mean(costs.read_mb) + costs.crops_mb * (1 - 1 / num_nodes)
    answered = [float("inf")]
    if storage.requests_s is not None:
        answered.append(storage.requests_s / mean(costs.requests))
    if storage.mb_s is not None:
        answered.append(storage.mb_s / mean(costs.read_mb))
    worker_s = mean(costs.prepare_s) + storage.latency_s * mean(costs.requests)
    passed = {
        "CPUs": num_nodes * cpu_rate(node, costs),
        "waiting": workers / worker_s,
        "network": num_nodes * node.gbit_s * 125 / arriving_mb,
        "storage": min(answered),
        "driver": driver_rate(costs, rows=rows),
    }
    return passed | ({"GPUs": num_nodes * node.gpus * node.gpu_videos_s} if node.gpus else {})


def predict(
    archive: Archive, node: Node, num_nodes: int, costs: Costs, storage: Storage, *, rows: int, workers: int
) -> Prediction:
    """Return time and cost of ``archive`` on nodes that run already; for the others see :func:`limits`."""
    passed = limits(node, num_nodes, costs, storage, rows=rows, workers=workers)
    alone_s = costs.plan_s * archive.num_videos / rows + costs.finish_s * archive.num_videos
    seconds = costs.start_s + alone_s + archive.num_videos / min(passed.values())
    requests = archive.num_videos * mean(costs.requests)
    usd = num_nodes * node.usd_per_hour * seconds / 3600 + requests / 1000 * storage.usd_per_1000_requests
    return Prediction(limits=passed, seconds=seconds, usd=usd)


def cores_for_gpu(gpu_videos_s: float, prepare_s: float) -> float:
    """Return the cores that keep one GPU busy, the one that feeds it among them."""
    return 1 + gpu_videos_s * prepare_s


def line(points: Mapping[int, float]) -> tuple[float, float]:
    """Return (a, b) of the least-squares fit ``seconds of a video = a / rows + b``, both at least 0.

    Args:
        points: Seconds of a video, by videos in a block; two at least.
    """
    xs, ys = [1 / rows for rows in points], list(points.values())
    middle_x, middle_y = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - middle_x) ** 2 for x in xs)
    a = sum((x - middle_x) * (y - middle_y) for x, y in zip(xs, ys, strict=True)) / spread
    if a < 0:
        return 0.0, middle_y
    if middle_y < a * middle_x:
        return sum(x * y for x, y in zip(xs, ys, strict=True)) / sum(x * x for x in xs), 0.0
    return a, middle_y - a * middle_x


def duration(seconds: float) -> str:
    """Return ``seconds`` for people: 53 s, 23 min, 7.1 h."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


DFDM = Archive(name="DFDM", num_videos=6450)
"""82 GB; Jia, Li, Lyu, ICIP 2022."""
DFDM_MB = {0: 25.0, 10: 11.0, 23: 2.0}
"""Mean size of its files, MB."""
MILLION = Archive(name="a million videos", num_videos=1_000_000)
