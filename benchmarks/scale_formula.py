"""How long `dfdm-ray score` takes on N nodes, what it costs and what limits it: arithmetic, nothing is run.

Each part of a cluster passes a number of videos per second; the smallest is the throughput of the cluster::

    CPUs       decoding cores / CPU seconds of a video up to its crops
    waiting    decode workers / (those seconds + seconds a worker waits for the storage)
    GPUs       GPUs * videos a GPU scores per second
    network    bandwidth of the nodes / (bytes read of a video + its crops, if they change nodes)
    storage    bytes, or requests, that the storage serves per second / those of a video
    driver     1 / (seconds of a block / videos in it + seconds of a video)

The default costs were measured (docs/performance.md, Scale); ``worker_costs.py`` measures the first three on
your machine. Nodes, GPUs, storage and prices are assumptions.

python benchmarks/scale_formula.py [--nodes 1 4 16 64] [--node.cores 16] [--node.gpu-videos-s 39.5] ...
"""

import math
import statistics
from dataclasses import dataclass, field

import tyro
from report import Table, save, show

from dfdm_ray.config import ResourceConfig
from dfdm_ray.engine.shares import rows_of_block, share_out
from dfdm_ray.labels import QUALITIES

ARCHIVES = {"DFDM": 6450, "a million videos": 1_000_000}
"""Number of videos by archive, a third at each quality."""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Costs of a video on any node; the defaults are those of two cores of an AMD EPYC with AVX-512."""

    prepare_s: dict[int, float] = field(default_factory=lambda: {0: 0.150, 10: 0.110, 23: 0.084})
    """Seconds of a decode worker, one on each core, from opening the file to the crops, by crf."""
    read_mb: float = 1.8
    """MB read of a file."""
    requests: float = 4.75
    """Requests to the storage for a file."""
    model_s: float = 0.41
    """CPU seconds of one core in the network, if there is no GPU."""
    crops_mb: float = 10 * 224 * 224 * 3 / 1e6
    """MB of the crops sent to the model."""
    block_s: float = 0.00573
    """CPU seconds of the driver for a block."""
    video_s: float = 0.000279
    """CPU seconds of the driver for a video in a block."""
    plan_s: float = 0.00098
    """Seconds of the driver for a block before anything runs."""
    finish_s: float = 0.000053
    """Seconds of the driver for a video after the last row has arrived."""
    notice_s: float = 30.0
    """Seconds from the join of nodes to the request for more: Ray Data reads the cluster every 20 s and asks
    every 10 s."""
    start_s: float = 15.0
    """Seconds from the command to the first row of a small run, on a running cluster."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """A kind of machine; the default is AWS g4dn.4xlarge (us-east-1, on demand, 2025)."""

    cores: int = 16
    gpus: int = 1
    gpu_videos_s: float = 39.5
    """Videos that one GPU scores per second; a T4 at 40% of its 8.1 TFLOPS, 82 GFLOP a video."""
    gbit_s: float = 20.0
    """Sustained incoming bandwidth."""
    usd_per_hour: float = 1.204
    boot_s: float = 120.0
    """Seconds from the request for a node until Ray runs on it."""


@dataclass(frozen=True, kw_only=True)
class Storage:
    """A place for the videos; the default is one prefix of S3, with the request rate that Amazon states."""

    mb_s: float = float("inf")
    """MB/s in total; inf if it grows with the cluster."""
    requests_s: float = 5500.0
    """Requests per second in total."""
    latency_s: float = 0.05
    """Time to answer a request of up to 1 MiB; a worker sends one at a time."""
    usd_per_1000_requests: float = 0.0004


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Throughput, time and cost of an archive."""

    limits: dict[str, float]
    """Videos per second that each part passes."""
    rows: int
    """Videos in a block, as ``score`` chooses them."""
    seconds: float
    """From the command to the last row, on a running cluster."""
    usd: float
    """Price of nodes and requests, without a head node."""

    @property
    def bound(self) -> str:
        """The part with the smallest limit."""
        return min(self.limits, key=lambda name: self.limits[name])


def limits(
    node: Node, count: int, costs: Costs, storage: Storage, *, rows: int, workers: int
) -> dict[str, float]:
    """Return the videos per second that each part of ``count`` nodes passes with ``workers`` decoding."""
    prepare_s = statistics.mean(costs.prepare_s[crf] for crf in QUALITIES)
    decoding = max(1, node.cores - node.gpus) if node.gpus else node.cores  # one core feeds each GPU
    # At worst, crops go to the model worker of any node with equal chance.
    arriving_mb = costs.read_mb + costs.crops_mb * (1 - 1 / count)
    passed = {
        "CPUs": count * decoding / (prepare_s + (0 if node.gpus else costs.model_s)),
        "waiting": workers / (prepare_s + storage.latency_s * costs.requests),
        "network": count * node.gbit_s * 125 / arriving_mb,
        "storage": min(storage.requests_s / costs.requests, storage.mb_s / costs.read_mb),
        "driver": 1 / (costs.block_s / rows + costs.video_s),
    }
    return passed | ({"GPUs": count * node.gpus * node.gpu_videos_s} if node.gpus else {})


def predict(num_videos: int, node: Node, count: int, costs: Costs, storage: Storage) -> Prediction:
    """Return the prediction for ``count`` nodes with the workers and blocks that ``score`` chooses."""
    workers = share_out(ResourceConfig(), [{"CPU": node.cores, "GPU": node.gpus}] * count).decode_workers
    rows = rows_of_block(num_videos, workers=workers)
    passed = limits(node, count, costs, storage, rows=rows, workers=workers)
    alone_s = costs.plan_s * num_videos / rows + costs.finish_s * num_videos
    seconds = costs.start_s + alone_s + num_videos / min(passed.values())
    usd = count * node.usd_per_hour * seconds / 3600
    usd += num_videos * costs.requests / 1000 * storage.usd_per_1000_requests
    return Prediction(limits=passed, rows=rows, seconds=seconds, usd=usd)


def growth(node: Node, count: int, costs: Costs) -> tuple[float, float]:
    """Return the seconds in which a head grows to ``count`` nodes, and how far that puts the run behind.

    The first request brings one node, each further one doubles them. Nodes work while others start.
    """
    round_s = node.boot_s + costs.notice_s
    seconds = round_s * (1 + math.ceil(math.log2(count)))
    return seconds, seconds - round_s * (1 - 1 / count)


def main(nodes: tuple[int, ...] = (1, 4, 16, 64), *, node: Node, storage: Storage, costs: Costs) -> None:
    rows = []
    for archive, num_videos in ARCHIVES.items():
        for count in nodes:
            one = predict(num_videos, node, count, costs, storage)
            rate, minutes = min(one.limits.values()), one.seconds / 60
            cells = [archive, f"{count}", f"{one.rows}", f"{rate:.0f}", one.bound, f"{minutes:.1f}"]
            rows.append([*cells, f"{one.usd:.2f}"])
    # One core feeds the GPU.
    cores = [f"{1 + node.gpu_videos_s * costs.prepare_s[crf]:.0f} at crf {crf}" for crf in QUALITIES]
    grown = [f"{growth(node, count, costs)[0] / 60:.1f} min to {count}" for count in nodes]
    print(f"A head alone grows to this many nodes: {', '.join(grown)}.")
    remark = f"Cores that keep one GPU busy: {', '.join(cores)}." if node.gpus else ""
    headings = ["archive", "nodes", "videos a block", "videos/s", "limited by", "minutes", "$"]
    show(Table(title="Predicted, not measured", headings=headings, rows=rows, remark=remark))
    save("scale_formula", headings=headings, rows=rows)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
