"""Runs whose stages sleep instead of working, so that nodes can be logical ones."""

import io
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
import ray.cloudpickle
from rich.console import Console

from dfdm_ray.config import ResourceConfig, RunConfig
from dfdm_ray.engine.pools import Sizes
from dfdm_ray.engine.run import Run, open_run
from dfdm_ray.engine.session import ray_session, worker_nodes
from dfdm_ray.engine.shares import pool_sizes, share_out
from dfdm_ray.engine.stage import Stage
from dfdm_ray.schemas import MANIFEST, PREDICTIONS
from support.run_folders import rows, run_folder

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the workers cannot import tests

DECODE_S, MODEL_S = 0.05, 0.1
"""Seconds of a video; every pool is as fast as the other."""


class Decodes:
    """Sleeps for each video; no longer once ``hurry`` exists."""

    def __init__(self, hurry: str = "") -> None:
        self.hurry = hurry

    def __call__(self, batch: pa.Table) -> pa.Table:
        if not os.path.exists(self.hurry):
            time.sleep(DECODE_S * batch.num_rows)
        return batch


class Scores:
    """Makes rows with the time and the node. A worker on another node than ``head`` makes ``hurry``."""

    def __init__(self, row: dict[str, Any], hurry: str = "", head: str = "") -> None:
        self.row = row | {"scored_by": ray.get_runtime_context().get_node_id()}
        self.hurry, self.head = hurry, head

    def __call__(self, batch: pa.Table) -> pa.Table:
        if self.hurry and self.row["scored_by"] != self.head:
            Path(self.hurry).touch()
        if not os.path.exists(self.hurry):
            time.sleep(MODEL_S * batch.num_rows)
        made = [
            {**self.row, "video_id": name, "pts_s": [time.time()]} for name in batch["video_id"].to_pylist()
        ]
        return pa.Table.from_pylist(made, schema=PREDICTIONS)


def stages_of(decode: int, model: int, cpus: float, hurry: str = "") -> list[Stage]:
    head, row = ray.get_runtime_context().get_node_id(), rows("").to_pylist()[0]
    scores = {"row": row, "hurry": hurry, "head": head}
    return [
        Stage(fn=Decodes, kwargs={"hurry": hurry}, num_workers=decode, num_cpus=cpus),
        Stage(fn=Scores, kwargs=scores, num_workers=model, num_cpus=cpus),
    ]


def run_while(
    folder: Path,
    num_videos: int,
    disturb: Callable[[Run], None],
    stages: Sequence[Stage] = (),
    sizes: Sizes | None = None,
    begin: threading.Event | None = None,
    hurry_elsewhere: bool = False,
) -> tuple[list[dict[str, Any]], Run, str]:
    """Return all rows, the run and what it printed.

    ``disturb`` runs beside it. The pools are sized for the nodes that are there now, and start when ``begin``
    is set. Pools of ``stages`` have fixed sizes, unless ``sizes`` changes them. With ``hurry_elsewhere`` no
    stage sleeps any more once a second node makes rows.
    """
    names, printed = [f"{number:04}.mp4" for number in range(num_videos)], io.StringIO()
    videos = [{"video_id": name, "uri": f"/{name}", "size_bytes": 1} for name in names]
    manifest, console = pa.Table.from_pylist(videos, schema=MANIFEST), Console(file=printed, width=200)
    with (
        ray_session(None),
        open_run(RunConfig(), run_folder(folder), manifest, console, verb="scored") as run,
    ):
        shares = share_out(ResourceConfig(), worker_nodes())
        if sizes is None:
            sizes = partial(pool_sizes, ResourceConfig(), shares)
            if stages:
                sizes = lambda _: [stage.num_workers for stage in stages]  # noqa: E731
        hurry = str(folder.parent / "hurry") if hurry_elsewhere else ""
        counts = (shares.decode_workers, shares.model_workers)
        stages = stages or stages_of(*counts, shares.decode_cpus, hurry)
        with ThreadPoolExecutor(1) as beside:
            disturbed = beside.submit(disturb, run)
            assert begin is None or begin.wait(300)
            run.through(stages, worker_nodes(), {}, sizes)
            disturbed.result()
    made = run_folder(folder).read().to_pylist()
    assert sorted(row["video_id"] for row in made) == names
    return made, run, printed.getvalue()


def has_rows(run: Run, number: int) -> bool:
    return run._counts.done >= number


def is_over(run: Run) -> bool:
    return "largest_pools" in run.this
