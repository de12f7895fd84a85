"""Trainings that are refused before Ray starts, and why others end."""

import io
from pathlib import Path

import pytest
from ray.exceptions import RayActorError
from ray.train import WorkerGroupError
from ray.train.v2._internal.exceptions import UserExceptionWithTraceback
from rich.console import Console
from support.crops_rows import write_patterns

from dfdm_ray.errors import UserError
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
