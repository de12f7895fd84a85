"""Pools of workers that follow the cluster.

Ray Data's own growth looks at the cluster every 20 s and lets the pool that has work first take all of a new
node (ray-project/ray#59144, #65540). It never replaces a worker that ended with exit code 0 (#62746). Here,
the driver looks at the nodes every second, and each pool gets its share of them. Pools shrink as their input
ends and as nodes go. Ray Data still asks the autoscaler of the cluster for nodes.
"""

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import ray.data
from ray.core.generated import gcs_pb2
from ray.data._internal.actor_autoscaler import ActorPoolScalingRequest
from ray.data._internal.actor_autoscaler.default_actor_autoscaler import DefaultActorAutoscaler
from ray.data._internal.execution.execution_callback import ExecutionCallback
from rich.console import Console

from dfdm_ray.engine.session import worker_nodes
from dfdm_ray.engine.stage import Stage, waiting_bytes
from dfdm_ray.io.terminal import say

Sizes = Callable[[Sequence[Mapping[str, float]]], Sequence[int]]
"""Returns the number of workers of each stage on nodes with these resources."""

_LOOK_EVERY_S, _PATIENCE_S = 1.0, 45.0
_KEY = "dfdm_ray.pools"
_messages: Any = gcs_pb2  # made by protobuf, without types


@dataclass(kw_only=True, eq=False)
class Pools:
    """The pools of a run."""

    stages: Sequence[Stage]
    sizes: Sizes
    console: Console
    rows: int = 1
    """Videos in a block."""
    largest: list[int] = field(init=False)
    """Largest size of each pool."""

    def __post_init__(self) -> None:
        self.largest = [stage.num_workers for stage in self.stages]

    def waiting_bytes(self) -> int:
        """Return the memory for rows between the stages, see :func:`dfdm_ray.engine.stage.waiting_bytes`."""
        stages = [replace(one, num_workers=n) for one, n in zip(self.stages, self.largest, strict=True)]
        return waiting_bytes(stages, rows=self.rows)


_followed: dict[str, Pools] = {}
"""By a name in the settings of a dataset, because Ray Data copies the settings."""


@contextmanager
def following(dataset: ray.data.Dataset, pools: Pools) -> Iterator[None]:
    """Let the pools of ``dataset`` follow the cluster while the block runs it."""
    name = uuid.uuid4().hex
    dataset.context.set_config(_KEY, name)
    dataset.context.custom_execution_callback_classes.append(_Follow)
    _followed[name] = pools
    try:
        yield
    finally:
        del _followed[name]


class _Follow(ExecutionCallback):
    def before_execution_starts(self, executor: Any) -> None:
        if pools := _followed.get(executor._data_context.get_config(_KEY)):
            executor._actor_autoscaler = _Autoscaler(executor, pools)


class _Autoscaler(DefaultActorAutoscaler):
    """Takes the place of Ray Data's, whose thread calls it many times a second."""

    def __init__(self, executor: Any, pools: Pools) -> None:
        manager = executor._resource_manager
        super().__init__(executor._topology, manager, config=executor._data_context.autoscaling_config)
        self._executor, self._pools, self._options = executor, pools, manager._options
        self._ops = [op for op in executor._topology if op.get_autoscaling_actor_pools()]
        self._looked_s = -_LOOK_EVERY_S
        self._ready_s = [time.monotonic()] * len(self._ops)

    def try_trigger_scaling(self) -> None:
        """Release workers whose input has ended; every second, fit the other pools to the nodes."""
        with self._executor._shutdown_lock:  # an execution that is shut down would keep new workers
            if not self._executor._shutdown:
                self._scale()

    def _scale(self) -> None:
        now, sizes = time.monotonic(), None
        if now - self._looked_s >= _LOOK_EVERY_S:
            self._looked_s, sizes = now, self._pools.sizes(worker_nodes())
        for at, op in enumerate(self._ops):
            state, (pool,) = self._topology[op], op.get_autoscaling_actor_pools()
            if op.has_completed() or (op._inputs_complete and not state.total_enqueued_input_blocks()):
                pool.scale(self._derive_target_scaling_config(pool, op, state))
            elif sizes:
                self._replace_dead(pool, self._pools.stages[at])
                self._fit(pool, at, sizes[at])
                self._report_if_none_is_ready(pool, at, now)

    def _replace_dead(self, pool: Any, stage: Stage) -> None:
        """Take workers that ended between two blocks out of the pool; the death of a busy one is an error."""
        for actor, state in list(pool._running_actors.items()):
            if not state.num_tasks_in_flight and actor._get_local_state() == _messages.ActorTableData.DEAD:
                pool._release_running_actor(actor)
                say(
                    self._pools.console,
                    f"a worker of {stage.fn.__name__} has exited; another takes its place",
                )

    def _fit(self, pool: Any, at: int, size: int) -> None:
        """Give the pool ``size`` workers, as far as those beyond it are idle.

        After the loss of a node, its workers wait for a place on the others. If one pool kept all places
        there, a pool before it could be without a worker for ever.
        """
        missing = int(min(size, pool.max_size())) - pool.current_size()
        if missing > 0:
            pool.scale(ActorPoolScalingRequest.upscale(delta=missing, reason="nodes have joined"))
        elif missing < 0:
            gone = ActorPoolScalingRequest.downscale(delta=missing, force=True, reason="nodes have gone")
            pool.scale(gone)
        if pool.current_size() > self._pools.largest[at]:
            self._pools.largest[at] = pool.current_size()
            if most := self._pools.waiting_bytes():
                limits = ray.data.ExecutionResources.for_limits(object_store_memory=most)
                self._options.resource_limits = limits

    def _report_if_none_is_ready(self, pool: Any, at: int, now: float) -> None:
        if pool.num_alive_actors():
            self._ready_s[at] = now
        elif now - self._ready_s[at] > _PATIENCE_S:
            self._ready_s[at] = now
            stage = self._pools.stages[at]
            needs = f"{stage.num_gpus:g} GPU" if stage.num_gpus else f"{stage.num_cpus:g} CPUs"
            late = f"no worker of {stage.fn.__name__} is ready after {_PATIENCE_S:.0f} s"
            say(self._pools.console, f"{late}; if no node has {needs} free, add one or end other jobs")
