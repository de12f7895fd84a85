from dataclasses import replace

import pytest
from scale_model import (
    Archive,
    Costs,
    Node,
    Storage,
    cores_for_gpu,
    cpu_rate,
    driver_rate,
    duration,
    limits,
    line,
    predict,
)

COSTS = Costs(
    prepare_s={0: 0.2, 10: 0.1, 23: 0.06},  # mean 0.12
    model_s=0.88,
    read_mb={0: 6.0, 10: 6.0, 23: 3.0},  # mean 5
    requests={0: 10, 10: 10, 23: 10},
    crops_mb=1.5,
    block_s=0.006,
    video_s=0.0001,
    plan_s=0.001,
    finish_s=0.0001,
    start_s=10.0,
)
NODE = Node(name="n", cores=16, gpus=1, gpu_videos_s=40.0, gbit_s=8.0, usd_per_hour=1.8)
S3 = Storage(name="s", mb_s=None, requests_s=5500.0, latency_s=0.0, usd_per_1000_requests=0.0004)


def test_cores_decode_but_for_one_that_feeds_the_gpu() -> None:
    assert cpu_rate(NODE, COSTS) == pytest.approx(15 / 0.12)


def test_without_a_gpu_cores_run_the_network_too() -> None:
    assert cpu_rate(replace(NODE, gpus=0), COSTS) == pytest.approx(16.0)
    assert "GPUs" not in limits(replace(NODE, gpus=0), 4, COSTS, S3, rows=8, workers=60)


def test_each_part_lets_so_many_videos_pass() -> None:
    passed = limits(NODE, 4, COSTS, S3, rows=8, workers=60)
    assert passed == pytest.approx(
        {
            "CPUs": 4 * 125.0,
            "waiting": 60 / 0.12,
            "GPUs": 160.0,
            "network": 4 * 1000 / (5 + 1.5 * 3 / 4),  # three of four crops come from another node
            "storage": 550.0,
            "driver": 1 / (0.006 / 8 + 0.0001),
        }
    )


def test_workers_wait_for_each_request() -> None:
    far = replace(S3, latency_s=0.05)  # ten requests of a video: half a second beside 0.12
    assert limits(NODE, 4, COSTS, far, rows=8, workers=60)["waiting"] == pytest.approx(60 / 0.62)
    assert limits(NODE, 4, COSTS, far, rows=8, workers=120)["waiting"] == pytest.approx(120 / 0.62)


def test_crops_of_one_node_do_not_travel() -> None:
    assert limits(NODE, 1, COSTS, S3, rows=8, workers=60)["network"] == pytest.approx(1000 / 5)


def test_storage_is_bound_by_bytes_or_by_requests() -> None:
    assert limits(NODE, 1, COSTS, replace(S3, mb_s=500.0), rows=8, workers=15)["storage"] == pytest.approx(
        100
    )
    assert limits(NODE, 1, COSTS, replace(S3, mb_s=5000.0), rows=8, workers=15)["storage"] == pytest.approx(
        550
    )


BOUNDS = [
    # nodes, rows, changed, full first
    (1, 8, {}, "GPUs"),
    (1, 8, {"gpu_videos_s": 1000.0}, "CPUs"),
    (64, 8, {}, "storage"),
    (4, 1, {"gpu_videos_s": 1000.0}, "driver"),
    (4, 8, {"gbit_s": 0.5}, "network"),
]


@pytest.mark.parametrize(("nodes", "rows", "changed", "bound"), BOUNDS)
def test_the_least_limit_is_the_rate(nodes: int, rows: int, changed: dict[str, float], bound: str) -> None:
    archive, node = Archive(name="a", num_videos=1000), replace(NODE, **changed)
    one = predict(archive, node, nodes, COSTS, S3, rows=rows, workers=15 * nodes)
    assert one.bound == bound
    assert one.rate == one.limits[bound] == min(one.limits.values())


def test_time_and_cost_of_an_archive() -> None:
    one = predict(Archive(name="a", num_videos=16000), NODE, 4, COSTS, S3, rows=8, workers=60)
    # start + blocks planned + videos at the GPUs' rate + rows finished
    assert one.seconds == pytest.approx(10 + 2000 * 0.001 + 16000 / 160 + 16000 * 0.0001)
    assert one.usd == pytest.approx(4 * 1.8 * one.seconds / 3600 + 160000 / 1000 * 0.0004)


def test_larger_blocks_relieve_the_driver() -> None:
    rates = [driver_rate(COSTS, rows=rows) for rows in (1, 8, 32)]
    assert rates == sorted(rates)
    assert rates[-1] < 1 / COSTS.video_s


def test_cores_for_a_gpu_balance_it() -> None:
    cores = cores_for_gpu(40.0, 0.12)
    assert cores == pytest.approx(1 + 40 * 0.12)
    node = replace(NODE, cores=round(cores))
    assert cpu_rate(node, COSTS) == pytest.approx(node.gpu_videos_s, rel=0.1)


def test_the_drivers_costs_are_found_again() -> None:
    block_s, video_s = line({rows: 0.006 / rows + 0.0001 for rows in (1, 8, 32)})
    assert (block_s, video_s) == pytest.approx((0.006, 0.0001))


def test_no_cost_is_negative() -> None:
    assert line({1: 0.001, 8: 0.003}) == (0.0, pytest.approx(0.002))
    block_s, video_s = line({1: 0.008, 2: 0.001})
    assert block_s > 0
    assert video_s == 0


@pytest.mark.parametrize(("seconds", "text"), [(53.2, "53 s"), (1380, "23 min"), (25560, "7.1 h")])
def test_durations_are_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text
