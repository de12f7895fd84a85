"""A run of `generate` that is killed, or whose workers are, ends with the files of one that is not."""

import csv
import json
from contextlib import AbstractContextManager
from pathlib import Path

import psutil
import pytest
from rich.console import Console
from support.killed import dfdm_ray, finish, kill_driver, kill_worker, wait_until

from dfdm_ray import assets
from dfdm_ray.jobs.generate.config import GenerateConfig, SwapTrainConfig
from dfdm_ray.jobs.generate.job import generate
from dfdm_ray.labels import Generator

pytestmark = [pytest.mark.ray, pytest.mark.e2e, pytest.mark.usefixtures("ray_cluster")]

ITERATIONS = 300
"""Enough for several checkpoints."""
SAVE_MINUTES = 0.005


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("people") / "people.csv"
    with path.open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["identity", "video"])
        rows.writerow(["driver", assets.get("carphone_pristine.mp4")])
        rows.writerow(["man", assets.get("single_face.mp4")])
    return path


def config(people: Path, out: Path) -> GenerateConfig:
    train = SwapTrainConfig(iterations=ITERATIONS, width=0.05, batch_size=2, face_px=64)
    return GenerateConfig(
        identities=str(people),
        out=str(out),
        generators=(Generator.FACESWAP,),
        scene_frames=10,
        scenes_per_identity=1,
        max_frames=30,
        save_minutes=SAVE_MINUTES,
        train=train,
    )


def command(people: Path, out: Path) -> AbstractContextManager[psutil.Popen]:
    """Start a process of that configuration which joins the Ray of this one."""
    flags = "--generators faceswap --scene-frames 10 --scenes-per-identity 1 --max-frames 30"
    flags += f" --save-minutes {SAVE_MINUTES}"
    train = f"--train.iterations {ITERATIONS} --train.width 0.05 --train.batch-size 2 --train.face-px 64"
    paths = ["--identities", str(people), "--out", str(out)]
    return dfdm_ray("generate", *paths, *flags.split(), *train.split(), joins=True)


def iterations_done(out: Path) -> int:
    return sum(int(path.read_text() or 0) for path in out.glob("work/models/*/*/progress.txt"))


def files(out: Path) -> set[str]:
    kept = {"progress.txt"}  # how far a training is, of no use once it is over
    return {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file() and path.name not in kept}


def test_killed_drivers_and_workers_change_no_file_of_the_dataset(people: Path, tmp_path: Path) -> None:
    undisturbed, out = tmp_path / "undisturbed", tmp_path / "out"
    generate(config(people, undisturbed), Console(quiet=True))
    with command(people, out) as job:
        wait_until(lambda: iterations_done(out) >= 100, job)
        kill_driver(job, worker="train")
    assert iterations_done(out) < ITERATIONS
    assert not list(out.rglob("*.mp4"))
    with command(people, out) as job:
        wait_until(lambda: iterations_done(out) >= 200 and kill_worker("train"), job)
        wait_until(lambda: kill_worker("convert"), job)
        finish(job)
    assert files(out) == files(undisturbed)
    (result,) = undisturbed.glob("work/models/*/*/result.json")
    again = json.loads((out / result.relative_to(undisturbed)).read_text())
    assert again == pytest.approx(json.loads(result.read_text()), abs=0.01)
    for path in undisturbed.rglob("*.mp4"):
        assert (out / path.relative_to(undisturbed)).read_bytes() == path.read_bytes()
