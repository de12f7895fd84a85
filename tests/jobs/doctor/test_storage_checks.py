import pytest
from support.made import TOLD, bad, cluster, node, only, stored

from dfdm_ray.jobs.doctor.facts import Told
from dfdm_ray.jobs.doctor.findings import Status
from dfdm_ray.jobs.doctor.storage_checks import check_storage

WRITES = {"uri": "/data/crops", "use": "writes", "num_names": None, "names_sha256": None}


def test_storage_that_is_the_same_from_everywhere_is_fine() -> None:
    for told in (stored(), stored(**WRITES, shared=True)):
        driver = stored() if told.storage[0].use == "reads" else stored(**WRITES)
        assert not bad(check_storage(cluster(node("n1", told), node("n2", told), driver=driver)))


@pytest.mark.parametrize(
    ("told", "says", "fix"),
    [
        (stored(error="Permission denied"), "/data/DFDM: cannot be read: Permission denied", "read it"),
        (
            stored(uri="s3://b/x", error="ACCESS_DENIED"),
            "cannot be read: ACCESS_DENIED",
            "keys that may read it",
        ),
        (stored(**WRITES, error="Read-only file system"), "cannot be written: Read-only", "write in it"),
        (
            stored(**{**WRITES, "uri": "s3://b/x"}, error="403"),
            "s3://b/x: cannot be written: 403",
            "keys that may write and delete in it",
        ),
        (stored(**WRITES, shared=False), "a file of the driver is not there", "mount the same file system"),
        (
            stored(num_names=0, names_sha256="e"),
            "an empty folder, but the driver sees a folder of 2",
            "mount",
        ),
    ],
)
def test_storage_that_one_node_lacks_fails_there(told: Told, says: str, fix: str) -> None:
    found = only(check_storage(cluster(node("n1", stored()), node("n2", told), driver=stored())))
    assert (found.status, found.nodes) == (Status.FAIL, ("n2",))
    assert says in found.found
    assert fix in found.fix


def test_other_names_than_the_driver_sees_are_a_warning() -> None:
    found = only(check_storage(cluster(node(told=stored(names_sha256="b", num_names=3)), driver=stored())))
    assert found.status == Status.WARN
    assert "a folder of 3 names, but the driver sees a folder of 2 names" in found.found


def test_a_folder_that_is_empty_everywhere_may_be_a_mount_that_is_missing() -> None:
    empty = stored(num_names=0)
    for driver in (empty, TOLD):
        found = bad(check_storage(cluster(node(told=empty), driver=driver)))
        assert {(one.status, one.found) for one in found} == {(Status.WARN, "/data/DFDM: an empty folder")}
        assert all("mount it" in one.fix for one in found)


def test_a_head_without_work_needs_no_storage() -> None:
    head = node("head", stored(error="not there"), cpus=0.0)
    assert not bad(check_storage(cluster(head, node("n1", stored()), driver=stored())))


def test_the_driver_needs_it_too() -> None:
    found = only(check_storage(cluster(node(told=TOLD), driver=stored(error="not there"))))
    assert found.nodes == ("driver",)
