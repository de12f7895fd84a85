"""A training that is killed, or one of whose workers is, ends with the figures of one that is not."""

import re
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


def assert_same(out: Path, undisturbed: Path) -> None:
    found = history(out)
    assert [one.epoch for one in found] == list(range(1, EPOCHS + 1))
    for one, other in zip(found, history(undisturbed), strict=True):
        seconds = {"seconds": one.seconds}
        assert asdict(one) == pytest.approx({**asdict(other), **seconds}, rel=1e-3, abs=1e-4)


def epochs_shown(text: str) -> list[str]:
    return re.findall(rf"^epoch (\d)/{EPOCHS}: loss .* s(?: left)?$", text, re.MULTILINE)


def test_a_killed_worker_is_replaced_and_a_killed_training_is_continued_by_the_same_command(
    crops: Path, token_cluster: TokenCluster, tmp_path: Path
) -> None:
    undisturbed, out = tmp_path / "undisturbed", tmp_path / "out"
    with train(crops, undisturbed, token_cluster) as job:
        assert epochs_shown(finish(job)) == list("12345678")
    with train(crops, out) as job:  # in a Ray of its own
        wait_until(lambda: history(out) and kill_worker(job, WORKER), job)
        before = len(history(out))
        wait_until(lambda: len(history(out)) > before + 1, job)
        kill_driver(job, worker=WORKER)
        first = epochs_shown(job.stdout.read())
    assert 2 <= len(history(out)) < EPOCHS
    with train(crops, out, token_cluster) as job:
        last = epochs_shown(finish(job))
    assert_same(out, undisturbed)
    shown = [*first, *last]
    assert shown == sorted(set(shown))
    assert set("12345678") - set(shown) <= {str(int(last[0]) - 1)}  # recorded when the driver was killed
