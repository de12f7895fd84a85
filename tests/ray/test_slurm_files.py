"""The scripts for Slurm, run on hosts of their own with stand-ins for srun and scontrol."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support.slurm_hosts import replace_ray, slurm_job, why_not

from dfdm_ray import assets

pytestmark = [
    pytest.mark.ray,
    pytest.mark.e2e,
    pytest.mark.skipif(why_not() is not None, reason=f"no hosts can be made: {why_not()}"),
]

SLURM = Path(__file__).parents[2] / "cluster" / "slurm"


def run(script: str, *arguments: str | Path, job: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    soon = {"RAY_gcs_rpc_server_reconnect_timeout_s": "15"}  # how long nodes wait for a head that has ended
    return subprocess.run(
        ["bash", str(SLURM / script), *(str(argument) for argument in arguments)],
        env={**plain, **job, **soon, "DFDM_RAY_CACHE": str(assets.cache_folder())},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


def test_a_job_of_two_nodes_scores_on_both(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    for name in ("carphone_pristine.mp4", "no_face.mp4"):
        shutil.copy(assets.get(name), tmp_path / "videos")
    options = ["--videos", tmp_path / "videos", "--checkpoint", tiny_checkpoint, "--out", tmp_path / "out"]
    with slurm_job(tmp_path, num_nodes=2) as job:
        done = run("score.sbatch", *options, job=job)
    assert done.returncode == 0, f"{done.stdout[-5000:]}\n{done.stderr[-5000:]}"
    table = pq.read_table(tmp_path / "out" / "predictions").sort_by("video_id")
    assert table["reject_code"].to_pylist() == [None, "no_face"]
    assert json.loads((tmp_path / "out" / "run.json").read_text())["runs"][-1]["cluster"]["CPU"] == 2


def test_a_job_whose_command_fails_or_whose_ray_does_not_start_has_failed(tmp_path: Path) -> None:
    with slurm_job(tmp_path, num_nodes=1) as job:
        not_started = run("job.sbatch", "-c", "print('ran')", job={**job, "SLURM_CPUS_PER_TASK": "none"})
        replace_ray(tmp_path)
        failed = run("job.sbatch", "-c", "raise SystemExit(3)", job=job)
    assert failed.returncode == 3, failed.stderr
    assert not_started.returncode == 1
    assert "the command did not run" in not_started.stderr
    assert "ran\n" not in not_started.stdout
