from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import pyarrow as pa
import pytest

from dfdm_ray.config import DecodeConfig, ResourceConfig
from dfdm_ray.engine.shares import (
    Shares,
    blocks,
    decode_only,
    decode_pool_size,
    largest_first,
    pool_sizes,
    rows_of_block,
    share_out,
    training_workers,
)
from dfdm_ray.errors import UserError

CASES = [
    # CPUs, GPUs, decode workers, model workers, device
    (1, 0, 1, 1, "cpu"),  # both share the one CPU
    (2, 0, 1, 2, "cpu"),  # a laptop: three workers share two CPUs
    (8, 0, 4, 8, "cpu"),  # one side waits for the other, no CPU waits
    (16, 1, 15, 1, "cuda"),  # a workstation
    (128, 8, 120, 8, "cuda"),  # a node with eight GPUs
    (12, 8, 6, 8, "cuda"),  # every second CPU decodes where GPUs are many
    (4, 8, 2, 8, "cuda"),  # more GPUs than CPUs
]


@pytest.mark.parametrize(("cpus", "gpus", "decode", "model", "device"), CASES)
def test_a_cluster_is_shared_between_decoding_and_the_model(
    cpus: int, gpus: int, decode: int, model: int, device: str
) -> None:
    shares = share_out(ResourceConfig(), [{"CPU": cpus, "GPU": gpus}])
    assert (shares.decode_workers, shares.model_workers, shares.device) == (decode, model, device)


def cluster(count: int, cpus: float, gpus: float = 0.0) -> list[dict[str, float]]:
    return [{"CPU": cpus, "GPU": gpus}] * count


SHAPES = [
    *(cluster(count, cpus) for count in (1, 2, 3, 4, 8) for cpus in (1, 2, 3, 4, 5, 7, 15, 32)),
    *(cluster(count, cpus, gpus) for count in (1, 2, 8) for cpus in (1, 3, 8, 64) for gpus in (1, 4, 8)),
    [{"memory": 1.0}, *cluster(2, 3)],  # a head without work
    [*cluster(1, 1), *cluster(2, 6), *cluster(1, 16)],
    [*cluster(3, 5), *cluster(2, 7, 2), *cluster(1, 4, 1)],
    [{"CPU": 0.0}, *cluster(2, 1)],  # the driver holds a node
    cluster(2, 0.5),
]


def in_turn(nodes: Sequence[Mapping[str, float]], shares: Shares) -> tuple[int, int]:
    """Place workers as Ray does, decoding first, each where it fits; return how many of both pools ran."""
    cpus = [round(node.get("CPU", 0.0) * 10_000) for node in nodes]
    gpus = [10_000 for node in nodes for _ in range(int(node.get("GPU", 0.0)))]
    decode = placed(cpus, shares.decode_cpus, shares.decode_workers)
    if shares.model_gpus:
        return decode, placed(gpus, shares.model_gpus, shares.model_workers)
    return decode, placed(cpus, shares.model_cpus, shares.model_workers)


def placed(places: list[int], each: float, workers: int) -> int:
    for worker in range(workers):
        index = next((i for i, free in enumerate(places) if free >= round(each * 10_000)), None)
        if index is None:
            return worker
        places[index] -= round(each * 10_000)
    return workers


@pytest.mark.parametrize("device", ["auto", "cpu"])
@pytest.mark.parametrize(("decode", "model"), [(None, None), (5, 3), (None, 12), (64, None)])
def test_all_workers_find_a_node_at_the_same_time(
    device: Literal["auto", "cpu"], decode: int | None, model: int | None
) -> None:
    config = ResourceConfig(device=device, decode_workers=decode, model_workers=model)
    for nodes in SHAPES:
        shares = share_out(config, nodes)
        assert in_turn(nodes, shares) == (shares.decode_workers, shares.model_workers), nodes
        assert min(shares.decode_cpus, shares.model_cpus or shares.model_gpus) > 0


def test_as_many_decode_workers_as_cpus_leave_a_model_worker_its_place() -> None:
    for nodes in SHAPES:
        cpus = max(1, int(sum(node.get("CPU", 0.0) for node in nodes)))
        shares = share_out(ResourceConfig(device="cpu", decode_workers=cpus, model_workers=1), nodes)
        assert in_turn(nodes, shares) == (cpus, 1), nodes


@pytest.mark.parametrize(
    ("nodes", "given", "decode", "model", "cpus"),
    [
        (cluster(2, 4), {"decode_workers": 8, "model_workers": 1}, 8, 1, 0.8),  # a fifth place on a node
        (cluster(8, 32), {"decode_workers": 256, "model_workers": 1}, 256, 1, 0.96),
        (cluster(2, 1), {}, 1, 2, 0.5),
        (cluster(2, 3), {}, 3, 6, 0.6),
        (cluster(3, 5), {}, 7, 15, 0.62),
        (cluster(1, 15), {}, 7, 15, 0.68),
        ([*cluster(1, 1), *cluster(1, 8)], {}, 4, 9, 0.66),  # the small node takes one, the large one twelve
    ],
)
def test_what_workers_reserve_is_the_most_of_which_all_fit(
    nodes: list[dict[str, float]], given: dict[str, int], decode: int, model: int, cpus: float
) -> None:
    shares = share_out(ResourceConfig(**given), nodes)
    assert (shares.decode_workers, shares.model_workers) == (decode, model)
    assert shares.decode_cpus == shares.model_cpus == cpus


def test_gpus_are_shared_by_whole_numbers_of_workers() -> None:
    config = ResourceConfig(model_workers=12)
    assert share_out(config, cluster(1, 64, 8)).model_gpus == 0.5
    assert share_out(config, cluster(8, 8, 1)).model_gpus == 0.5
    assert share_out(ResourceConfig(model_workers=3), cluster(1, 8, 1)).model_gpus == 0.33
    assert share_out(ResourceConfig(model_workers=3), cluster(1, 8, 4)).model_gpus == 1.0


@pytest.mark.parametrize(
    ("given", "nodes", "says"),
    [
        (
            {"decode_workers": 200},
            cluster(2, 1),
            "202 workers do not fit the CPUs .* has room for 200",
        ),
        (
            {"model_workers": 500},
            cluster(2, 1, 2),
            "500 workers do not fit the GPUs .* has room for 400",
        ),
    ],
)
def test_workers_that_no_cluster_would_take_are_the_users_mistake(
    given: dict[str, int], nodes: list[dict[str, float]], says: str
) -> None:
    with pytest.raises(UserError, match=says):
        share_out(ResourceConfig(**given), nodes)


def test_workers_reserve_nothing_where_the_driver_holds_all_and_wait_where_there_is_nothing_yet() -> None:
    held = share_out(ResourceConfig(), [{"CPU": 0.0}])
    assert (held.decode_workers, held.model_workers, held.decode_cpus) == (1, 1, 0.0)
    assert share_out(ResourceConfig(), [{"memory": 1.0}]).decode_cpus == 0.5


def test_a_gpu_is_used_where_decoding_or_the_driver_hold_all_cpus_of_its_node() -> None:
    assert share_out(ResourceConfig(), cluster(1, 7, 2)).model_cpus == 0
    assert share_out(ResourceConfig(device="cpu"), cluster(1, 7, 2)).model_cpus > 0


def test_pools_have_the_sizes_of_a_fresh_start_wherever_all_workers_fit() -> None:
    for nodes in SHAPES:
        shares = share_out(ResourceConfig(), nodes)
        assert pool_sizes(ResourceConfig(), shares, nodes) == (shares.decode_workers, shares.model_workers)


@pytest.mark.parametrize("begin", SHAPES)
def test_the_workers_of_grown_and_shrunk_pools_find_places(begin: list[dict[str, float]]) -> None:
    config = ResourceConfig()
    shares = share_out(config, begin)
    for nodes in SHAPES:
        if shares.decode_cpus and any(node.get("CPU", 0) >= 2 * shares.decode_cpus for node in nodes):
            decode, model = pool_sizes(config, shares, nodes)
            now = replace(shares, decode_workers=decode, model_workers=model)
            if not shares.model_gpus or any(node.get("GPU") for node in nodes):
                assert in_turn(nodes, now) == (decode, model), nodes


def test_a_second_node_doubles_the_pools_up_to_the_given_limits() -> None:
    one, two = cluster(1, 8), cluster(2, 8)
    shares = share_out(ResourceConfig(), one)
    assert pool_sizes(ResourceConfig(), shares, two) == (8, 16)
    assert pool_sizes(ResourceConfig(max_decode_workers=5, max_model_workers=9), shares, two) == (5, 9)
    assert pool_sizes(ResourceConfig(decode_workers=3, model_workers=2), shares, two) == (3, 2)
    assert decode_pool_size(DecodeConfig(), 1.0, two) == (16,)
    assert decode_pool_size(DecodeConfig(max_decode_workers=4), 1.0, two) == (4,)


def test_a_cluster_without_workers_begins_with_one_of_each_for_the_nodes_to_come() -> None:
    head, kinds = [{"memory": 1.0}], [{"CPU": 16.0, "GPU": 1.0}, {"CPU": 8.0}]
    shares = share_out(ResourceConfig(), head, kinds)
    assert (shares.decode_workers, shares.model_workers, shares.device) == (1, 1, "cuda")
    assert (shares.decode_cpus, shares.model_gpus) == (1.0, 1.0)
    assert pool_sizes(ResourceConfig(), shares, head) == (1, 1)
    assert pool_sizes(ResourceConfig(), shares, [*head, *kinds, *kinds]) == (46, 2)
    on_cpus = share_out(ResourceConfig(device="cpu"), head, [{"CPU": 8.0}])
    assert (on_cpus.decode_workers, on_cpus.model_workers, on_cpus.decode_cpus) == (1, 1, 0.66)
    assert decode_only(DecodeConfig(), head, kinds) == (1, 1.0)


def test_what_the_user_gives_is_kept() -> None:
    config = ResourceConfig(decode_workers=3, model_workers=2, batch_size=7, device="cpu")
    shares = share_out(config, cluster(1, 16, 4))
    assert (shares.decode_workers, shares.model_workers, shares.batch_size) == (3, 2, 7)
    assert (shares.device, shares.model_gpus) == ("cpu", 0.0)


def test_cuda_without_a_gpu_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match="has no GPU; use auto or cpu"):
        share_out(ResourceConfig(device="cuda"), cluster(1, 8))


BLOCKS = [
    # videos, workers, videos in a block
    (1, 8, 1),
    (64, 1, 2),
    (6450, 30, 8),
    (10**5, 8, 8),
    (10**6, 64, 8),  # one driver keeps up
    (10**6, 128, 16),
    (10**6, 240, 32),
    (10**6, 960, 32),
    (6450, 64, 4),
    (6450, 960, 4),  # about two blocks for each worker
    (1000, 960, 1),  # a small archive is shared by all workers all the same
]


@pytest.mark.parametrize(("videos", "workers", "rows"), BLOCKS)
def test_blocks_are_small_enough_to_keep_every_worker_busy(videos: int, workers: int, rows: int) -> None:
    table = pa.table({"video_id": range(videos), "size_bytes": [1] * videos})
    made = blocks(table, workers=workers)
    assert max(block.num_rows for block in made) == rows
    assert pa.concat_tables(made).equals(table)


def test_a_long_video_begins_first_and_no_other_waits_behind_it() -> None:
    sizes = [3] * 150 + [40_000] + [2] * 150 + [50_000]
    table = largest_first(pa.table({"video_id": range(len(sizes)), "size_bytes": sizes}))
    made = [block["size_bytes"].to_pylist() for block in blocks(table, workers=1)]
    assert made[:2] == [[50_000], [40_000]]
    assert max(map(len, made)) == rows_of_block(len(sizes), workers=1) > 1
    assert sorted(size for block in made for size in block) == sorted(sizes)


@pytest.mark.parametrize(
    ("given", "nodes", "shares"),
    [
        (None, cluster(1, 8), (8, 1.0)),  # where nothing else runs, all CPUs decode
        (None, cluster(1, 0.5), (1, 0.5)),  # less than one CPU still has one worker
        (2, cluster(1, 8), (2, 1.0)),
        (
            3,
            cluster(1, 2),
            (3, 0.66),
        ),  # more workers than CPUs share them
        (3, cluster(2, 1), (3, 0.5)),
        (None, cluster(2, 1.5), (3, 0.75)),  # no node has room for one and a half workers
    ],
)
def test_decoding_alone_takes_the_whole_cluster(
    given: int | None, nodes: list[dict[str, float]], shares: tuple[int, float]
) -> None:
    assert decode_only(DecodeConfig(decode_workers=given), nodes) == shares


def workers_of(given: dict[str, int], nodes: list[dict[str, float]], gpus: int) -> int:
    return training_workers(
        nodes, gpus=gpus, wanted=given.get("workers"), loaders=given.get("loaders", 0), most=20
    )


PLAIN, WITH_GPU, GPUS = {"CPU": 16.0}, {"CPU": 4.0, "GPU": 1.0}, {"CPU": 8.0, "GPU": 4.0}


@pytest.mark.parametrize(
    ("given", "nodes", "gpus", "workers"),
    [
        ({}, [{"CPU": 1.0}], 0, 1),
        ({}, [PLAIN], 0, 2),
        ({"workers": 4}, [PLAIN, PLAIN], 0, 4),
        ({}, [PLAIN, WITH_GPU, WITH_GPU], 2, 2),
        ({"loaders": 2}, [PLAIN, GPUS], 4, 2),  # three CPUs each: two of four GPUs have them beside
        ({}, [{"CPU": 0.0, "GPU": 1.0}, WITH_GPU], 2, 1),  # the driver holds the CPUs of one
    ],
)
def test_training_takes_the_gpus_that_have_cpus_beside(
    given: dict[str, int], nodes: list[dict[str, float]], gpus: int, workers: int
) -> None:
    assert workers_of(given, nodes, gpus) == workers


@pytest.mark.parametrize(
    ("given", "nodes", "gpus", "says"),
    [
        ({"loaders": 4}, [PLAIN, WITH_GPU], 1, "1 workers with 5 CPUs and 1 GPU each do not fit"),
        ({"workers": 3}, [PLAIN, WITH_GPU], 1, "which has room for 1"),
        ({"workers": 17}, [PLAIN], 0, "17 workers with 1 CPUs each"),
        ({"workers": 1000}, [{"CPU": 2000.0}], 0, "cannot share a batch"),
    ],
)
def test_a_training_that_no_node_could_take_is_the_users_mistake(
    given: dict[str, int], nodes: list[dict[str, float]], gpus: int, says: str
) -> None:
    with pytest.raises(UserError, match=says):
        workers_of(given, nodes, gpus)
