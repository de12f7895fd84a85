from dataclasses import replace

import pytest
from scale_formula import ARCHIVES, Costs, Node, Storage, growth, limits, predict

from dfdm_ray.engine.shares import rows_of_block

COSTS = Costs(
    prepare_s={0: 0.2, 10: 0.1, 23: 0.06},  # mean 0.12
    model_s=0.88,
    read_mb=5.0,
    requests=10.0,
    crops_mb=1.5,
    block_s=0.006,
    video_s=0.0001,
    plan_s=0.001,
    finish_s=0.0001,
    start_s=10.0,
)
NODE = Node(cores=16, gpus=1, gpu_videos_s=40.0, gbit_s=8.0, usd_per_hour=1.8)
S3 = Storage(requests_s=5500.0, latency_s=0.0, usd_per_1000_requests=0.0004)


def test_each_part_has_a_limit() -> None:
    passed = limits(NODE, 4, COSTS, S3, rows=8, workers=60)
    assert passed == pytest.approx(
        {
            "CPUs": 4 * 15 / 0.12,  # one core feeds the GPU
            "waiting": 60 / 0.12,
            "GPUs": 160.0,
            "network": 4 * 1000 / (5 + 1.5 * 3 / 4),  # three of four crops come from another node
            "storage": 550.0,
            "driver": 1 / (0.006 / 8 + 0.0001),
        }
    )


def test_without_a_gpu_cores_also_run_the_network() -> None:
    passed = limits(replace(NODE, gpus=0), 4, COSTS, S3, rows=8, workers=60)
    assert passed["CPUs"] == pytest.approx(4 * 16 / (0.12 + 0.88))
    assert "GPUs" not in passed


def test_workers_wait_for_each_request() -> None:
    far = replace(S3, latency_s=0.05)  # ten requests of a video: half a second in addition to 0.12
    assert limits(NODE, 4, COSTS, far, rows=8, workers=60)["waiting"] == pytest.approx(60 / 0.62)
    assert limits(NODE, 4, COSTS, far, rows=8, workers=120)["waiting"] == pytest.approx(120 / 0.62)


def test_on_one_node_crops_do_not_use_the_network() -> None:
    assert limits(NODE, 1, COSTS, S3, rows=8, workers=60)["network"] == pytest.approx(1000 / 5)


@pytest.mark.parametrize(("mb_s", "rate"), [(500.0, 100.0), (5000.0, 550.0)])
def test_storage_is_limited_by_bytes_or_by_requests(mb_s: float, rate: float) -> None:
    passed = limits(NODE, 1, COSTS, replace(S3, mb_s=mb_s), rows=8, workers=15)
    assert passed["storage"] == pytest.approx(rate)


def test_larger_blocks_relieve_the_driver() -> None:
    rates = [limits(NODE, 1, COSTS, S3, rows=rows, workers=15)["driver"] for rows in (1, 8, 32)]
    assert rates == sorted(rates)
    assert rates[-1] < 1 / COSTS.video_s


BOUNDS = [
    # nodes, changes of the node, the limiting part for a million videos
    (1, {}, "GPUs"),
    (1, {"gpu_videos_s": 1000.0}, "CPUs"),
    (64, {}, "storage"),
    (4, {"gbit_s": 0.5}, "network"),
]


@pytest.mark.parametrize(("nodes", "changes", "bound"), BOUNDS)
def test_the_smallest_limit_is_the_bound(nodes: int, changes: dict[str, float], bound: str) -> None:
    one = predict(10**6, replace(NODE, **changes), nodes, COSTS, S3)
    assert one.bound == bound
    assert one.limits[bound] == min(one.limits.values())


def test_blocks_are_those_of_score() -> None:
    one = predict(10**6, NODE, 16, COSTS, S3)
    assert one.rows == rows_of_block(10**6, workers=16 * 15)
    assert one.limits["driver"] == pytest.approx(1 / (COSTS.block_s / one.rows + COSTS.video_s))


def test_time_and_price_of_an_archive() -> None:
    one = predict(16_000, NODE, 4, COSTS, S3)
    # start + blocks planned + videos at the GPUs' rate + rows finished
    assert one.seconds == pytest.approx(10 + 16_000 / one.rows * 0.001 + 16_000 / 160 + 16_000 * 0.0001)
    assert one.usd == pytest.approx(4 * 1.8 * one.seconds / 3600 + 160_000 / 1000 * 0.0004)


@pytest.mark.parametrize(
    ("nodes", "rounds", "behind"), [(1, 1, 1), (2, 2, 1.5), (16, 5, 4.0625), (64, 7, 6.015625)]
)
def test_growing_doubles_the_nodes_in_each_round(nodes: int, rounds: int, behind: float) -> None:
    seconds, behind_s = growth(replace(NODE, boot_s=70), nodes, replace(COSTS, notice_s=30))
    assert seconds == pytest.approx(100 * rounds)
    assert behind_s == pytest.approx(100 * behind)


DOCUMENTED = [
    # docs/performance.md, Scale: archive, nodes, videos a block, videos/s, limited by, minutes, $
    ("DFDM", 1, 8, 40, "GPUs", 3.0, 0.07),
    ("DFDM", 4, 4, 158, "GPUs", 58 / 60, 0.09),
    ("DFDM", 16, 4, 584, "driver", 28 / 60, 0.16),
    ("a million videos", 4, 8, 158, "GPUs", 109, 10.62),
    ("a million videos", 16, 32, 632, "GPUs", 28, 10.89),
    ("a million videos", 64, 32, 1158, "storage", 16, 22.50),
]


@pytest.mark.parametrize(("archive", "nodes", "rows", "rate", "bound", "minutes", "usd"), DOCUMENTED)
def test_the_defaults_give_the_documented_predictions(
    archive: str, nodes: int, rows: int, rate: float, bound: str, minutes: float, usd: float
) -> None:
    one = predict(ARCHIVES[archive], Node(), nodes, Costs(), Storage())
    assert (one.rows, one.bound) == (rows, bound)
    assert one.limits[bound] == pytest.approx(rate, abs=0.5)
    assert one.seconds / 60 == pytest.approx(minutes, rel=0.02)
    assert one.usd == pytest.approx(usd, abs=0.005)
