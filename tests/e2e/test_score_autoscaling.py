"""A cluster that has no workers when the job begins."""

import time
from pathlib import Path

import pytest
from support import faults, killed
from support.elastic import autoscaling_head, until

pytestmark = pytest.mark.ray


def test_nodes_come_for_a_job_and_go_after_it(tmp_path: Path, carphone: Path, tiny_checkpoint: Path) -> None:
    names = faults.write_archive(tmp_path / "archive", carphone, num_videos=24)
    out = tmp_path / "out"
    options = ["--videos", str(tmp_path / "archive"), "--checkpoint", str(tiny_checkpoint), "--out", str(out)]
    with autoscaling_head(tmp_path, cpus=1, most_nodes=2, idle_s=5) as (address, nodes):
        assert nodes() == 0
        variables = {"RAY_ADDRESS": address, "RAY_AUTH_MODE": "disabled"}
        most = 0
        with killed.dfdm_ray("score", *options, variables=variables) as job:
            while job.poll() is None:
                most = max(most, nodes())
                time.sleep(0.5)
            killed.finish(job)
        assert most in (1, 2)
        until(lambda: nodes() == 0, limit_s=60)
    table = faults.read(out)
    assert table["video_id"].to_pylist() == names
    assert faults.count(table, "scored") == len(names)
