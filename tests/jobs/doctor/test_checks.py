from dataclasses import replace

import pytest
from support.made import TOLD, bad, cluster, node, only

from dfdm_ray.jobs.doctor.checks import check_answers, check_package, check_versions, differ
from dfdm_ray.jobs.doctor.findings import Status


def test_nothing_is_wrong_with_equal_nodes() -> None:
    sound = cluster(node("n1"), node("n2"))
    for check in (check_answers, check_package, check_versions):
        findings = list(check(sound))
        assert findings
        assert not bad(findings)


def test_a_node_that_does_not_answer_fails_with_the_reason() -> None:
    found = only(check_answers(cluster(node("n1"), node("n2", None, silence="no answer within 5 s"))))
    assert (found.status, found.nodes, found.found) == (Status.FAIL, ("n2",), "no answer within 5 s")
    assert "--timeout-s" in found.fix


def test_a_node_without_the_package_is_told_to_install_or_to_send_it() -> None:
    found = only(check_package(cluster(node("n1"), node("n2", replace(TOLD, package=None, code=None)))))
    assert (found.status, found.nodes) == (Status.FAIL, ("n2",))
    assert "not installed" in found.found
    assert "ray job submit" in found.fix


def test_other_code_of_the_same_version_fails() -> None:
    found = only(check_package(cluster(node("n1", replace(TOLD, code="0ld")))))
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
    found = only(check_package(cluster(node("n1", replace(TOLD, import_errors={"cv2": error})))))
    assert found.check == "imports"
    assert f"cv2 cannot be imported: {error}" in found.found
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
    old = replace(TOLD, versions={**TOLD.versions, "numpy": "1.26.0", "ray": None})
    found = only(check_versions(cluster(node("n1"), node("n2", old))))
    assert (found.status, found.nodes) == (Status.FAIL, ("n2",))
    assert found.found == "ray missing (driver: 2.60.0), numpy 1.26.0 (driver: 2.4.0)"
    assert "requirements.lock" in found.fix
