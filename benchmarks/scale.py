"""Time and cost of `dfdm-ray score` on clusters that nobody has here, and a check of that by simulation.

The prediction is arithmetic (scale_model.py) over costs measured on this machine: seconds of a decode worker
when every core has one, of the network by floor.py, bytes and requests of a file, and the driver's seconds of
a block and a video. Nodes, GPUs, storage and prices are assumptions, which are printed.
The simulation runs the pipeline with stages that sleep and compares its rates with the prediction.

A repeat takes about 15 minutes on two cores, most of it for the start of workers.

python benchmarks/scale.py [--quick] [--repeats 3] [--nodes 1 2 4 ... 64] [--node NAME ...]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from bytes_read import reading
from corpus import originals
from decode_workers import seconds_of_a_video
from floor import OUT
from rich.console import Console
from rich.table import Table
from scale_model import DFDM_MB, Costs, Node, Storage, line
from scale_tables import all_tables
from simulated import Measured, simulate
from timing import machine

from dfdm_ray.labels import QUALITIES

CLIP_GFLOP = 82
"""ResNet-50 on ten frames of 224 pixels, 8.2 GFLOP each."""
OF_PEAK = 0.4
"""Part of a GPU's peak that the network is assumed to reach; on CPUs it reaches 0.8."""
T4_TFLOPS, L4_TFLOPS = 8.1, 30.3
"""Peak in float32, by NVIDIA's data sheets."""


def gpu_rate(peak_tflops: float) -> float:
    """Return the videos a second that a GPU is assumed to score."""
    return OF_PEAK * peak_tflops * 1000 / CLIP_GFLOP


NODES = (
    Node(
        name="g4dn.2xlarge (T4)",
        cores=8,
        gpus=1,
        gpu_videos_s=gpu_rate(T4_TFLOPS),
        gbit_s=10,
        usd_per_hour=0.752,
    ),
    Node(
        name="g4dn.4xlarge (T4)",
        cores=16,
        gpus=1,
        gpu_videos_s=gpu_rate(T4_TFLOPS),
        gbit_s=20,
        usd_per_hour=1.204,
    ),
    Node(
        name="g6.8xlarge (L4)",
        cores=32,
        gpus=1,
        gpu_videos_s=gpu_rate(L4_TFLOPS),
        gbit_s=25,
        usd_per_hour=2.0144,
    ),
    Node(name="c7i.8xlarge (no GPU)", cores=32, gpus=0, gpu_videos_s=0.0, gbit_s=12.5, usd_per_hour=1.428),
)
"""Cores are the vCPUs that AWS lists, network what it lists, prices those of us-east-1 on demand in 2025."""
DEFAULT_NODE = 1
STORAGES = (
    Storage(name="S3", mb_s=None, requests_s=5500, latency_s=0.05, usd_per_1000_requests=0.0004),
    Storage(name="shared disk", mb_s=2000, requests_s=None, latency_s=0.001, usd_per_1000_requests=0),
)
"""S3: 5,500 GET a second for a prefix are Amazon's figure, as is the price (us-east-1, 2025); it calls 100 to
200 ms usual for small objects, less is assumed here. The disk is an assumption altogether."""

_BLOCKS = (1, 8, 32)
"""Videos in a block whose cost for the driver is measured."""
_IDLE_NODES = 2
_START_S = 15.0
"""To the first row of 24 videos on two cores (docs/performance.md)."""


def measured_steps(*, quick: bool) -> dict[str, Any]:
    """Return what floor.py wrote, after running it where it has not."""
    path = OUT / "floor_resnet50.json"
    if not path.exists():
        command = [sys.executable, str(Path(__file__).with_name("floor.py")), *(["--quick"] if quick else [])]
        subprocess.run(command, check=True)
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def files_read(videos: Mapping[int, Sequence[Path]]) -> tuple[dict[int, float], dict[int, float]]:
    """Return MB and requests of a file by crf."""
    read_mb, requests = {}, {}
    for crf, paths in videos.items():
        pairs = [reading(path) for path in paths]
        read_mb[crf] = statistics.mean(count for count, _ in pairs) / 1e6
        requests[crf] = statistics.mean(number for _, number in pairs)
    return read_mb, requests


def costs_of(steps: Mapping[str, Any], runs: Sequence[Measured], *, quick: bool) -> Costs:
    """Return what a video costs, from all that was measured."""
    videos = originals(OUT / "corpus", num_scenes=2 if quick else 4)
    prepare_s = seconds_of_a_video(videos, rounds=1 if quick else 5)
    read_mb, requests = files_read(videos)
    idle = [run for run in runs if run.idle]
    driver = {
        rows: statistics.median(run.cpu_s["driver"] for run in idle if run.rows == rows)
        for rows in {run.rows for run in idle}
    }
    if len(driver) < 2:
        raise SystemExit("--blocks: the driver's costs need blocks of two sizes at least")
    block_s, video_s = line(driver)
    return Costs(
        prepare_s={crf: statistics.median(rounds) for crf, rounds in prepare_s.items()},
        model_s=statistics.mean(steps["results"][str(crf)]["ms"]["model"] for crf in QUALITIES) / 1000,
        read_mb=read_mb,
        requests=requests,
        crops_mb=10 * 224 * 224 * 3 / 1e6,
        block_s=block_s,
        video_s=video_s,
        plan_s=statistics.median(run.plan_s * run.rows / run.videos for run in idle),
        finish_s=statistics.median(run.finish_s / run.videos for run in idle),
        start_s=_START_S,
    )


def simulations(args: argparse.Namespace) -> list[Measured]:
    """Return runs of the pipeline with sleeping stages: all sizes in turn, then all again.

    Each is on disk as it ends; with ``--more`` those of earlier calls come first.
    """
    plans = [{"nodes": _IDLE_NODES, "rows": rows, "seconds": 4.0, "idle": True} for rows in args.blocks]
    plans += [{"nodes": nodes, "rows": 8, "seconds": args.seconds} for nodes in args.nodes]
    if not args.quick:
        most = max(args.nodes)
        plans += [{"nodes": most, "rows": rows, "seconds": args.seconds} for rows in args.blocks if rows != 8]
    plans += [{"nodes": args.raylets, "rows": 8, "seconds": args.seconds, "raylets": args.raylets}] * bool(
        args.raylets
    )
    kept = OUT / "scale_runs.json"
    runs = [Measured(**run) for run in json.loads(kept.read_text())] if args.more and kept.exists() else []
    for repeat in range(args.repeats):
        for number, plan in enumerate(plans):
            print(f"simulation {repeat * len(plans) + number + 1} of {args.repeats * len(plans)}", end="\r")
            runs.append(simulate(out=OUT / "rows_simulated", **plan))
            kept.write_text(json.dumps([asdict(run) for run in runs]))
    return runs


def main() -> None:
    args = _arguments()
    runs = simulations(args)
    costs = costs_of(measured_steps(quick=args.quick), runs, quick=args.quick)
    nodes = [*NODES, *([_given(args.node)] if args.node else [])]
    disk = replace(STORAGES[1], mb_s=args.disk_mb_s)
    storages = [replace(STORAGES[0], latency_s=args.s3_latency_s), disk]
    content = {
        "command": sys.argv,
        "machine": machine("cpu"),
        "cpus": os.cpu_count(),
        "dfdm_mb": DFDM_MB,
        "of_peak": OF_PEAK,
        "nodes": [asdict(node) for node in nodes],
        "default_node": len(nodes) - 1 if args.node else DEFAULT_NODE,
        "storages": [asdict(storage) for storage in storages],
        "costs": asdict(costs),
        "runs": [asdict(run) for run in runs],
    }
    content = json.loads(json.dumps(content))  # as a page reads it
    (OUT / "scale.json").write_text(json.dumps(content, indent=2))
    show(content)


def show(content: Mapping[str, Any]) -> None:
    """Print all tables."""
    console = Console(width=130)
    console.print(f"{content['machine']}, {content['cpus']} CPUs; {' '.join(content['command'])}")
    for one in all_tables(content):
        table = Table(
            *one.headings,
            title=one.title,
            caption=one.remark,
            title_justify="left",
            caption_justify="left",
        )
        for row in one.rows:
            table.add_row(*row)
        console.print(table)


def _given(words: Sequence[str]) -> Node:
    name, cores, gpus, rate, gbit, usd = words
    return Node(
        name=name,
        cores=int(cores),
        gpus=int(gpus),
        gpu_videos_s=float(rate),
        gbit_s=float(gbit),
        usd_per_hour=float(usd),
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="two small simulations, one repeat")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64], help="simulated")
    parser.add_argument("--blocks", type=int, nargs="+", default=_BLOCKS, help="videos in a block")
    parser.add_argument("--seconds", type=float, default=12.0, help="of each simulation, when all goes well")
    parser.add_argument("--raylets", type=int, default=8, help="also as many Ray nodes of their own; 0: none")
    parser.add_argument("--more", action="store_true", help="add to the runs of earlier calls")
    parser.add_argument(
        "--node",
        nargs=6,
        metavar=("NAME", "CORES", "GPUS", "VIDEOS_PER_S_OF_A_GPU", "GBIT_PER_S", "USD_PER_HOUR"),
        help="your kind of node",
    )
    parser.add_argument("--s3-latency-s", type=float, default=STORAGES[0].latency_s)
    parser.add_argument("--disk-mb-s", type=float, default=STORAGES[1].mb_s, help="for all nodes together")
    args = parser.parse_args()
    if args.quick:
        args.repeats, args.nodes, args.blocks, args.seconds, args.raylets = 1, [1, 4], [1, 8], 6.0, 0
    return args


if __name__ == "__main__":
    main()
