from pathlib import Path

import pytest
from made import bad, only

from dfdm_ray.doctor.findings import Status
from dfdm_ray.doctor.inputs import check_checkpoint, check_detector


def test_a_checkpoint_is_loaded_and_described(tiny_checkpoint: Path) -> None:
    (found,) = check_checkpoint(str(tiny_checkpoint), driver="driver")
    assert found.status == Status.OK
    assert found.found.endswith("resnet18, 4 frames, 5 classes")
    assert not list(check_checkpoint(None, driver="driver"))


def test_what_is_no_checkpoint_fails(tmp_path: Path) -> None:
    assert "No such file" in only(check_checkpoint(str(tmp_path / "gone.pt"), driver="driver")).found


def test_weights_of_the_detector_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not bad(check_detector("mobilenet0.25", None, driver="driver"))
    assert "cannot read" in only(check_detector("resnet50", str(tmp_path / "gone"), driver="driver")).found
    monkeypatch.setenv("DFDM_RAY_CACHE", str(tmp_path))
    found = only(check_detector("mobilenet0.25", None, driver="driver"))
    assert found.status == Status.WARN
    assert "dfdm-ray assets get retinaface-mobilenet0.25.onnx" in found.fix
