"""Trainings that are refused before Ray starts, and why others end."""

import io
import json
from pathlib import Path

import pytest
from ray.exceptions import RayActorError
from ray.train import WorkerGroupError
from ray.train.v2._internal.exceptions import UserExceptionWithTraceback
from rich.console import Console
from support.crops_rows import write_patterns

from dfdm_ray.errors import IncompleteError, UserError
from dfdm_ray.jobs.train import job as module
from dfdm_ray.jobs.train.config import NetworkConfig, TrainConfig
from dfdm_ray.jobs.train.job import train, why_gone


def test_the_run_of_another_job_is_not_overwritten(tmp_path: Path) -> None:
    crops = tmp_path / "crops"
    write_patterns(crops, generators=("faceswap", "iae"), each={"train": 1, "val": 1})
    (crops / "manifest.parquet").touch()
    before = (crops / "run.json").read_text()
    network = NetworkConfig(backbone="resnet10")
    job = TrainConfig(crops=str(crops), out=str(crops), network=network, overwrite=True)
    with pytest.raises(UserError, match=r"contains a run of another job \(crops\), which --overwrite"):
        train(job, Console(file=io.StringIO()))
    assert (crops / "run.json").read_text() == before


def test_a_training_without_all_epochs_is_not_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the ranks wrote to disks of their own."""
    monkeypatch.setattr(module, "_run", lambda *_: {})
    write_patterns(tmp_path / "crops", generators=("faceswap", "iae"), each={"train": 1, "val": 1})
    network, out = NetworkConfig(backbone="resnet10"), tmp_path / "out"
    job = TrainConfig(crops=str(tmp_path / "crops"), out=str(out), network=network)
    with pytest.raises(IncompleteError, match=r"0 of 30 epochs are in .*/out; run the same command again"):
        train(job, Console(file=io.StringIO()))
    (run,) = json.loads((out / "run.json").read_text())["runs"]
    assert run["status"].startswith("incomplete: 0 of 30 epochs")
    assert [path.name for path in out.iterdir()] == ["run.json"]


@pytest.mark.parametrize(
    ("failure", "why"),
    [
        (UserExceptionWithTraceback(SystemExit(0), "Traceback ..."), "SystemExit: 0"),
        (RayActorError(error_msg="The actor died.\nDetails"), "RayActorError: The actor died."),
        (UserExceptionWithTraceback(ZeroDivisionError("a bug"), "Traceback ..."), None),
    ],
)
def test_a_worker_that_died_or_exited_is_distinguished_from_a_bug(
    failure: Exception, why: str | None
) -> None:
    assert why_gone(WorkerGroupError("rank 0 failed", {0: failure})) == why
