"""A stage as plain data, and the only place that calls ``map_batches``."""

import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import pyarrow as pa
import ray
import ray.data

T = TypeVar("T")


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


def apply(dataset: ray.data.Dataset, stage: Stage) -> ray.data.Dataset:
    """Append ``stage`` to ``dataset``. The pool has its full size from the start."""
    return dataset.map_batches(
        stage.fn,
        fn_constructor_kwargs=dict(stage.kwargs),
        compute=ray.data.ActorPoolStrategy(size=stage.num_workers),
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
