from dataclasses import replace

import pytest
from support.made import TOLD, bad, cluster, node, only

from dfdm_ray.jobs.doctor.findings import Status
from dfdm_ray.jobs.doctor.machine_checks import (
    check_disks,
    check_gpus,
    check_object_store,
    check_token,
    needed_bytes,
)

GPU = replace(TOLD, gpus=2, cuda_build="12.8", gpu_driver="570.1")


def test_nothing_is_wrong_with_a_sound_node() -> None:
    for check in (check_gpus, check_object_store, check_disks, check_token):
        assert list(check(cluster()))
        assert not bad(check(cluster()))


def test_no_gpu_anywhere_is_only_told() -> None:
    (found,) = check_gpus(cluster(node("n1"), node("n2")))
    assert (found.status, found.nodes) == (Status.OK, ("n1", "n2"))
    assert "the model runs on CPUs" in found.found


def test_gpus_that_torch_computes_on_are_fine() -> None:
    (found,) = check_gpus(cluster(node(told=GPU, gpus=2.0)))
    assert found.found == "Ray counts 2, torch computes on 2, NVIDIA driver 570.1"
    assert found.status == Status.OK


@pytest.mark.parametrize(
    ("told", "ray", "status", "says", "fix"),
    [
        (replace(GPU, gpus=0, cuda_build=None), 2, Status.FAIL, "built without CUDA", "not a CPU build"),
        (
            replace(GPU, gpus=0, gpu_error="driver is too old"),
            2,
            Status.FAIL,
            "driver is too old",
            "CUDA 12.8",
        ),
        (
            replace(GPU, gpus=1, gpu_error="cuda:1: no kernel image is available"),
            2,
            Status.FAIL,
            "Ray counts 2, torch computes on 1: cuda:1: no kernel image",
            "torch for CUDA 12.8 has no code for that GPU",
        ),
        (GPU, 0, Status.WARN, "Ray counts 0, torch computes on 2", "--num-gpus=2"),
    ],
)
def test_gpus_that_ray_and_torch_count_differently(
    told: object, ray: int, status: Status, says: str, fix: str
) -> None:
    found = only(check_gpus(cluster(node(told=told, gpus=float(ray)))))  # type: ignore[arg-type]
    assert found.status == status
    assert says in found.found
    assert fix in found.fix


def test_different_drivers_are_a_warning_for_each_node() -> None:
    newer = replace(GPU, gpu_driver="580.2")
    nodes = node("n1", GPU, gpus=2.0), node("n2", newer, gpus=2.0), node("n3")
    found = bad(check_gpus(cluster(*nodes)))
    assert [(one.nodes, one.status) for one in found] == [(("n1",), Status.WARN), (("n2",), Status.WARN)]


def test_the_object_store_must_hold_what_is_on_the_way() -> None:
    few, many = node("few", cpus=10.0, gpus=2.0), node("many", cpus=100.0)
    assert needed_bytes(cluster(few)) == {"few": 10 * 48e6 + 2 * 190e6}
    assert needed_bytes(cluster(few, many)) == {"few": 12 * 190e6, "many": 100 * 190e6}
    found = only(check_object_store(cluster(node(store_bytes=10**8))))
    assert found.status == Status.WARN
    assert found.found.startswith("100 MB for 384 MB on the way at most")
    assert found.fix == "ray start --object-store-memory=384000000"


def test_shared_memory_smaller_than_the_object_store_is_a_warning() -> None:
    found = only(check_object_store(cluster(node(told=replace(TOLD, shm_bytes=64 * 10**6)))))
    assert (found.check, found.status) == ("/dev/shm", Status.WARN)
    assert "64 MB for an object store of 8.0 GB" in found.found
    assert "--shm-size=8000000000" in found.fix
    assert not bad(check_object_store(cluster(node(told=replace(TOLD, shm_bytes=None)))))  # not Linux


@pytest.mark.parametrize(
    ("free", "status"), [(5 * 10**10, Status.FAIL), (5 * 10**10 + 10, Status.OK)], ids=["95% full", "less"]
)
def test_a_disk_on_which_ray_makes_no_objects_fails(free: int, status: Status) -> None:
    found, *_ = check_disks(cluster(node(told=replace(TOLD, disks={"/tmp": (10**12, free)}))))
    assert found.status == status


def test_a_large_disk_that_is_full_counts_before_a_small_one_that_is_not() -> None:
    disks = {"/scratch": (10 * 10**12, 3 * 10**11), "/tmp": (10**11, 5 * 10**10)}
    found = only(check_disks(cluster(node(told=replace(TOLD, disks=disks)))))
    assert (found.status, found.found) == (Status.FAIL, "/scratch has 300.0 GB of 10000.0 GB free")


def test_a_small_disk_is_a_warning() -> None:
    found = only(check_disks(cluster(node(told=replace(TOLD, disks={"/tmp": (2 * 10**10, 5 * 10**9)})))))
    assert found.status == Status.WARN
    assert found.found == "/tmp has 5.0 GB of 20.0 GB free"
    assert "--temp-dir" in found.fix


def test_a_cluster_without_token_is_a_warning_and_a_ray_of_this_process_is_not() -> None:
    off = node(told=replace(TOLD, auth_mode="disabled"))
    found = only(check_token(cluster(off)))
    assert found.status == Status.WARN
    assert "RAY_AUTH_MODE=token" in found.fix
    assert not list(check_token(cluster(off, local=True)))
