import os
from pathlib import Path

import pytest
from support.made import bad, only

from dfdm_ray.jobs.doctor.config import DoctorConfig
from dfdm_ray.jobs.doctor.findings import Status
from dfdm_ray.jobs.doctor.inputs import check_checkpoint, check_detector


def test_a_checkpoint_is_loaded_and_described(tiny_checkpoint: Path) -> None:
    (found,) = check_checkpoint(DoctorConfig(checkpoint=str(tiny_checkpoint)), driver="driver")
    assert found.status == Status.OK
    assert found.found.endswith("resnet18, 4 frames, 5 classes")
    assert not list(check_checkpoint(DoctorConfig(), driver="driver"))


def test_what_is_no_checkpoint_fails(tmp_path: Path) -> None:
    config = DoctorConfig(checkpoint=str(tmp_path / "gone.pt"))
    assert "No such file" in only(check_checkpoint(config, driver="driver")).found


def test_weights_of_the_detector_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not bad(check_detector(DoctorConfig(), driver="driver"))
    gone = DoctorConfig(detector="resnet50", weights=str(tmp_path / "gone"))
    assert "cannot read" in only(check_detector(gone, driver="driver")).found
    monkeypatch.setenv("DFDM_RAY_CACHE", str(tmp_path))
    found = only(check_detector(DoctorConfig(), driver="driver"))
    assert found.status == Status.WARN
    assert "dfdm-ray assets get retinaface-mobilenet0.25.onnx" in found.fix


def test_storage_that_does_not_answer_fails_in_time(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "hangs")  # until somebody writes into it
    hangs = DoctorConfig(checkpoint=str(tmp_path / "hangs"), weights=str(tmp_path / "hangs"), timeout_s=0.2)
    for check in (check_checkpoint, check_detector):
        found = only(check(hangs, driver="driver"))
        assert found.status == Status.FAIL
        assert "hangs: no answer within" in found.found
    os.close(os.open(tmp_path / "hangs", os.O_RDWR))  # lets go of the threads that still wait
