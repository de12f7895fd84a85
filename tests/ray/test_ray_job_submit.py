"""The documented way to run a job on a cluster: a head with token authentication, and `ray job submit`."""

import io
import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from support.cluster_files import REPOSITORY, documented_jobs
from support.token_cluster import RAY, TokenCluster

from dfdm_ray import assets
from dfdm_ray.jobs.ablate import job
from dfdm_ray.jobs.ablate.config import AblateConfig
from dfdm_ray.jobs.train.config import NetworkConfig, Recipe

pytestmark = [pytest.mark.ray, pytest.mark.e2e]

NAMES = ("carphone_pristine.mp4", "no_face.mp4")


def submit(
    cluster: TokenCluster,
    *entrypoint: str,
    options: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    command = [RAY, "job", "submit", "--address", cluster.dashboard, "--working-dir", ".", *options, "--"]
    return subprocess.run(
        [*command, *entrypoint],
        cwd=REPOSITORY,
        env=environment or cluster.environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_a_job_without_the_token_is_refused(token_cluster: TokenCluster) -> None:
    stranger = {**token_cluster.environment, "RAY_AUTH_TOKEN_PATH": os.devnull, "RAY_AUTH_MODE": "disabled"}
    done = submit(token_cluster, "python", "-c", "print('ran')", environment=stranger)
    assert done.returncode != 0
    assert "ran" not in done.stdout


def test_a_users_mistake_fails_the_job_with_one_line(token_cluster: TokenCluster, tmp_path: Path) -> None:
    job = ["--videos", str(tmp_path / "gone"), "--out", str(tmp_path / "m.parquet")]
    done = submit(token_cluster, "python", "ray_jobs/manifest.py", *job)
    assert done.returncode != 0
    text = done.stdout + done.stderr
    assert "error: no such" in text
    assert "Traceback" not in text


def exported(cluster: TokenCluster) -> set[str]:
    """Return the names of this package's metrics that the head exports for Prometheus."""
    with urlopen(f"http://127.0.0.1:{cluster.metrics_port}/metrics") as answer:
        return set(re.findall(r"^ray_dfdm_ray_\w+", answer.read().decode(), re.MULTILINE))


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A run of `score` that was submitted."""

    out: Path
    printed: str
    metrics: set[str]


@pytest.fixture(scope="module")
def faulty(
    token_cluster: TokenCluster, tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Scored:
    """A run whose driver holds a CPU of three, logs JSON, and has no time for any video."""
    folder = tmp_path_factory.mktemp("faulty")
    (folder / "videos").mkdir()
    for name in NAMES:
        shutil.copy(assets.get(name), folder / "videos")
    paths = ["--videos", folder / "videos", "--checkpoint", tiny_checkpoint, "--out", folder / "out"]
    command = ["env", "RAY_LOGGING_CONFIG_ENCODING=JSON", "python", "ray_jobs/score.py", *map(str, paths)]
    done = submit(token_cluster, *command, "--limits.seconds", "0.1", options=["--entrypoint-num-cpus", "1"])
    assert done.returncode == 0, done.stdout + done.stderr
    return Scored(out=folder / "out", printed=done.stdout, metrics=exported(token_cluster))


def test_a_driver_that_holds_cpus_leaves_them_out_when_it_sizes_the_pools(faulty: Scored) -> None:
    run = json.loads((faulty.out / "run.json").read_text())["runs"][-1]
    assert run["cluster"]["CPU"] == 2
    assert (run["resources"]["decode_workers"], run["resources"]["model_workers"]) == (1, 2)


def test_a_run_logs_what_was_rejected(faulty: Scored) -> None:
    logged = [json.loads(line) for line in faulty.printed.splitlines() if line.startswith("{")]
    codes = {line["video_id"]: line["reject_code"] for line in logged if "video_id" in line}
    assert codes == dict.fromkeys(NAMES, "timed_out")


def write_dfdm(root: Path) -> int:
    """Write videos under names of DFDM, a scene of four people by two generators; return how many."""
    video, count = assets.get("carphone_pristine.mp4"), 0
    for folder, tag in (("Faceswap", "1original"), ("Dfaker", "4dfaker")):
        (root / "DFDM_crf10" / folder).mkdir(parents=True)
        for identity in range(4):
            name = f"id{identity}_id{9 - identity}_0000_{tag}.mp4"
            shutil.copy(video, root / "DFDM_crf10" / folder / name)
            count += 1
    return count


def write_people(root: Path) -> None:
    for name, video in (("driver", "carphone_pristine.mp4"), ("man", "single_face.mp4")):
        (root / name).mkdir(parents=True)
        shutil.copy(assets.get(video), root / name)


@dataclass(frozen=True, kw_only=True)
class Documented:
    """The documented jobs after they were submitted."""

    data: Path
    """Folder in place of /data."""
    planned: int
    """Number of videos."""
    printed: str
    metrics: set[str]


def run(cluster: TokenCluster, code: str) -> str:
    """Run a documented block of commands and return what it printed."""
    done = subprocess.run(
        ["bash", "-euxo", "pipefail", "-c", code],
        cwd=REPOSITORY,
        env={**cluster.environment, "RAY_API_SERVER_ADDRESS": cluster.dashboard},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, f"{code}\n{done.stdout[-5000:]}\n{done.stderr[-5000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def documented(token_cluster: TokenCluster, tmp_path_factory: pytest.TempPathFactory) -> Documented:
    """Two jobs at a time where neither needs the other: most of the time a job only starts."""
    data = tmp_path_factory.mktemp("data")
    planned = write_dfdm(data / "DFDM")
    write_people(data / "people")
    codes = [code.replace("/data", str(data)) for code in documented_jobs()]
    beside = [code for code in codes if "ablate.py" in code or "generate.py" in code]
    doctor, manifest, preprocess, *others = [code for code in codes if code not in beside]
    printed = [run(token_cluster, doctor)]
    assert {path.name for path in data.iterdir()} == {"DFDM", "people"}  # no file of a probe
    printed += [run(token_cluster, code) for code in (manifest, preprocess)]
    metrics = exported(token_cluster)
    with ThreadPoolExecutor() as pool:
        later = pool.submit(lambda: [run(token_cluster, code) for code in beside])
        for code in others:
            printed.append(run(token_cluster, code))
            metrics |= exported(token_cluster)
        printed += later.result()
    return Documented(data=data, planned=planned, printed="".join(printed), metrics=metrics)


def test_the_documented_commands_take_a_dataset_through_every_job(documented: Documented) -> None:
    planned, data = documented.planned, documented.data
    assert "3 of 3 nodes" in documented.printed
    assert "ready: nothing failed" in documented.printed
    assert "core_worker.cc" not in documented.printed
    assert f"{planned}/{planned} videos: {planned} scored, 0 rejected" in documented.printed
    table = pq.read_table(data / "out" / "predictions")
    assert len(set(table["video_id"].to_pylist())) == table.num_rows == planned
    assert set(table["status"].to_pylist()) == {"scored"}
    assert "accuracy" in json.loads((data / "evaluation" / "metrics.json").read_text())
    made = pq.read_table(data / "made" / "manifest.parquet")
    generators, qualities = ({"real", "faceswap", "dfaker"}, {0, 10, 23})
    assert (set(made["generator"].to_pylist()), set(made["crf"].to_pylist())) == (generators, qualities)


def test_runs_export_what_the_dashboard_draws(documented: Documented, faulty: Scored) -> None:
    dashboard = json.loads((REPOSITORY / "cluster" / "grafana" / "dfdm-ray.json").read_text())
    targets = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    drawn = set(re.findall(r"ray_dfdm_ray_\w+", "\n".join(targets)))
    assert drawn
    assert drawn <= documented.metrics | faulty.metrics


def test_variants_are_tested_and_compared_and_not_trained_twice(
    documented: Documented, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = documented.data / "ablation"
    found = json.loads((out / "ablation.json").read_text())
    assert list(found["variants"]) == ["default", "no-attention"]
    for variant in ("default", "no-attention"):
        rows = pq.read_table(out / variant / "seed-0" / "test" / "predictions")
        assert set(rows["split"].to_pylist()) == {"test"}
        accuracy = pc.mean(pc.equal(rows["generator"], rows["true_generator"])).as_py()
        assert found["variants"][variant]["all"]["values"] == [pytest.approx(accuracy)]
    assert {path.name for path in out.iterdir()} >= {"ablation.md", "ablation.png", "evaluation"}
    before = (out / "default" / "seed-0" / "dma_sta.pt").stat().st_mtime_ns
    again = AblateConfig(
        crops=str(documented.data / "crops"),
        out=str(out),
        variants=("default", "no-attention"),
        seeds=(0,),
        network=NetworkConfig(backbone="resnet10"),
        recipe=Recipe(epochs=1, batch_size=4),
    )
    printed = io.StringIO()
    monkeypatch.setattr(job, "ray_session", lambda *_, **__: nullcontext())  # nothing is left to do on Ray
    job.ablate(again, Console(file=printed, width=200))
    assert "epoch 1/1" not in printed.getvalue()
    assert "2/2: no-attention 0" in printed.getvalue()
    assert f"on {found['num_videos']} test videos" in " ".join(printed.getvalue().split())
    assert (out / "default" / "seed-0" / "dma_sta.pt").stat().st_mtime_ns == before


def test_every_job_is_among_the_documented_commands() -> None:
    run = set(re.findall(r"ray_jobs/(\w+\.py)", "\n".join(documented_jobs())))
    assert run == {path.name for path in (REPOSITORY / "ray_jobs").glob("*.py")}
