import io
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest
from rich.console import Console
from support.made import bad, cluster, node, only

from dfdm_ray.io import storage
from dfdm_ray.jobs.doctor.checks import Finding, Status
from dfdm_ray.jobs.doctor.config import DoctorConfig
from dfdm_ray.jobs.doctor.job import as_json, check_files, is_green, marks, node_names, show, where_of

NAME = ".dfdm-ray-doctor-x"
OK = Finding("token", Status.OK, ("n1",), "on")
BAD = Finding("disk", Status.FAIL, ("n2",), "[red]full", "make room")
TWO = cluster(node("n1"), node("n2"))


def test_a_mark_is_there_until_the_look_is_over(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    folder, below = str(tmp_path / "out"), str(tmp_path / "file" / "out")
    with marks([folder, below], NAME, timeout_s=60.0) as (made, failed):
        assert made == {"uri": folder, "use": "writes"}
        assert failed == {"uri": below, "use": "writes", "error": "Not a directory"}
        assert (tmp_path / "out" / NAME).exists()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_mark_that_comes_after_its_time_is_removed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once, written = storage.write_atomic, []

    def late(uri: str, content: bytes) -> None:
        time.sleep(0.3)
        at_once(uri, content)
        written.append(uri)

    monkeypatch.setattr(storage, "write_atomic", late)
    with marks([str(tmp_path)], NAME, timeout_s=0.05) as (failed,):
        assert failed["error"] == "no answer within 0.05 s"
    wait_until(lambda: written and not (tmp_path / NAME).exists())


def test_storage_that_hangs_when_a_mark_is_removed_holds_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once, answers = storage.remove_file, Event()
    monkeypatch.setattr(storage, "remove_file", lambda uri: (answers.wait(60), at_once(uri)))
    with marks([str(tmp_path)], NAME, timeout_s=0.2) as (made,):
        assert "error" not in made
    assert (tmp_path / NAME).exists()  # nobody waited for it
    answers.set()
    wait_until(lambda: not (tmp_path / NAME).exists())


def wait_until(happened: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_nodes_that_share_an_address_are_told_apart_by_their_ids() -> None:
    addresses = {"a1b2c3d4": "10.0.0.1", "e5f6a7b8": "10.0.0.2", "c9d0e1f2": "10.0.0.1"}
    nodes = [{"NodeID": name, "NodeManagerAddress": address} for name, address in addresses.items()]
    assert node_names(nodes) == ["10.0.0.1 a1b2c3", "10.0.0.2", "10.0.0.1 c9d0e1"]


def test_a_checkpoint_is_loaded_and_described(tiny_checkpoint: Path) -> None:
    found, _ = check_files(DoctorConfig(checkpoint=str(tiny_checkpoint)), driver="driver")
    assert (found.check, found.status) == ("checkpoint", Status.OK)
    assert found.found.endswith("resnet18, 4 frames, 5 classes")
    assert [one.check for one in check_files(DoctorConfig(), driver="driver")] == ["detector"]


def test_what_is_no_checkpoint_fails(tmp_path: Path) -> None:
    config = DoctorConfig(checkpoint=str(tmp_path / "gone.pt"))
    found = only(check_files(config, driver="driver"))
    assert "No such file" in found.found
    assert "`dfdm-ray train`" in found.fix


def test_weights_of_the_detector_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not bad(check_files(DoctorConfig(), driver="driver"))
    gone = DoctorConfig(detector="resnet50", weights=str(tmp_path / "gone"))
    found = only(check_files(gone, driver="driver"))
    assert "cannot read" in found.found
    assert "dfdm-ray assets get retinaface-resnet50.zip" in found.fix
    monkeypatch.setenv("DFDM_RAY_CACHE", str(tmp_path))
    found = only(check_files(DoctorConfig(), driver="driver"))
    assert found.status == Status.WARN
    assert "dfdm-ray assets get retinaface-mobilenet0.25.onnx" in found.fix


def test_storage_that_does_not_answer_fails_in_time(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "hangs")  # until somebody writes into it
    hangs = DoctorConfig(checkpoint=str(tmp_path / "hangs"), weights=str(tmp_path / "hangs"), timeout_s=0.2)
    found = bad(check_files(hangs, driver="driver"))
    assert [one.check for one in found] == ["checkpoint", "detector"]
    for one in found:
        assert one.status == Status.FAIL
        assert "hangs: no answer within" in one.found
    os.close(os.open(tmp_path / "hangs", os.O_RDWR))  # lets go of the threads that still wait


def test_warnings_are_green_and_failures_are_not() -> None:
    warning = Finding("disk", Status.WARN, ("n1",), "small")
    assert is_green([OK, warning])
    assert not is_green([OK, BAD])


def test_the_table_has_the_fixes_and_ends_with_a_summary() -> None:
    out = io.StringIO()
    show([OK, BAD], TWO, Console(file=out, width=100))
    text = out.getvalue()
    assert "[red]full" in text
    assert "-> make room" in text
    assert "on n2" in text
    assert text.endswith("not ready: 1 failed, 0 warnings\n")


def test_the_table_fits_80_columns_and_names_no_node_where_there_is_one() -> None:
    out = io.StringIO()
    machine = cluster(node("this machine"), driver_name="this machine")
    show([replace(BAD, found="word " * 40, nodes=("this machine",))], machine, Console(file=out, width=80))
    assert max(map(len, out.getvalue().splitlines())) <= 80
    assert "this machine" not in out.getvalue()


def test_all_nodes_are_called_all_and_many_are_counted() -> None:
    assert where_of(["n1", "n2", "driver"], TWO) == "all nodes, driver"
    assert where_of(["n1"], TWO) == "n1"
    many = [f"n{number}" for number in range(9)]
    assert (
        where_of(many, cluster(*(node(f"n{number}") for number in range(10)))) == "n0, n1, n2, n3 and 5 more"
    )


def test_machines_get_the_same_as_json() -> None:
    report = json.loads(as_json([OK, BAD], TWO))
    assert report["ok"] is False
    assert [one["name"] for one in report["nodes"]] == ["n1", "n2"]
    assert set(report["nodes"][0]) == {"name", "cpus", "gpus", "object_store_bytes"}
    assert report["findings"][0]["fix"] is None
    assert report["findings"][1] == {
        "check": "disk",
        "status": "fail",
        "nodes": ["n2"],
        "found": "[red]full",
        "fix": "make room",
    }
