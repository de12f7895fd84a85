"""The pipeline of `dfdm-ray score` with stages that sleep, on a Ray that believes to have many nodes.

Resume, blocks, Ray Data, rows on disk and run.json are those of `score`; only the two stages sleep for as
long as theirs would work, and hand on rows of the same shape with a hundredth of the pixels. A logical
node is one decode worker and one model worker.
"""

import io
import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.cluster_utils import Cluster
from rich.console import Console
from sleepers import CROPS_BYTES, SleepingAttributeClips, SleepingPrepareClips
from usage import cpu_seconds, difference

from dfdm_ray.config import RunConfig
from dfdm_ray.engine import run as pipeline
from dfdm_ray.engine.folder import RunFolder
from dfdm_ray.engine.stage import Stage
from dfdm_ray.schemas import MANIFEST, PREDICTIONS, PREDICTIONS_FOLDER

NODE_VIDEOS_S = 16.0
"""What a logical node does: a decode worker sleeps 1/16 s a video, a model worker half of that."""
BATCH = 32
"""Videos in one call of the model, as on a GPU."""
_FROM, _TO = 0.25, 0.75
"""Part of the rows between which is measured, so that start and end do not count."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One run of the pipeline."""

    nodes: int
    rows: int
    """Videos in a block."""
    raylets: int
    """Processes that stand for nodes of Ray; 1: one with the CPUs of all."""
    idle: bool
    """Whether stages did nothing, not even sleep: the driver alone is measured."""
    videos: int
    seconds: float
    """Of the measured part."""
    rate: float
    """Videos a second in it."""
    cpu_s: Mapping[str, float] = field(default_factory=dict)
    """CPU seconds of a video by part, see :mod:`usage`."""
    plan_s: float
    """To put all blocks into the object store, before anything runs."""
    finish_s: float
    """From the last row to the end, Ray's shutdown not counted."""


class _Window:
    """Notes when rows come, and the CPU time spent at the ends of the measured part."""

    def __init__(self, videos: int) -> None:
        self._marks = [_FROM * videos, _TO * videos]
        self._seen = 0
        self.ends: list[tuple[float, int, dict[str, float]]] = []
        self.last_s = 0.0

    def __call__(self, rows: pa.Table) -> None:
        self.last_s = time.monotonic()
        self._seen += rows.num_rows
        if len(self.ends) < len(self._marks) and self._seen >= self._marks[len(self.ends)]:
            self.ends.append((time.monotonic(), self._seen, cpu_seconds()))


def simulate(
    *, nodes: int, rows: int, seconds: float, out: Path, raylets: int = 1, idle: bool = False
) -> Measured:
    """Run the pipeline over videos enough for ``seconds`` on ``nodes`` logical nodes.

    Args:
        nodes: Logical nodes.
        rows: Videos in a block.
        seconds: How long the ideal takes; of idle stages, 1,000 videos a second are taken for it.
        out: Folder for what the run writes; it is emptied.
        raylets: See :class:`Measured`.
        idle: See :class:`Measured`.
    """
    videos = int(seconds * (1000 if idle else nodes * NODE_VIDEOS_S) * min(1.0, rows / 8 if idle else 1.0))
    shutil.rmtree(out, ignore_errors=True)
    window = _Window(videos)
    job = pipeline.Job(
        config=RunConfig(),
        manifest=_manifest(videos),
        folder=RunFolder(str(out), rows=PREDICTIONS_FOLDER, schema=PREDICTIONS, settings={}),
        stages=lambda cluster: (_stages(nodes, idle=idle), {}),
        verb="scored",
        check=window,
    )
    quiet = io.StringIO()  # Ray counts workers at length
    with redirect_stdout(quiet), redirect_stderr(quiet), _ray(nodes, raylets), _blocks_of(rows) as plans:
        table, _ = pipeline.run(job, Console(file=io.StringIO()))
        ended_s = time.monotonic()
    if table.num_rows != videos:
        raise SystemExit(f"{videos} videos went in and {table.num_rows} rows came out")
    (begin_s, begin, before), (end_s, end, after) = window.ends
    done = end - begin
    return Measured(
        nodes=nodes,
        rows=rows,
        raylets=raylets,
        idle=idle,
        videos=videos,
        seconds=end_s - begin_s,
        rate=done / (end_s - begin_s),
        cpu_s={part: spent / done for part, spent in difference(after, before).items()},
        plan_s=plans[0],
        finish_s=ended_s - window.last_s,
    )


def _stages(nodes: int, *, idle: bool) -> list[Stage]:
    video_s = 0.0 if idle else 1 / NODE_VIDEOS_S
    return [
        Stage(
            fn=SleepingPrepareClips,
            kwargs={"video_s": video_s},
            num_workers=nodes,
            num_cpus=1.0,
            out_bytes=CROPS_BYTES,
        ),
        Stage(
            fn=SleepingAttributeClips,
            kwargs={"video_s": video_s / 2},
            num_workers=nodes,
            num_cpus=1.0,
            batch_size=BATCH,
        ),
    ]


def _manifest(videos: int) -> pa.Table:
    names = pa.array([f"DFDM_crf10/iae/id{n % 40}_id{n % 39}_{n:07d}_3iae.mp4" for n in range(videos)])
    given = {"video_id": names, "uri": names, "size_bytes": pa.array([11_000_000] * videos, pa.int64())}
    columns = [given.get(name, pa.nulls(videos, MANIFEST.field(name).type)) for name in MANIFEST.names]
    return pa.Table.from_arrays(columns, schema=MANIFEST)


@contextmanager
def _ray(nodes: int, raylets: int) -> Iterator[None]:
    cpus, quiet = 2 * nodes + raylets, {"log_to_driver": False, "logging_level": logging.WARNING}
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.data.DataContext.get_current().wait_for_min_actors_s = 600  # rates without the start of workers
    with ExitStack() as stack:
        if raylets == 1:
            ray.init(address="local", num_cpus=cpus, include_dashboard=False, **quiet)
        else:
            cluster = Cluster()
            stack.callback(cluster.shutdown)
            for _ in range(raylets):
                cluster.add_node(num_cpus=-(-cpus // raylets), object_store_memory=300 * 2**20)
            ray.init(address=cluster.address, **quiet)
        stack.callback(ray.shutdown)
        yield


@contextmanager
def _blocks_of(rows: int) -> Iterator[list[float]]:
    """Let blocks have ``rows`` videos; yield a list that gets the seconds of each plan."""
    usual, plans = (pipeline.blocks, pipeline.chain), []

    def blocks(videos: pa.Table, *, workers: int) -> list[pa.Table]:
        return [videos.slice(start, rows) for start in range(0, videos.num_rows, rows)]

    def chain(*args: Any) -> ray.data.Dataset:
        started = time.monotonic()
        dataset = usual[1](*args)
        plans.append(time.monotonic() - started)
        return dataset

    pipeline.blocks, pipeline.chain = blocks, chain
    try:
        yield plans
    finally:
        pipeline.blocks, pipeline.chain = usual
