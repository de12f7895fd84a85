"""The documented way to run a job on a cluster: a head with token authentication, and `ray job submit`."""

import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.request import urlopen

import pyarrow.parquet as pq
import pytest
from support.cluster_files import commands, documented_jobs, fences

from dfdm_ray import assets

pytestmark = [pytest.mark.ray, pytest.mark.e2e]

REPOSITORY = Path(__file__).parents[2]
RAY = str(Path(sys.executable).with_name("ray"))
START_S = 300.0
SHOW_CPUS = (
    "import ray; ray.init(logging_level='ERROR'); print(f'CPU={ray.cluster_resources()[\"CPU\"]:.0f}')"
)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("token") / "token"
    path.write_text("0123456789abcdef" * 2)
    return path


@pytest.fixture(scope="module")
def environment(token: Path) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    settings = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_USAGE_STATS_ENABLED": "0"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # as in an activated environment
    return {**plain, **settings, "PATH": path}


def submit(
    address: str, environment: dict[str, str], *entrypoint: str, options: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    command = [RAY, "job", "submit", "--address", address, "--working-dir", ".", *options, "--", *entrypoint]
    return subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture(scope="module")
def metrics_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def address(
    environment: dict[str, str], metrics_port: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Dashboard address of a Ray cluster of our own, a head as documented and two more nodes, a CPU each."""
    logs, dashboard, gcs = tmp_path_factory.mktemp("nodes"), free_port(), free_port()
    documented = next(words for words in commands("\n".join(fences())) if words[:2] == ["ray", "start"])
    head = [f"--dashboard-port={dashboard}", f"--port={gcs}", f"--ray-client-server-port={free_port()}"]
    nodes = [start_node(environment, logs / "0", *documented[2:], *head, metrics_port=metrics_port)]
    try:
        url = f"http://127.0.0.1:{dashboard}"
        deadline = time.monotonic() + START_S
        while submit(url, environment, "true").returncode:  # a head takes jobs some time after it is up
            assert nodes[0].poll() is None, (logs / "0").read_text()
            assert time.monotonic() < deadline, "no job was taken"
            time.sleep(1)
        for name in ("1", "2"):  # one after the other: of two that start at once on a host, one may give up
            nodes.append(start_node(environment, logs / name, f"--address=127.0.0.1:{gcs}"))
            while f"CPU={len(nodes)}" not in submit(url, environment, "python", "-c", SHOW_CPUS).stdout:
                assert nodes[-1].poll() is None, (logs / name).read_text()
                assert time.monotonic() < deadline, "a node did not join"
        yield url
    finally:
        for node in nodes:  # all of it is ours; an orderly end takes half a minute
            with contextlib.suppress(ProcessLookupError):
                os.killpg(node.pid, signal.SIGKILL)
            node.wait(timeout=60)


def start_node(
    environment: dict[str, str], log: Path, *options: str, metrics_port: int | None = None
) -> subprocess.Popen[bytes]:
    """Start a node that a signal to its process group ends."""
    # Every port of its own: another Ray on this machine, such as that of other tests, may hold the defaults.
    names = ("dashboard-agent-listen-port", "dashboard-agent-grpc-port")
    ports = [*(f"--{name}={free_port()}" for name in names), "--min-worker-port=0", "--max-worker-port=0"]
    ports.append(f"--metrics-export-port={metrics_port or free_port()}")
    with log.open("wb") as stream:
        return subprocess.Popen(
            [RAY, "start", "--block", "--num-cpus=1", *ports, *options],
            env={**environment, "RAY_raylet_start_wait_time_s": "120"},
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def test_a_job_without_the_token_is_refused(address: str, environment: dict[str, str]) -> None:
    stranger = {**environment, "RAY_AUTH_TOKEN_PATH": os.devnull, "RAY_AUTH_MODE": "disabled"}
    done = submit(address, stranger, "python", "-c", "print('ran')")
    assert done.returncode != 0
    assert "ran" not in done.stdout


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for name in ("carphone_pristine.mp4", "no_face.mp4"):
        shutil.copy(assets.get(name), folder)
    return folder


def test_a_submitted_job_scores_videos_and_shows_progress_as_lines(
    address: str, environment: dict[str, str], videos: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    job = ["--videos", str(videos), "--checkpoint", str(tiny_checkpoint), "--out", str(tmp_path / "out")]
    # As many decode workers as nodes of a CPU, which leave a model worker its place.
    job += ["--resources.decode-workers", "3", "--resources.model-workers", "1"]
    done = submit(address, environment, "python", "ray_jobs/score.py", *job)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2/2 videos: 1 scored, 1 rejected" in done.stdout
    table = pq.read_table(tmp_path / "out" / "predictions").sort_by("video_id")
    assert table["video_id"].to_pylist() == ["carphone_pristine.mp4", "no_face.mp4"]
    assert table["reject_code"].to_pylist() == [None, "no_face"]


def test_a_driver_that_holds_cpus_leaves_them_out_when_it_sizes_the_pools(
    address: str, environment: dict[str, str], videos: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    job = ["--videos", str(videos), "--checkpoint", str(tiny_checkpoint), "--out", str(tmp_path / "out")]
    holding = ["--entrypoint-num-cpus", "1"]  # of three
    done = submit(address, environment, "python", "ray_jobs/score.py", *job, options=holding)
    assert done.returncode == 0, done.stdout + done.stderr
    run = json.loads((tmp_path / "out" / "run.json").read_text())["runs"][-1]
    assert run["cluster"]["CPU"] == 2
    assert (run["resources"]["decode_workers"], run["resources"]["model_workers"]) == (1, 2)


def test_a_users_mistake_fails_the_job_with_one_line(
    address: str, environment: dict[str, str], tmp_path: Path
) -> None:
    job = ["--videos", str(tmp_path), "--checkpoint", "gone.pt", "--out", str(tmp_path / "out")]
    done = submit(address, environment, "python", "ray_jobs/score.py", *job)
    assert done.returncode != 0
    text = done.stdout + done.stderr
    assert "error: cannot read the checkpoint gone.pt" in text
    assert "Traceback" not in text


def test_runs_export_what_the_dashboard_draws_and_log_what_was_rejected(
    address: str,
    environment: dict[str, str],
    metrics_port: int,
    videos: Path,
    tiny_checkpoint: Path,
    tmp_path: Path,
) -> None:
    dashboard = json.loads((REPOSITORY / "cluster" / "grafana" / "dfdm-ray.json").read_text())
    drawn = {
        name
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for name in re.findall(r"ray_dfdm_ray_\w+", target["expr"])
    }
    seen: set[str] = set()
    for limit in ("300", "0.1"):  # the second is a fault for every video
        job = ["--videos", str(videos), "--checkpoint", str(tiny_checkpoint), "--out", str(tmp_path / limit)]
        job += ["--limits.seconds", limit]
        json_logs = ["env", "RAY_LOGGING_CONFIG_ENCODING=JSON"]
        done = submit(address, environment, *json_logs, "python", "ray_jobs/score.py", *job)
        assert done.returncode == 0, done.stdout + done.stderr
        with urlopen(f"http://127.0.0.1:{metrics_port}/metrics") as answer:
            seen |= set(re.findall(r"^ray_dfdm_ray_\w+", answer.read().decode(), re.MULTILINE))
    assert drawn <= seen
    logged = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    codes = {line["video_id"]: line["reject_code"] for line in logged if "video_id" in line}
    assert codes == {"carphone_pristine.mp4": "timed_out", "no_face.mp4": "timed_out"}


def write_dfdm(root: Path) -> int:
    """Write videos under names of DFDM, two scenes of four people by two generators; return how many."""
    video, count = assets.get("carphone_pristine.mp4"), 0
    for folder, tag in (("Faceswap", "1original"), ("Dfaker", "4dfaker")):
        (root / "DFDM_crf10" / folder).mkdir(parents=True)
        for identity, scene in itertools.product(range(4), range(2)):
            name = f"id{identity}_id{9 - identity}_{scene:04}_{tag}.mp4"
            shutil.copy(video, root / "DFDM_crf10" / folder / name)
            count += 1
    return count


def write_people(root: Path) -> None:
    for name, video in (("driver", "carphone_pristine.mp4"), ("man", "single_face.mp4")):
        (root / name).mkdir(parents=True)
        shutil.copy(assets.get(video), root / name)


def test_the_documented_commands_take_a_dataset_through_every_job(
    address: str, environment: dict[str, str], tmp_path: Path
) -> None:
    planned = write_dfdm(tmp_path / "DFDM")
    write_people(tmp_path / "people")
    settings, said = {**environment, "RAY_API_SERVER_ADDRESS": address}, ""
    for code in documented_jobs():
        here = code.replace("/data", str(tmp_path))
        done = subprocess.run(
            ["bash", "-euxo", "pipefail", "-c", here],
            cwd=REPOSITORY,
            env=settings,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, f"{here}\n{done.stdout[-5000:]}\n{done.stderr[-5000:]}"
        said += done.stdout
    assert "ready: nothing failed" in said
    table = pq.read_table(tmp_path / "out" / "predictions")
    assert len(set(table["video_id"].to_pylist())) == table.num_rows == planned
    assert set(table["status"].to_pylist()) == {"scored"}
    assert "accuracy" in json.loads((tmp_path / "evaluation" / "metrics.json").read_text())
    assert set(json.loads((tmp_path / "ablation" / "ablation.json").read_text())["variants"]) == {
        "default",
        "no-attention",
    }
    made = pq.read_table(tmp_path / "made" / "manifest.parquet")
    generators, qualities = ({None, "faceswap", "dfaker"}, {0, 10, 23})
    assert (set(made["generator"].to_pylist()), set(made["crf"].to_pylist())) == (generators, qualities)


def test_every_job_is_among_the_documented_commands() -> None:
    run = set(re.findall(r"ray_jobs/(\w+\.py)", "\n".join(documented_jobs())))
    assert run == {path.name for path in (REPOSITORY / "ray_jobs").glob("*.py")}
