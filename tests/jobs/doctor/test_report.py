import io
import json

from rich.console import Console
from support.made import cluster, node

from dfdm_ray.jobs.doctor.findings import Finding, Status, is_green, merged
from dfdm_ray.jobs.doctor.report import as_json, show, where_of

OK = Finding(check="token", status=Status.OK, nodes=("n1",), found="on")
BAD = Finding(check="disk", status=Status.FAIL, nodes=("n2",), found="[red]full", fix="make room")
TWO = cluster(node("n1"), node("n2"))


def test_findings_that_differ_in_their_nodes_alone_are_one_line() -> None:
    other = Finding(check="token", status=Status.OK, nodes=("n2",), found="on")
    (one, two) = merged([OK, BAD, other])
    assert one.nodes == ("n1", "n2")
    assert two == BAD


def test_warnings_are_green_and_failures_are_not() -> None:
    warning = Finding(check="disk", status=Status.WARN, nodes=("n1",), found="small")
    assert is_green([OK, warning])
    assert not is_green([OK, BAD])


def test_the_table_has_what_to_do_and_ends_with_the_sum() -> None:
    out = io.StringIO()
    show([OK, BAD], TWO, Console(file=out, width=100))
    text = out.getvalue()
    assert "[red]full" in text
    assert "-> make room" in text
    assert text.endswith("not ready: 1 failed, 0 warnings\n")


def test_all_nodes_are_called_all_and_many_are_counted() -> None:
    assert where_of(["n1", "n2", "driver"], TWO) == "all, driver"
    assert where_of(["n1"], TWO) == "n1"
    many = [f"n{number}" for number in range(9)]
    assert (
        where_of(many, cluster(*(node(f"n{number}") for number in range(10)))) == "n0, n1, n2, n3 and 5 more"
    )


def test_machines_get_the_same_as_json() -> None:
    told = json.loads(as_json([OK, BAD], TWO))
    assert told["ok"] is False
    assert [one["name"] for one in told["nodes"]] == ["n1", "n2"]
    assert told["findings"][1] == {
        "check": "disk",
        "status": "fail",
        "nodes": ["n2"],
        "found": "[red]full",
        "fix": "make room",
    }
