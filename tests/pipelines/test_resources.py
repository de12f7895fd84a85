import pyarrow as pa
import pytest

from dfdm_ray.config import DecodeConfig, ResourceConfig
from dfdm_ray.errors import UserError
from dfdm_ray.pipelines.resources import blocks, decode_only, share_out, training_workers
from dfdm_ray.training.config import TrainConfig

CASES = [
    # CPUs, GPUs, decode workers, model workers, device
    (1, 0, 1, 1, "cpu"),  # both share the one CPU
    (2, 0, 1, 2, "cpu"),  # a laptop: three workers share two CPUs
    (8, 0, 4, 8, "cpu"),  # one side waits for the other, no CPU waits
    (16, 1, 15, 1, "cuda"),  # a workstation
    (128, 8, 120, 8, "cuda"),  # a node with eight GPUs
    (4, 8, 1, 8, "cuda"),  # more GPUs than CPUs
]


@pytest.mark.parametrize(("cpus", "gpus", "decode", "model", "device"), CASES)
def test_a_cluster_is_shared_between_decoding_and_the_model(
    cpus: int, gpus: int, decode: int, model: int, device: str
) -> None:
    shares = share_out(ResourceConfig(), num_cpus=cpus, num_gpus=gpus)
    assert (shares.decode_workers, shares.model_workers, shares.device) == (decode, model, device)


@pytest.mark.parametrize("cpus", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("gpus", [0, 1, 8])
@pytest.mark.parametrize("config", [ResourceConfig(), ResourceConfig(decode_workers=5, model_workers=3)])
def test_no_more_is_reserved_than_there_is(cpus: int, gpus: int, config: ResourceConfig) -> None:
    shares = share_out(config, num_cpus=cpus, num_gpus=gpus)
    reserved = shares.decode_workers * shares.decode_cpus + shares.model_workers * shares.model_cpus
    assert reserved <= cpus
    assert shares.model_workers * shares.model_gpus <= gpus
    assert min(shares.decode_cpus, shares.model_cpus or shares.model_gpus) > 0


def test_a_gpu_is_used_where_decoding_or_the_driver_hold_all_cpus_of_its_node() -> None:
    assert share_out(ResourceConfig(), num_cpus=7, num_gpus=2).model_cpus == 0
    assert share_out(ResourceConfig(device="cpu"), num_cpus=7, num_gpus=2).model_cpus > 0


def test_what_the_user_gives_is_kept() -> None:
    config = ResourceConfig(decode_workers=3, model_workers=2, batch_size=7, device="cpu")
    shares = share_out(config, num_cpus=16, num_gpus=4)
    assert (shares.decode_workers, shares.model_workers, shares.batch_size) == (3, 2, 7)
    assert (shares.device, shares.model_gpus) == ("cpu", 0.0)


def test_cuda_without_a_gpu_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match="has no GPU; use auto or cpu"):
        share_out(ResourceConfig(device="cuda"), num_cpus=8, num_gpus=0)


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
    table = pa.table({"video_id": range(videos)})
    made = blocks(table, workers=workers)
    assert max(block.num_rows for block in made) == rows
    assert pa.concat_tables(made).equals(table)


@pytest.mark.parametrize(
    ("given", "cpus", "shares"),
    [
        (None, 8, (8, 1.0)),  # where nothing else runs, all CPUs decode
        (None, 0.5, (1, 0.5)),  # less than one CPU still has one worker
        (2, 8, (2, 1.0)),
        (3, 2, (3, 0.66)),  # more workers than CPUs share them, and no more is reserved than there is
    ],
)
def test_decoding_alone_takes_the_whole_cluster(
    given: int | None, cpus: float, shares: tuple[int, float]
) -> None:
    assert decode_only(DecodeConfig(decode_workers=given), num_cpus=cpus) == shares


PLAIN, WITH_GPU, GPUS = {"CPU": 16.0}, {"CPU": 4.0, "GPU": 1.0}, {"CPU": 8.0, "GPU": 4.0}


@pytest.mark.parametrize(
    ("given", "nodes", "cpus", "gpus", "workers"),
    [
        ({}, [{"CPU": 1.0}], 1, 0, 1),
        ({}, [PLAIN], 16, 0, 2),
        ({"workers": 4}, [PLAIN, PLAIN], 32, 0, 4),
        ({}, [PLAIN, WITH_GPU, WITH_GPU], 24, 2, 2),
        ({"loaders": 2}, [PLAIN, GPUS], 24, 4, 2),  # three CPUs each: two of four GPUs have them beside
        ({}, [WITH_GPU], 3, 1, 1),  # the driver holds one of its CPUs
    ],
)
def test_training_takes_the_gpus_that_have_cpus_beside(
    given: dict[str, int], nodes: list[dict[str, float]], cpus: int, gpus: int, workers: int
) -> None:
    config = TrainConfig(crops="crops", out="out", **given)
    assert training_workers(config, nodes, cpus=cpus, gpus=gpus) == workers


@pytest.mark.parametrize(
    ("given", "nodes", "cpus", "gpus", "says"),
    [
        (
            {"loaders": 4},
            [PLAIN, WITH_GPU],
            20,
            1,
            "1 workers of 5 CPUs and 1 GPU each do not fit",
        ),
        ({"workers": 3}, [PLAIN, WITH_GPU], 20, 1, "this cluster, 1 would"),
        ({"workers": 17}, [PLAIN], 16, 0, "17 workers of 1 CPUs each"),
        ({"workers": 1000}, [{"CPU": 2000.0}], 2000, 0, "cannot share a batch"),
    ],
)
def test_a_training_that_no_node_could_take_is_the_users_mistake(
    given: dict[str, int], nodes: list[dict[str, float]], cpus: int, gpus: int, says: str
) -> None:
    config = TrainConfig(crops="crops", out="out", **given)
    with pytest.raises(UserError, match=says):
        training_workers(config, nodes, cpus=cpus, gpus=gpus)
