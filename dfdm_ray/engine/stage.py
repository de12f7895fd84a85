"""A stage as plain data, and the only place that calls ``map_batches``."""

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import pyarrow as pa
import ray
import ray.data

T = TypeVar("T")

_ROUNDS = 4
"""Measured with a stage five times as fast as the next: it runs three rounds ahead, and nothing idles."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of a pipeline: a pool of actors that map Arrow tables to Arrow tables of as many rows."""

    fn: type[Callable[[pa.Table], pa.Table]]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    num_workers: int
    num_cpus: float
    num_gpus: float = 0.0
    batch_size: int | None = None
    """Rows in one call; ``None``: as many as a block has."""
    out_bytes: int = 0
    """Of a row that it makes, where that is much."""


def chain(blocks: Sequence[pa.Table], stages: Sequence[Stage]) -> ray.data.Dataset:
    """Return the dataset of ``blocks`` after ``stages``, not yet run.

    Large rows between two stages wait in a part of the object store of :func:`waiting_bytes`; a stage that
    has filled it pauses until the next one has caught up.
    """
    dataset: ray.data.Dataset = ray.data.from_blocks(list(blocks))  # from_arrow would start workers for it
    for stage in stages:
        dataset = apply(dataset, stage)
    if most := waiting_bytes(stages, rows=max(block.num_rows for block in blocks)):
        limits = ray.data.ExecutionResources(object_store_memory=most)
        dataset.context.execution_options.resource_limits = limits
    return dataset


def waiting_bytes(stages: Sequence[Stage], *, rows: int) -> int:
    """Return the memory for rows on the way: four times what all workers hold at once, 0 for no limit.

    By itself Ray Data lets a fast stage run ahead until a quarter of the object store is full: hundreds of
    videos, all to be done again when the run is killed.

    Args:
        stages: The pipeline.
        rows: Of a block.
    """
    at_once = sum(stage.num_workers * max(rows, stage.batch_size or 0) for stage in stages)
    return _ROUNDS * at_once * max(stage.out_bytes for stage in stages)


def apply(dataset: ray.data.Dataset, stage: Stage) -> ray.data.Dataset:
    """Append ``stage`` to ``dataset``. The pool has its full size from the start.

    A worker does one call at a time, as ``max_concurrent_calls_per_actor`` is 1, and in its main thread: in
    one of Ray Data's own, freed memory is not kept (:func:`dfdm_ray.io.memory.keep_freed_memory`).
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


def in_object_store(value: T) -> Callable[[], T]:
    """Put ``value`` where every worker reaches it; call what is returned to get it."""
    get: Callable[[], T] = partial(ray.get, ray.put(value))  # type: ignore[assignment]  # its overloads hide T
    return get


def worker_name() -> str:
    """Return host and process number."""
    return f"{socket.gethostname()}:{os.getpid()}"
