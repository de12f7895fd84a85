"""The tables of scale.py, of what it wrote as JSON: printed by itself, and on the page."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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
    driver_rate,
    duration,
    mean,
    predict,
)
from simulated import NODE_VIDEOS_S, SleepingPrepareClips

from dfdm_ray.config import ResourceConfig
from dfdm_ray.labels import QUALITIES
from dfdm_ray.pipelines.resources import rows_of_block, share_out
from dfdm_ray.stages.base import Stage, waiting_bytes

CLUSTERS = (1, 4, 16, 64)
_FULL = 0.9
"""Part of its limit from which something is called full."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Headings, rows of cells, and a sentence below."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    remark: str = ""


def by_crf(values: Mapping[Any, float]) -> dict[int, float]:
    """Return ``values`` with the keys that JSON made strings."""
    return {int(crf): value for crf, value in values.items()}


def costs_in(content: Mapping[str, Any]) -> Costs:
    """Return the measured costs."""
    raw = content["costs"]
    return Costs(**{name: by_crf(v) if isinstance(v, dict) else v for name, v in raw.items()})


def all_tables(content: Mapping[str, Any]) -> Iterator[Table]:
    """Yield the tables, predictions first."""
    costs, storage = costs_in(content), Storage(**content["storage"])
    nodes = [Node(**node) for node in content["nodes"]]
    node = nodes[content["default_node"]]
    yield costs_table(costs)
    yield nodes_table(nodes, content["of_peak"])
    yield predictions_table(node, costs, storage)
    yield kinds_table(nodes, costs, storage)
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
    """Return the prediction with blocks as ``score`` makes them."""
    return predict(archive, node, count, costs, storage, rows=rows_for(archive, node, count))


def rows_for(archive: Archive, node: Node, count: int) -> int:
    """Return the videos in a block that ``score`` takes."""
    shares = share_out(ResourceConfig(), num_cpus=node.cores * count, num_gpus=node.gpus * count)
    return rows_of_block(archive.num_videos, workers=shares.decode_workers)


def predictions_table(node: Node, costs: Costs, storage: Storage) -> Table:
    """Time and cost by the number of nodes."""
    rows = []
    for archive in (DFDM, MILLION):
        for count in CLUSTERS:
            one = predicted(archive, node, count, costs, storage)
            block = rows_for(archive, node, count)
            cells = [archive.name, str(count), str(block), f"{one.rate:.0f}", one.bound]
            rows.append([*cells, duration(one.seconds), f"{one.usd:.2f}"])
    headings = ["archive", "nodes", "videos a block", "videos/s", "full first", "time", "$"]
    remark = (
        "Arithmetic, not measured. The time begins with the command on a cluster that runs, and listing the "
        "archive is not in it; $ are nodes and requests, without a head. Storage: "
        f"{storage.requests_s:.0f} requests/s of one prefix"
        + (f", {storage.mb_s:.0f} MB/s." if storage.mb_s else ".")
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
    return Table(title="Kinds of nodes", headings=headings, rows=rows)


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
        shares = share_out(ResourceConfig(), num_cpus=node.cores * count, num_gpus=node.gpus * count)
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


def driver_table(costs: Costs, runs: Sequence[Mapping[str, Any]]) -> Table:
    """What one driver passes, by the size of blocks."""
    rows = []
    for block in sorted({run["rows"] for run in runs if run["idle"]}):
        spent = [1000 * run["cpu_s"]["driver"] for run in runs if run["idle"] and run["rows"] == block]
        rates = [run["rate"] for run in runs if run["idle"] and run["rows"] == block]
        cells = [f"{statistics.median(spent):.2f} ± {(max(spent) - min(spent)) / 2:.2f}"]
        cells += [f"{driver_rate(costs, rows=block):.0f}", f"{statistics.median(rates):.0f}"]
        rows.append([str(block), *cells])
    headings = ["videos a block", "driver, CPU ms a video", "its limit, videos/s", "reached here, videos/s"]
    remark = "Stages that do nothing. Less was reached here, as workers and Ray share its CPUs."
    return Table(title="The driver alone", headings=headings, rows=rows, remark=remark)


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """All runs of one size."""

    nodes: int
    rows: int
    raylets: int
    rates: Sequence[float]
    ideal: float
    predicted: float
    driver_share: float
    """Of one core."""
    machine_share: float
    """Of all cores of the machine that stands for the cluster."""

    @property
    def full(self) -> str:
        """What held the rate down."""
        if statistics.median(self.rates) >= _FULL * self.ideal:
            return "the nodes, as planned"
        if self.machine_share >= _FULL:
            return "this machine's CPUs"
        return "driver" if self.driver_share >= _FULL else "neither driver nor CPUs"


def simulated(costs: Costs, content: Mapping[str, Any]) -> list[Simulated]:
    """Return the simulations by size, those with idle stages left out."""
    runs = [run for run in content["runs"] if not run["idle"]]
    groups = []
    for key in sorted({(run["nodes"], run["rows"], run["raylets"]) for run in runs}):
        nodes, rows, raylets = key
        own = [run for run in runs if (run["nodes"], run["rows"], run["raylets"]) == key]
        shares = {
            part: statistics.median(run["cpu_s"][part] * run["rate"] for run in own)
            for part in ("driver", "machine")
        }
        groups.append(
            Simulated(
                nodes=nodes,
                rows=rows,
                raylets=raylets,
                rates=[run["rate"] for run in own],
                ideal=nodes * NODE_VIDEOS_S,
                predicted=min(nodes * NODE_VIDEOS_S, driver_rate(costs, rows=rows)),
                driver_share=shares["driver"],
                machine_share=shares["machine"] / content["cpus"],
            )
        )
    return groups


def simulation_table(costs: Costs, content: Mapping[str, Any]) -> Table:
    """Simulated against predicted."""
    rows = []
    for one in simulated(costs, content):
        rate, half = statistics.median(one.rates), (max(one.rates) - min(one.rates)) / 2
        name = f"{one.nodes}" + (f" ({one.raylets} Ray nodes)" if one.raylets > 1 else "")
        cells = [name, str(one.rows), f"{one.ideal:.0f}", f"{one.predicted:.0f}", f"{rate:.0f} ± {half:.0f}"]
        cells += [f"{rate / one.ideal:.0%}", f"{one.driver_share:.0%}", f"{one.machine_share:.0%}", one.full]
        rows.append(cells)
    headings = ["logical nodes", "videos a block", "ideal", "predicted", "simulated, videos/s", "efficiency"]
    headings += ["driver, of a core", "machine", "full first"]
    remark = (
        f"A logical node is two workers that sleep, {NODE_VIDEOS_S:g} videos/s; driver, Ray and all workers "
        f"share {content['cpus']} CPUs here."
    )
    return Table(title="Simulated", headings=headings, rows=rows, remark=remark)
