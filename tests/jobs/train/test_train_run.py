"""Trainings that are refused before Ray starts."""

import io
from pathlib import Path

import pytest
from rich.console import Console
from support.crops_rows import write_patterns

from dfdm_ray.errors import UserError
from dfdm_ray.jobs.train.config import NetworkConfig, TrainConfig
from dfdm_ray.jobs.train.job import train


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
