from dataclasses import replace

import pytest
from support.made import FACTS, bad, cluster, facts, node, only, reads, writes

from dfdm_ray.jobs.doctor.checks import (
    Finding,
    Status,
    check_answers,
    check_disks,
    check_gpus,
    check_object_store,
    check_package,
    check_sandbox,
    check_storage,
    check_token,
    check_versions,
    differ,
    merged,
    needed_bytes,
)
from dfdm_ray.jobs.doctor.probe import Facts

GPU = {"gpus": 2, "cuda_build": "12.8", "gpu_driver": "570.1"}


def test_nothing_is_wrong_with_equal_nodes() -> None:
    sound = cluster(node("n1"), node("n2"))
    for check in (check_answers, check_package, check_versions):
        findings = list(check(sound))
        assert findings
        assert not bad(findings)


def test_a_node_that_does_not_answer_fails_with_the_reason() -> None:
    found = only(check_answers(cluster(node("n1"), node("n2", "no answer within 5 s"))))
    assert (found.status, found.nodes, found.found) == (Status.FAIL, ("n2",), "no answer within 5 s")
    assert "--timeout-s" in found.fix


def test_a_node_without_the_package_fails_with_how_to_install_or_send_it() -> None:
    found = only(check_package(cluster(node("n1"), node("n2", facts(package=None, code=None)))))
    assert (found.status, found.nodes) == (Status.FAIL, ("n2",))
    assert "not installed" in found.found
    assert "ray job submit" in found.fix


def test_other_code_of_the_same_version_fails() -> None:
    found = only(check_package(cluster(node("n1", facts(code="0ld")))))
    assert found.status == Status.FAIL
    assert "other code than the driver's" in found.found


@pytest.mark.parametrize(
    ("error", "fix"),
    [
        ("ModuleNotFoundError: No module named 'tenacity'", "requirements.lock"),
        (
            "ImportError: libGL.so.1: cannot open shared object file: No such file or directory",
            "the system library libGL.so.1",
        ),
        ("not done after 60 s", "--timeout-s"),
    ],
)
def test_what_cannot_be_imported_fails_with_what_helps(error: str, fix: str) -> None:
    found = only(check_package(cluster(node("n1", facts(import_errors={"cv2": error})))))
    assert found.check == "imports"
    assert f"cannot import cv2: {error}" in found.found
    assert fix in found.fix


@pytest.mark.parametrize(
    ("one", "other", "status"),
    [
        ("2.14.1", "2.14.1", Status.OK),
        ("2.14.1+cpu", "2.14.1+cu128", Status.OK),  # GPU and CPU nodes
        ("2.14.1", "2.14.0", Status.WARN),
        ("2.14.1", "2.13.1", Status.FAIL),
        ("3.11.9", "3.12.9", Status.FAIL),
        ("2.14.1", None, Status.FAIL),
        (None, "2.14.1", Status.FAIL),
        (None, None, Status.OK),  # the import says so
    ],
)
def test_how_bad_a_difference_of_versions_is(one: str | None, other: str | None, status: Status) -> None:
    assert differ(one, other) == status


def test_versions_are_compared_with_those_of_the_driver() -> None:
    old = facts(versions={**FACTS["versions"], "numpy": "1.26.0", "ray": None})
    found = only(check_versions(cluster(node("n1"), node("n2", old))))
    assert (found.status, found.nodes) == (Status.FAIL, ("n2",))
    assert found.found == "ray missing (driver: 2.60.0), numpy 1.26.0 (driver: 2.4.0)"
    assert "requirements.lock" in found.fix


def test_nothing_is_wrong_with_a_sound_node() -> None:
    for check in (check_gpus, check_object_store, check_disks, check_token):
        assert list(check(cluster()))
        assert not bad(check(cluster()))


def test_no_gpu_anywhere_is_reported_and_fine() -> None:
    (found,) = check_gpus(cluster(node("n1"), node("n2")))
    assert (found.status, found.nodes) == (Status.OK, ("n1", "n2"))
    assert "the model runs on CPUs" in found.found


def test_gpus_that_torch_computes_on_are_fine() -> None:
    (found,) = check_gpus(cluster(node(answer=facts(**GPU), gpus=2.0)))
    assert found.found == "Ray counts 2, torch computes on 2, NVIDIA driver 570.1"
    assert found.status == Status.OK


@pytest.mark.parametrize(
    ("changes", "ray", "status", "says", "fix"),
    [
        ({"gpus": 0, "cuda_build": None}, 2, Status.FAIL, "built without CUDA", "not a CPU build"),
        ({"gpus": 0, "gpu_error": "driver is too old"}, 2, Status.FAIL, "driver is too old", "CUDA 12.8"),
        (
            {"gpus": 1, "gpu_error": "cuda:1: no kernel image is available"},
            2,
            Status.FAIL,
            "Ray counts 2, torch computes on 1: cuda:1: no kernel image",
            "torch for CUDA 12.8 has no code for that GPU",
        ),
        (
            {"gpu_error": "cuda:2: broken"},
            1,
            Status.FAIL,
            "torch computes on 2: cuda:2: broken",
            "nvidia-smi",
        ),
        ({}, 0, Status.WARN, "Ray counts 0, torch computes on 2", "--num-gpus=2"),
    ],
)
def test_gpus_that_ray_and_torch_count_differently(
    changes: dict[str, object], ray: int, status: Status, says: str, fix: str
) -> None:
    found = only(check_gpus(cluster(node(answer=facts(**(GPU | changes)), gpus=float(ray)))))
    assert found.status == status
    assert says in found.found
    assert fix in found.fix


def test_different_drivers_are_a_warning_for_each_node() -> None:
    newer = facts(**(GPU | {"gpu_driver": "580.2"}))
    nodes = node("n1", facts(**GPU), gpus=2.0), node("n2", newer, gpus=2.0), node("n3")
    found = bad(check_gpus(cluster(*nodes)))
    assert [(one.nodes, one.status) for one in found] == [(("n1",), Status.WARN), (("n2",), Status.WARN)]


def test_the_object_store_must_hold_what_is_in_transit() -> None:
    few, many = node("few", cpus=10.0, gpus=2.0), node("many", cpus=100.0)
    assert needed_bytes(cluster(few)) == {"few": 10 * 48e6 + 2 * 190e6}
    assert needed_bytes(cluster(few, many)) == {"few": 12 * 190e6, "many": 100 * 190e6}
    found = only(check_object_store(cluster(node(store_bytes=10**8))))
    assert found.status == Status.WARN
    assert found.found.startswith("100.0 MB, but up to 384.0 MB in transit")
    assert found.fix == "ray start --object-store-memory=384000000"


def test_shared_memory_smaller_than_the_object_store_is_a_warning() -> None:
    found = only(check_object_store(cluster(node(answer=facts(shm_bytes=64 * 10**6)))))
    assert (found.check, found.status) == ("/dev/shm", Status.WARN)
    assert "64.0 MB for an object store of 8.0 GB" in found.found
    assert "--shm-size=8000000000" in found.fix
    assert not bad(check_object_store(cluster(node(answer=facts(shm_bytes=None)))))  # not Linux


@pytest.mark.parametrize(
    ("free", "status"), [(5 * 10**10, Status.FAIL), (5 * 10**10 + 10, Status.OK)], ids=["95% full", "less"]
)
def test_a_disk_on_which_ray_makes_no_objects_fails(free: int, status: Status) -> None:
    found, *_ = check_disks(cluster(node(answer=facts(disks={"/tmp": (10**12, free)}))))
    assert found.status == status


def test_a_disk_is_full_where_ray_was_started_to_call_it_full() -> None:
    found, *_ = check_disks(
        cluster(node(answer=facts(disks={"/tmp": (10**12, 2 * 10**10)}, full_fraction=0.99)))
    )
    assert found.status == Status.OK


def test_a_large_disk_that_is_full_counts_before_a_small_one_that_is_not() -> None:
    disks = {"/scratch": (10 * 10**12, 3 * 10**11), "/tmp": (10**11, 5 * 10**10)}
    found = only(check_disks(cluster(node(answer=facts(disks=disks)))))
    assert (found.status, found.found) == (Status.FAIL, "/scratch has 300.0 GB of 10.0 TB free")


def test_a_small_disk_is_a_warning() -> None:
    found = only(check_disks(cluster(node(answer=facts(disks={"/tmp": (2 * 10**10, 5 * 10**9)})))))
    assert found.status == Status.WARN
    assert found.found == "/tmp has 5.0 GB of 20.0 GB free"
    assert "--temp-dir" in found.fix


def test_a_cluster_without_token_is_a_warning_and_a_ray_of_this_process_is_not() -> None:
    off = node(answer=facts(auth_mode="disabled"))
    found = only(check_token(cluster(off)))
    assert found.status == Status.WARN
    assert "RAY_AUTH_MODE=token" in found.fix
    assert not list(check_token(cluster(off, driver_name="n1")))


def test_a_node_whose_decoding_processes_lack_a_layer_is_a_warning_with_the_reason() -> None:
    held = dict.fromkeys(("limits", "landlock", "seccomp"), "")
    assert not bad(check_sandbox(cluster(node("n1", facts(sandbox=held)))))
    found = only(
        check_sandbox(cluster(node("n1", facts(sandbox=held | {"landlock": "the kernel offers none"}))))
    )
    assert (found.status, found.nodes) == (Status.WARN, ("n1",))
    assert found.found == "decoding processes run without landlock (the kernel offers none)"
    assert not list(check_sandbox(cluster(node("n1", facts(package=None)))))


def test_storage_that_is_the_same_from_everywhere_is_fine() -> None:
    for seen, by_driver in ((reads(), reads()), (writes(shared=True), writes())):
        assert not bad(check_storage(cluster(node("n1", seen), node("n2", seen), driver=by_driver)))


@pytest.mark.parametrize(
    ("seen", "says", "fix"),
    [
        (reads(error="Permission denied"), "/data/DFDM: cannot be read: Permission denied", "read it"),
        (reads(uri="s3://b/x", error="DENIED"), "cannot be read: DENIED", "credentials to read it"),
        (writes(error="Read-only file system"), "cannot be written: Read-only", "write in it"),
        (
            writes(uri="s3://b/x", error="403"),
            "s3://b/x: cannot be written: 403",
            "credentials to write and delete in it",
        ),
        (writes(shared=False), "the driver's file is not there", "mount the same file system"),
        (
            reads(content="an empty folder", num_names=0, names_sha256="e"),
            "an empty folder, but the driver sees a folder with 2 entries",
            "mount",
        ),
        (
            reads(content="a file of 5 bytes", num_names=None, names_sha256=""),
            "a file of 5 bytes, but the driver sees a folder with 2 entries",
            "mount",
        ),
    ],
)
def test_storage_that_one_node_lacks_fails_there(seen: Facts, says: str, fix: str) -> None:
    found = only(check_storage(cluster(node("n1", reads()), node("n2", seen), driver=reads())))
    assert (found.status, found.nodes) == (Status.FAIL, ("n2",))
    assert says in found.found
    assert fix in found.fix


def test_other_content_than_the_driver_sees_is_a_warning() -> None:
    three = reads(content="a folder with 3 entries", names_sha256="b", num_names=3)
    other = reads(names_sha256="b")
    for seen, by_driver in ((three, "a folder with 2 entries"), (other, "other names")):
        found = only(check_storage(cluster(node(answer=seen), driver=reads())))
        assert found.status == Status.WARN
        assert found.found.endswith(f"entries, but the driver sees {by_driver}")


def test_a_folder_that_is_empty_everywhere_may_be_a_mount_that_is_missing() -> None:
    empty = reads(content="an empty folder", num_names=0)
    for driver in (empty, FACTS):
        found = bad(check_storage(cluster(node(answer=empty), driver=driver)))
        assert {(one.status, one.found) for one in found} == {(Status.WARN, "/data/DFDM: an empty folder")}
        assert all("mount it" in one.fix for one in found)


def test_a_head_without_work_needs_no_storage() -> None:
    head = node("head", reads(error="not there"), cpus=0.0)
    assert not bad(check_storage(cluster(head, node("n1", reads()), driver=reads())))


def test_the_driver_needs_it_too() -> None:
    found = only(check_storage(cluster(node(), driver=reads(error="not there"))))
    assert found.nodes == ("driver",)


def test_findings_that_differ_in_their_nodes_alone_are_one() -> None:
    ok = Finding("token", Status.OK, ("n1",), "on")
    bad_disk = Finding("disk", Status.FAIL, ("n2",), "full", "make room")
    (one, two) = merged([ok, bad_disk, replace(ok, nodes=("n2",))])
    assert one.nodes == ("n1", "n2")
    assert two == bad_disk
