"""Nodes that join, and nodes that go: the pools follow, and every video gets one row."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import psutil
import pyarrow as pa
import pytest
import ray
import ray.cloudpickle
from support import killed
from support.elastic import joined_node, until
from support.run_folders import run_folder
from support.sleepers import Decodes, Run, has_rows, is_over, run_while, stages_of

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the workers cannot import tests


def test_a_node_that_joins_makes_rows(tmp_path: Path) -> None:
    def add(run: Run) -> None:
        with joined_node(tmp_path, cpus=4):
            until(lambda: is_over(run), limit_s=400)

    made, run, _ = run_while(tmp_path / "out", 6000, add, hurry_elsewhere=True)
    head = ray.get_runtime_context().get_node_id()
    assert any(row["scored_by"] != head for row in made)
    assert run.this["largest_pools"] == {"decode": 3, "model": 6}  # for six CPUs
    assert run.this["faults_survived"] == {}


def test_a_node_that_goes_leaves_nothing_undone(tmp_path: Path) -> None:
    out, begin = tmp_path / "out", threading.Event()

    def add_and_kill(run: Run) -> None:
        with joined_node(tmp_path, cpus=4) as node:
            begin.set()
            until(lambda: len(set(run_folder(out).read()["scored_by"].to_pylist())) == 2, limit_s=200)
            os.killpg(node.pid, signal.SIGKILL)

    made, run, _ = run_while(out, 800, add_and_kill, begin=begin)
    assert len({row["scored_by"] for row in made}) == 2
    assert run.this["faults_survived"]["nodes_lost"] == 1


class Slow(Decodes):
    """So slow that the workers of the next stage are idle most of the time."""

    def __call__(self, batch: pa.Table) -> pa.Table:
        time.sleep(0.4 * batch.num_rows)
        return batch


@ray.remote(num_cpus=1)
class Neighbour:
    """Holds the CPU that it reserves."""


def test_a_pool_gives_up_workers_for_one_whose_only_node_is_gone(tmp_path: Path) -> None:
    begin, is_placed, name = threading.Event(), threading.Event(), "MapWorker(MapBatches(Slow))"
    cpus = int(ray.cluster_resources()["CPU"])

    def take_the_first_stage_away(run: Run) -> None:
        neighbours = [Neighbour.remote() for _ in range(cpus)]  # type: ignore[attr-defined]
        ray.get([neighbour.__ray_ready__.remote() for neighbour in neighbours])  # all of this node is taken
        with joined_node(tmp_path, cpus=2) as node:  # has room for the first worker of each stage
            try:
                begin.set()
                until(lambda: any(f"ray::{name}" in killed.command_of(one) for one in _below(node)))
            finally:
                for neighbour in neighbours:
                    ray.kill(neighbour)
            is_placed.set()
            until(lambda: len(killed.workers("MapWorker(MapBatches(Scores))")) == cpus + 1)
            os.killpg(node.pid, signal.SIGKILL)
        try:
            until(lambda: is_over(run))
        except AssertionError:
            with joined_node(tmp_path, cpus=1):  # ends the run, so that the test fails instead of waiting
                until(lambda: is_over(run))
            raise

    def sizes(nodes: Sequence[object]) -> list[int]:
        if not is_placed.is_set():
            return [1, 1]
        return [1, cpus + 1 if len(nodes) > 1 else cpus - 1]

    _, run, _ = run_while(
        tmp_path / "out",
        60,
        take_the_first_stage_away,
        stages=[replace(stages_of(1, 1, 1)[0], fn=Slow), stages_of(1, 1, 1)[1]],
        sizes=sizes,
        begin=begin,
    )
    assert run.this["largest_pools"] == {"decode": 1, "model": cpus + 1}
    assert run.this["faults_survived"]["nodes_lost"] == 1


def _below(node: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return psutil.Process(node.pid).children(recursive=True)


def test_a_worker_that_ends_while_it_is_idle_does_not_stop_a_pool_of_one(tmp_path: Path) -> None:
    name, ended = "MapWorker(MapBatches(Scores))", []

    def idle() -> list[psutil.Process]:
        return [one for one in killed.workers(name) if killed.command_of(one) == f"ray::{name}"]

    def end(run: Run) -> None:
        until(lambda: has_rows(run, 4))
        until(idle)
        ended.extend(idle()[:1])
        ended[0].terminate()

    stages = [replace(stages_of(1, 1, 1)[0], fn=Slow, most_workers=1), stages_of(1, 1, 1)[1]]
    _, run, printed = run_while(tmp_path / "out", 100, end, stages=stages)
    assert ended
    assert not killed.is_alive(ended[0])
    assert run.this["largest_pools"] == {"decode": 1, "model": 1}
    print(printed, run.this)
