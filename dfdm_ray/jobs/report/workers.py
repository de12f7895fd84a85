"""The steps of a report over videos: in this process for a few local files, else by Ray's workers."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pyarrow as pa

from dfdm_ray.engine.run import Run
from dfdm_ray.engine.session import nodes_to_come, ray_session, worker_nodes
from dfdm_ray.engine.shares import Shares, decode_only, decode_pool_size, file_limits, share_out, total
from dfdm_ray.engine.stage import Stage, chain, executing
from dfdm_ray.io import storage
from dfdm_ray.jobs.report.config import ReportConfig

FEW = 200
"""Videos that need no Ray if they are local: it starts in ten seconds, in which hundreds are decoded."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """A stage before it is known where it runs."""

    fn: type
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    on_device: bool = False
    """Whether it runs the model; else it decodes."""
    out_bytes: int = 0
    """Size of a row that it makes, 0 if small."""


def runs_here(uris: Sequence[str], config: ReportConfig) -> bool:
    """Whether these files are read by this process, without Ray."""
    given = config.ray_address or os.environ.get("RAY_ADDRESS")
    return not given and len(uris) <= FEW and not any(storage.is_remote(uri) for uri in uris)


def through(steps: Sequence[Step], rows: pa.Table, config: ReportConfig) -> Iterator[pa.Table]:
    """Yield the results of ``rows``, some at a time, in any order."""
    if not rows.num_rows:
        return
    if runs_here(rows["uri"].to_pylist(), config):
        yield from here(steps, rows, config)
        return
    with ray_session(config.ray_address):
        nodes = worker_nodes()
        shares = share_out(config.resources, nodes, nodes_to_come())
        blocks = [rows.slice(at, 1) for at in range(rows.num_rows)]
        stages = stages_of(steps, config, shares, nodes)
        with executing(chain(blocks, stages)) as batches:
            yield from batches


def on_ray(run: Run, steps: Sequence[Step], config: ReportConfig) -> None:
    """Run the ``steps``, which only decode, over what ``run`` has left to do."""
    if not run.todo.num_rows:
        return
    with ray_session(config.ray_address):
        nodes = worker_nodes()
        workers, cpus = decode_only(config.resources, nodes, nodes_to_come())
        shares = share_out(config.resources, nodes, nodes_to_come())
        stages = [
            replace(stage, num_workers=workers, num_cpus=cpus)
            for stage in stages_of(steps, config, replace(shares, decode_workers=workers), nodes)
        ]
        resources = {"decode_workers": workers, "decode_cpus": cpus}
        run.through(stages, nodes, resources, partial(decode_pool_size, config.resources, cpus))


def here(steps: Sequence[Step], rows: pa.Table, config: ReportConfig) -> Iterator[pa.Table]:
    """Yield the results of ``rows`` one by one, made in this process; a child of it reads the files."""
    limits = file_limits(config.limits, {}, workers=1)
    made = [
        step.fn(**step.kwargs, **({"device": _device(config)} if step.on_device else limits))
        for step in steps
    ]
    for at in range(rows.num_rows):
        table = rows.slice(at, 1)
        for stage in made:
            table = stage(table)
        yield table


def stages_of(
    steps: Sequence[Step], config: ReportConfig, shares: Shares, nodes: Sequence[Mapping[str, float]]
) -> list[Stage]:
    """Return the steps as stages of Ray Data on ``nodes``."""
    limits = file_limits(config.limits, total(nodes), workers=shares.decode_workers)
    resources = config.resources
    return [
        Stage(
            fn=step.fn,
            kwargs={**step.kwargs, **({"device": shares.device} if step.on_device else limits)},
            num_workers=shares.model_workers if step.on_device else shares.decode_workers,
            most_workers=(resources.model_workers or resources.max_model_workers)
            if step.on_device
            else (resources.decode_workers or resources.max_decode_workers),
            num_cpus=shares.model_cpus if step.on_device else shares.decode_cpus,
            num_gpus=shares.model_gpus if step.on_device else 0.0,
            out_bytes=step.out_bytes,
        )
        for step in steps
    ]


def _device(config: ReportConfig) -> str:
    import torch  # heavy, and not needed where only pictures are made

    if config.resources.device != "auto":
        return config.resources.device
    return "cuda" if torch.cuda.is_available() else "cpu"
