"""The tables of scale.py, of what it wrote as JSON: printed by itself, and on the page."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from scale_model import (
    DFDM,
    MILLION,
    Archive,
    Costs,
    Node,
    Prediction,
    Storage,
    cores_for_gpu,
    cpu_rate,
    duration,
    mean,
    predict,
)
from simulation_tables import driver_table, simulation_table
from sleepers import SleepingPrepareClips
from tables import Table

from dfdm_ray.config import ResourceConfig
from dfdm_ray.engine.shares import Shares, rows_of_block, share_out
from dfdm_ray.engine.stage import Stage, waiting_bytes
from dfdm_ray.labels import QUALITIES

CLUSTERS = (1, 4, 16, 64)


def by_crf(values: Mapping[Any, float]) -> dict[int, float]:
    """Return ``values`` with the keys that JSON made strings."""
    return {int(crf): value for crf, value in values.items()}


def costs_in(content: Mapping[str, Any]) -> Costs:
    """Return the measured costs."""
    raw = content["costs"]
    return Costs(**{name: by_crf(v) if isinstance(v, dict) else v for name, v in raw.items()})


def all_tables(content: Mapping[str, Any]) -> Iterator[Table]:
    """Yield the tables, predictions first."""
    costs, storages = costs_in(content), [Storage(**storage) for storage in content["storages"]]
    nodes = [Node(**node) for node in content["nodes"]]
    node = nodes[content["default_node"]]
    yield costs_table(costs)
    yield nodes_table(nodes, content["of_peak"])
    yield storages_table(storages)
    yield predictions_table(node, costs, storages)
    yield kinds_table(nodes, costs, storages[0])
    yield balance_table(nodes, costs)
    yield way_table(node, costs)
    yield driver_table(costs, content["runs"])
    yield simulation_table(costs, content)


def costs_table(costs: Costs) -> Table:
    """What a video costs."""
    rows = [
        [
            "decode worker, one on each core, ms",
            *(f"{1000 * costs.prepare_s[crf]:.0f}" for crf in QUALITIES),
        ],
        ["MB read", *(f"{costs.read_mb[crf]:.1f}" for crf in QUALITIES)],
        ["requests", *(f"{costs.requests[crf]:.0f}" for crf in QUALITIES)],
    ]
    remark = (
        f"Without a GPU the network takes {1000 * costs.model_s:.0f} ms of one core. "
        f"Driver: {1000 * costs.block_s:.1f} ms a block and {1000 * costs.video_s:.2f} ms a video; "
        f"before the run {1000 * costs.plan_s:.2f} ms a block, "
        f"after it {1000 * costs.finish_s:.3f} ms a video."
    )
    headings = ["measured, of a video", *(f"crf {crf}" for crf in QUALITIES)]
    return Table(title="What a video costs", headings=headings, rows=rows, remark=remark)


def nodes_table(nodes: Sequence[Node], of_peak: float) -> Table:
    """What is assumed of nodes."""
    rows = []
    for node in nodes:
        rate = f"{node.gpu_videos_s:.0f}" if node.gpus else ""
        rows.append([node.name, str(node.cores), str(node.gpus), rate, f"{node.gbit_s:g}"])
        rows[-1].append(f"{node.usd_per_hour:.3f}")
    remark = (
        f"No GPU was measured: {of_peak:.0%} of the float32 peak of its data sheet is assumed. "
        "Cores are vCPUs and are taken to be as fast as those measured here. "
        "Prices: AWS, us-east-1, on demand; check yours."
    )
    headings = ["node", "cores", "GPUs", "videos/s of a GPU", "Gbit/s", "$ per hour"]
    return Table(title="Assumed", headings=headings, rows=rows, remark=remark)


def predicted(archive: Archive, node: Node, count: int, costs: Costs, storage: Storage) -> Prediction:
    """Return the prediction with the workers and blocks that ``score`` takes."""
    workers, rows = shares_of(node, count).decode_workers, rows_for(archive, node, count)
    return predict(archive, node, count, costs, storage, rows=rows, workers=workers)


def shares_of(node: Node, count: int) -> Shares:
    """Return the pools that ``score`` makes on ``count`` nodes."""
    return share_out(ResourceConfig(), [{"CPU": node.cores, "GPU": node.gpus}] * count)


def rows_for(archive: Archive, node: Node, count: int) -> int:
    """Return the videos in a block that ``score`` takes."""
    return rows_of_block(archive.num_videos, workers=shares_of(node, count).decode_workers)


def storages_table(storages: Sequence[Storage]) -> Table:
    """What is assumed of storage."""
    rows = [
        [
            one.name,
            f"{one.mb_s:.0f}" if one.mb_s else "grows",
            f"{one.requests_s:.0f}" if one.requests_s else "",
            f"{1000 * one.latency_s:g}",
            f"{one.usd_per_1000_requests:g}",
        ]
        for one in storages
    ]
    headings = ["storage", "MB/s", "requests/s", "ms a request", "$ per 1,000 requests"]
    return Table(title="Assumed storage", headings=headings, rows=rows)


def predictions_table(node: Node, costs: Costs, storages: Sequence[Storage]) -> Table:
    """Time and cost by the number of nodes."""
    rows = []
    for archive in (DFDM, MILLION):
        for storage in storages:
            for count in CLUSTERS:
                one = predicted(archive, node, count, costs, storage)
                block = rows_for(archive, node, count)
                cells = [archive.name, storage.name, str(count), str(block), f"{one.rate:.0f}", one.bound]
                rows.append([*cells, duration(one.seconds), f"{one.usd:.2f}"])
    headings = ["archive", "storage", "nodes", "videos a block", "videos/s", "full first", "time", "$"]
    remark = (
        "Arithmetic, not measured. The time begins with the command on a cluster that runs, and listing the "
        "archive is not in it; $ are nodes and requests, without a head."
    )
    return Table(title=f"Predicted on {node.name}", headings=headings, rows=rows, remark=remark)


def kinds_table(nodes: Sequence[Node], costs: Costs, storage: Storage) -> Table:
    """The kinds of nodes against each other."""
    rows = []
    for node in nodes:
        passed = predicted(MILLION, node, 1, costs, storage).limits
        one = predicted(MILLION, node, 4, costs, storage)
        gpu = f"{passed['GPUs']:.0f}" if node.gpus else ""
        rows.append([node.name, f"{cpu_rate(node, costs):.0f}", gpu, f"{one.rate:.0f}", one.bound])
        rows[-1] += [duration(one.seconds), f"{one.usd:.2f}"]
    headings = [
        "node",
        "CPUs of one, videos/s",
        "its GPU",
        "four nodes",
        "full first",
        "a million videos",
        "$",
    ]
    return Table(title=f"Kinds of nodes, from {storage.name}", headings=headings, rows=rows)


def balance_table(nodes: Sequence[Node], costs: Costs) -> Table:
    """Cores that keep a GPU busy."""
    rates = sorted({node.gpu_videos_s for node in nodes if node.gpus} | {100.0, 400.0})
    rows = [
        [f"{rate:.0f}"]
        + [f"{cores_for_gpu(rate, costs.prepare_s[crf]):.0f}" for crf in QUALITIES]
        + [f"{cores_for_gpu(rate, mean(costs.prepare_s)):.0f}"]
        for rate in rates
    ]
    headings = ["videos/s of a GPU", *(f"cores, crf {crf}" for crf in QUALITIES), "a third each"]
    return Table(title="Cores for each GPU, the one that feeds it included", headings=headings, rows=rows)


def way_table(node: Node, costs: Costs) -> Table:
    """What storage, network and object store must bear."""
    rows = []
    for count in CLUSTERS:
        shares = shares_of(node, count)
        block = rows_for(MILLION, node, count)
        stages = [
            Stage(
                fn=SleepingPrepareClips,
                num_workers=shares.decode_workers,
                num_cpus=1,
                out_bytes=int(1e6 * costs.crops_mb),
            ),
            Stage(
                fn=SleepingPrepareClips,
                num_workers=shares.model_workers,
                num_cpus=1,
                batch_size=shares.batch_size,
            ),
        ]
        waiting = waiting_bytes(stages, rows=block) / 2**30
        rate = count * min(
            cpu_rate(node, costs), node.gpus * node.gpu_videos_s if node.gpus else float("inf")
        )
        rows.append([str(count), f"{rate:.0f}", f"{rate * mean(costs.read_mb):.0f}"])
        rows[-1] += [f"{rate * mean(costs.requests):.0f}", f"{rate * costs.crops_mb:.0f}"]
        rows[-1] += [f"{waiting:.1f}", f"{waiting / count:.1f}"]
    headings = [
        "nodes",
        "videos/s",
        "MB/s read",
        "requests/s",
        "MB/s of crops",
        "object store, GiB",
        "of each node",
    ]
    remark = "What the CPUs and GPUs of these nodes ask for when nothing else is full."
    title = f"On the way, {node.name}, a million videos"
    return Table(title=title, headings=headings, rows=rows, remark=remark)
