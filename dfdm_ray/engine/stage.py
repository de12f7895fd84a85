"""A stage as plain data, and the only place that calls ``map_batches`` and ``iter_batches``."""

import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import pyarrow as pa
import ray.data
from ray.data._internal.execution.execution_callback import ExecutionCallback

from dfdm_ray.engine.session import without_restart_warning
from dfdm_ray.errors import UserError, WriteError

_ROUNDS = 4
"""Measured with a stage five times as fast as the next: it is three rounds ahead, and no worker idles."""

_USER_ERROR = re.compile(rf"{UserError.__module__}\.(?:{UserError.__name__}|{WriteError.__name__}): (.+)")
_WRAPPED = "\nThe above exception was the direct cause of the following exception:\n"
"""Separates, in a traceback, the error of a worker from the one that Ray Data makes of it."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of a pipeline: a pool of actors that map Arrow tables to Arrow tables, row for row."""

    fn: type[Callable[[pa.Table], pa.Table]]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Constructor arguments; Ray Data keeps them in the object store, so they may be large."""
    num_workers: int
    most_workers: int | None = None
    """Workers to which the pool may grow; ``None``: as many as there are blocks."""
    num_cpus: float
    num_gpus: float = 0.0
    batch_size: int | None = None
    """Rows in one call; ``None``: all rows of a block."""
    out_bytes: int = 0
    """Size of a usual row that the stage makes, 0 if small."""
    most_out_bytes: int = 0
    """Size of the largest row, which a video with many faces has."""


def chain(blocks: Sequence[pa.Table], stages: Sequence[Stage]) -> ray.data.Dataset:
    """Return the dataset of ``blocks`` after ``stages``, not yet executed.

    Large rows between two stages may fill :func:`waiting_bytes` of the object store; then the first stage
    pauses until the second has caught up.
    """
    dataset: ray.data.Dataset = ray.data.from_blocks(list(blocks))  # from_arrow would start workers for it
    for stage in stages:
        dataset = apply(dataset, stage, num_blocks=len(blocks))
    if most := waiting_bytes(stages, rows=max(block.num_rows for block in blocks)):
        limits = ray.data.ExecutionResources(object_store_memory=most)
        dataset.context.execution_options.resource_limits = limits
    return dataset


def waiting_bytes(stages: Sequence[Stage], *, rows: int) -> int:
    """Return the memory for rows between stages: four times what all workers hold, 0 for no limit.

    If all rows are the largest, it is at least what all workers hold.

    Without a limit Ray Data lets a fast stage run ahead until a quarter of the object store is full: hundreds
    of videos that a killed run would have to process again.
    """
    at_once = sum(stage.num_workers * max(rows, stage.batch_size or 0) for stage in stages)
    return at_once * max(max(_ROUNDS * stage.out_bytes, stage.most_out_bytes) for stage in stages)


def apply(dataset: ray.data.Dataset, stage: Stage, *, num_blocks: int) -> ray.data.Dataset:
    """Append ``stage`` to ``dataset``; :mod:`dfdm_ray.engine.pools` changes the size of its pool.

    A worker runs one call at a time, in its main thread: a thread of Ray Data keeps no freed memory, see
    :func:`dfdm_ray.io.memory.keep_freed_memory`.
    """
    most = max(stage.num_workers, min(stage.most_workers or num_blocks, num_blocks))
    return dataset.map_batches(
        stage.fn,
        fn_constructor_kwargs=dict(stage.kwargs),
        compute=ray.data.ActorPoolStrategy(
            min_size=1, initial_size=stage.num_workers, max_size=most, enable_true_multi_threading=True
        ),
        num_cpus=stage.num_cpus,
        num_gpus=stage.num_gpus,
        batch_size=stage.batch_size,
        batch_format="pyarrow",
        zero_copy_batch=True,
    )


@contextmanager
def executing(dataset: ray.data.Dataset) -> Iterator[Iterator[pa.Table]]:
    """Yield the rows of ``dataset``, some at a time; no worker outlives a block that fails."""
    dataset.context.custom_execution_callback_classes.append(_KillAtFailure)
    rows = iter(dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0))
    with closing(cast(Generator[pa.Table, None, None], rows)):
        yield _without_warning(rows)


def _without_warning(rows: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Yield ``rows``; the pools start before the first ones come."""
    with without_restart_warning():
        first = next(rows, None)
    if first is not None:
        yield first
        yield from rows


class _KillAtFailure(ExecutionCallback):
    def before_execution_starts(self, executor: Any) -> None:
        executor.shutdown = partial(_shut_down, executor.shutdown)


def _shut_down(end: Callable[..., None], force: bool, exception: BaseException | None = None) -> None:
    """End an execution of Ray Data; kill its workers if it failed.

    Ray Data drops its references to them, and Ray ends those to which nothing refers. But a worker that is
    busy first finishes, and to the one that failed refers the exception, as long as anything refers to that.
    """
    end(force=force or exception is not None, exception=exception)


def own_words(error: Exception) -> UserError | None:
    """Return the :class:`UserError` that a worker raised, ``None`` for any other error.

    Ray Data keeps only its traceback.
    """
    text, _, whole = str(error).rpartition(_WRAPPED)
    found = _USER_ERROR.fullmatch((text or whole).rstrip().rpartition("\n")[2])
    return UserError(found[1]) if found else None
