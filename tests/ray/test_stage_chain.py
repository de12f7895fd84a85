import sys
import threading
import time
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
import ray
import ray.cloudpickle

from dfdm_ray.engine.session import ray_session
from dfdm_ray.engine.stage import Stage, chain, waiting_bytes

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

CROPS_BYTES = 2**20

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the workers cannot import tests


@ray.remote(num_cpus=0)
class Counter:
    """How far the fast stage is ahead of the slow one."""

    def __init__(self) -> None:
        self.ahead, self.furthest = 0, 0

    def count(self, change: int) -> None:
        self.ahead += change
        self.furthest = max(self.furthest, self.ahead)

    def read(self) -> int:
        return self.furthest


class Fast:
    def __init__(self, counter: Any) -> None:
        self.counter = counter

    def __call__(self, batch: pa.Table) -> pa.Table:
        ray.get(self.counter.count.remote(batch.num_rows))
        return batch.append_column(
            "crops", pa.array([bytes(CROPS_BYTES)] * batch.num_rows, pa.large_binary())
        )


class Slow:
    def __init__(self, counter: Any) -> None:
        self.counter = counter

    def __call__(self, batch: pa.Table) -> pa.Table:
        time.sleep(0.05 * batch.num_rows)
        ray.get(self.counter.count.remote(-batch.num_rows))
        return batch.drop_columns(["crops"])


def test_a_fast_stage_waits_for_a_slow_one_and_every_row_arrives() -> None:
    counter = Counter.remote()  # type: ignore[attr-defined]
    shared = {"kwargs": {"counter": counter}, "num_workers": 1, "most_workers": 1, "num_cpus": 0.5}
    stages = [
        Stage(fn=Fast, out_bytes=CROPS_BYTES, **shared),
        Stage(fn=Slow, batch_size=4, **shared),
    ]
    blocks = [pa.table({"video_id": [start, start + 1]}) for start in range(0, 100, 2)]
    dataset = chain(blocks, stages)
    found = [name for row in dataset.iter_batches(batch_size=None) for name in row["video_id"]]
    assert sorted(found) == list(range(100))
    # what waits in the object store, and what the two workers hold
    assert ray.get(counter.read.remote()) <= waiting_bytes(stages, rows=2) / CROPS_BYTES + 2 * (2 + 4)


def test_rows_without_pixels_need_no_limit() -> None:
    stage = Stage(fn=Slow, num_workers=1, num_cpus=1)
    assert waiting_bytes([stage], rows=16) == 0


def test_the_room_between_stages_holds_the_largest_rows_of_all_workers() -> None:
    usual = Stage(fn=Fast, num_workers=2, num_cpus=1.0, out_bytes=100)
    for most, rooms in ((100, 4), (400, 4), (900, 9)):
        assert waiting_bytes([replace(usual, most_out_bytes=most)], rows=8) == rooms * 2 * 8 * 100


class ThreadName:
    def __call__(self, batch: pa.Table) -> pa.Table:
        return pa.table({"thread": [threading.current_thread().name] * batch.num_rows})


def test_a_worker_works_in_its_main_thread_where_memory_can_be_kept() -> None:
    stage = Stage(fn=ThreadName, num_workers=1, num_cpus=0.5)
    (row,) = chain([pa.table({"id": [0]})], [stage]).take_all()
    assert row["thread"] == threading.main_thread().name


def test_ray_logs_no_error_beside_the_one_that_a_run_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_IGNORE_UNHANDLED_ERRORS", raising=False)
    with ray_session(None):
        counter = Counter.remote()  # type: ignore[attr-defined]
        failed = counter.count.remote("a bug")
        ray.get(counter.read.remote())
        del failed  # nobody has read it: Ray calls the error unhandled
