"""A training that is killed, or one of whose workers is, ends with the figures of one that is not."""

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest
from support.crops_rows import write_patterns
from support.killed import dfdm_ray, finish, kill_driver, kill_worker, wait_until
from support.token_cluster import TokenCluster

from dfdm_ray.jobs.train.loop import EpochResult
from dfdm_ray.jobs.train.rank import read_history

pytestmark = [pytest.mark.ray, pytest.mark.e2e]

EPOCHS = 8
WORKER = "RayTrainWorker"


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("crops")
    write_patterns(root, generators=("faceswap", "iae"), each={"train": 20, "val": 5})
    return root


def train(
    crops: Path, out: Path, cluster: TokenCluster | None = None
) -> AbstractContextManager[psutil.Popen]:
    flags = f"--network.backbone resnet10 --workers 2 --recipe.batch-size 4 --recipe.epochs {EPOCHS}"
    return dfdm_ray("train", "--crops", str(crops), "--out", str(out), *flags.split(), cluster=cluster)


def history(out: Path) -> list[EpochResult]:
    file = out / "history.csv"
    return read_history(file.read_text()) if file.exists() else []


@pytest.fixture(scope="module")
def undisturbed(
    crops: Path, token_cluster: TokenCluster, tmp_path_factory: pytest.TempPathFactory
) -> list[EpochResult]:
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    with train(crops, out, token_cluster) as job:
        finish(job)
    return history(out)


def under_way(out: Path) -> Callable[[], bool]:
    return lambda: 2 <= len(history(out)) < EPOCHS - 2


def assert_same(out: Path, undisturbed: list[EpochResult]) -> None:
    found = history(out)
    assert [one.epoch for one in found] == list(range(1, EPOCHS + 1))
    for one, other in zip(found, undisturbed, strict=True):
        seconds = {"seconds": one.seconds}
        assert asdict(one) == pytest.approx({**asdict(other), **seconds}, rel=1e-3, abs=1e-4)


def test_a_killed_worker_is_replaced(
    crops: Path, undisturbed: list[EpochResult], token_cluster: TokenCluster, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with train(crops, out, token_cluster) as job:
        wait_until(under_way(out), job)
        assert kill_worker(job, WORKER, token_cluster)
        text = finish(job)
    assert_same(out, undisturbed)
    assert re.findall(r"^epoch (\d)/8: loss .* s(?: left)?$", text, re.MULTILINE) == list("12345678")


def test_a_killed_training_with_a_ray_of_its_own_is_continued_by_the_same_command(
    crops: Path, undisturbed: list[EpochResult], token_cluster: TokenCluster, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with train(crops, out) as job:
        wait_until(under_way(out), job)
        kill_driver(job, worker=WORKER)
    assert 2 <= len(history(out)) < EPOCHS
    with train(crops, out, token_cluster) as job:
        finish(job)
    assert_same(out, undisturbed)
