"""A run of `generate` that is killed, or whose workers are, ends with the files of one that is not."""

import csv
import json
from contextlib import AbstractContextManager
from pathlib import Path

import psutil
import pytest
from support.killed import dfdm_ray, finish, kill_driver, kill_worker, wait_until
from support.token_cluster import TokenCluster

from dfdm_ray import assets

pytestmark = [pytest.mark.ray, pytest.mark.e2e]

ITERATIONS = 400
"""Enough to outlast a checkpoint, 100 iterations, and to be caught in the act."""


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("people") / "people.csv"
    with path.open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["identity", "video"])
        rows.writerow(["driver", assets.get("carphone_pristine.mp4")])
        rows.writerow(["man", assets.get("single_face.mp4")])
    return path


def generate(people: Path, out: Path, cluster: TokenCluster) -> AbstractContextManager[psutil.Popen]:
    flags = "--generators faceswap iae --scene-frames 20 --scenes-per-identity 2 --max-frames 60"
    train = f"--train.iterations {ITERATIONS} --train.width 0.05 --train.batch-size 2 --train.face-px 64"
    paths = ["--identities", str(people), "--out", str(out)]
    return dfdm_ray("generate", *paths, *flags.split(), *train.split(), cluster=cluster)


def iterations_done(out: Path) -> int:
    return sum(int(path.read_text() or 0) for path in out.glob("work/models/*/*/progress.txt"))


def files(out: Path) -> set[str]:
    kept = {"progress.txt"}  # how far a training is, of no use once it is over
    return {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file() and path.name not in kept}


@pytest.fixture(scope="module")
def undisturbed(people: Path, token_cluster: TokenCluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    with generate(people, out, token_cluster) as job:
        finish(job)
    return out


def assert_same_dataset(out: Path, undisturbed: Path) -> None:
    assert files(out) == files(undisturbed)
    for path in undisturbed.glob("work/models/*/*/result.json"):
        again = json.loads((out / path.relative_to(undisturbed)).read_text())
        assert again == pytest.approx(json.loads(path.read_text()), abs=0.01)
    for path in undisturbed.rglob("*.mp4"):
        assert (out / path.relative_to(undisturbed)).read_bytes() == path.read_bytes()


def test_a_driver_killed_while_it_trains_is_continued_by_the_same_command(
    people: Path, undisturbed: Path, token_cluster: TokenCluster, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with generate(people, out, token_cluster) as job:
        wait_until(lambda: 100 <= iterations_done(out) < 2 * ITERATIONS, job)
        kill_driver(job, worker="train", cluster=token_cluster)
    assert not list(out.rglob("*.mp4"))
    with generate(people, out, token_cluster) as job:
        finish(job)
    assert_same_dataset(out, undisturbed)


def test_workers_killed_in_training_and_in_conversion_are_replaced(
    people: Path, undisturbed: Path, token_cluster: TokenCluster, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with generate(people, out, token_cluster) as job:
        wait_until(lambda: iterations_done(out) >= 100 and kill_worker(job, "train", token_cluster), job)
        wait_until(lambda: list(out.rglob("*.mp4")) and kill_worker(job, "convert", token_cluster), job)
        finish(job)
    assert_same_dataset(out, undisturbed)
