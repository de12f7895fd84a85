"""A stage as plain data, and the only place that calls ``map_batches``."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import ray.data

_ROUNDS = 4
"""Measured with a stage five times as fast as the next: it is three rounds ahead, and no worker idles."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of a pipeline: a pool of actors that map Arrow tables to Arrow tables, row for row."""

    fn: type[Callable[[pa.Table], pa.Table]]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Constructor arguments; Ray Data keeps them in the object store, so they may be large."""
    num_workers: int
    num_cpus: float
    num_gpus: float = 0.0
    batch_size: int | None = None
    """Rows in one call; ``None``: all rows of a block."""
    out_bytes: int = 0
    """Size of a row that the stage makes, 0 if small."""


def chain(blocks: Sequence[pa.Table], stages: Sequence[Stage]) -> ray.data.Dataset:
    """Return the dataset of ``blocks`` after ``stages``, not yet executed.

    Large rows between two stages may fill :func:`waiting_bytes` of the object store; then the first stage
    pauses until the second has caught up.
    """
    dataset: ray.data.Dataset = ray.data.from_blocks(list(blocks))  # from_arrow would start workers for it
    for stage in stages:
        dataset = apply(dataset, stage)
    if most := waiting_bytes(stages, rows=max(block.num_rows for block in blocks)):
        limits = ray.data.ExecutionResources(object_store_memory=most)
        dataset.context.execution_options.resource_limits = limits
    return dataset


def waiting_bytes(stages: Sequence[Stage], *, rows: int) -> int:
    """Return the memory for rows between stages: four times what all workers hold, 0 for no limit.

    Without a limit Ray Data lets a fast stage run ahead until a quarter of the object store is full: hundreds
    of videos that a killed run would have to process again.
    """
    at_once = sum(stage.num_workers * max(rows, stage.batch_size or 0) for stage in stages)
    return _ROUNDS * at_once * max(stage.out_bytes for stage in stages)


def apply(dataset: ray.data.Dataset, stage: Stage) -> ray.data.Dataset:
    """Append ``stage`` to ``dataset``. The pool has its full size from the start.

    A worker runs one call at a time, in its main thread: a thread of Ray Data keeps no freed memory, see
    :func:`dfdm_ray.io.memory.keep_freed_memory`.
    """
    return dataset.map_batches(
        stage.fn,
        fn_constructor_kwargs=dict(stage.kwargs),
        compute=ray.data.ActorPoolStrategy(size=stage.num_workers, enable_true_multi_threading=True),
        num_cpus=stage.num_cpus,
        num_gpus=stage.num_gpus,
        batch_size=stage.batch_size,
        batch_format="pyarrow",
        zero_copy_batch=True,
    )
