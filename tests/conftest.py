import logging
import os
import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.dfdm_tree import dfdm, dfdm_tree  # noqa: F401 - fixtures
from support.token_cluster import CALM, PATIENCE, TokenCluster, run_token_cluster
from xdist.scheduler import LoadScopeScheduling

from dfdm_ray import assets

os.environ.update(CALM)
NUM_FRAMES = 4
CROP_SIZE = 64

SHARED = {
    "token_cluster": "token",
    "support.killed import": "killed",
    "joined_node": "killed",
    "ray_cluster": "ray",
    "dfdm_tree": "tree",
    "ManifestBuild": "tree",
}
"""Words in tests that share what takes long to make: a Ray of the session, or the tree of DFDM. The first
word counts. ``killed`` and ``ray`` have a Ray each, in two workers."""


@cache
def _group(file: Path) -> str:
    """Return what a test file shares with others, else its own name."""
    text = file.read_text()
    return next((group for word, group in SHARED.items() if word in text), str(file))


class Together(LoadScopeScheduling):
    """Gives all tests of a group to one worker of pytest-xdist."""

    def _split_scope(self, nodeid: str) -> str:
        return _group(Path(self.config.rootpath, nodeid.partition("::")[0]))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Together:
    return Together(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put first what takes longest: tests that share a Ray, those that start one, other slow ones."""
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    marks = [item.get_closest_marker(name) is not None for name in ("ray", "slow")]
    first = {"token": 0, "killed": 1, "ray": 2}
    return first.get(_group(item.path), len(first) + [*marks, True].index(True))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and os.environ.get("FAIL_WITHOUT_CUDA") != "1":
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")


@pytest.fixture(autouse=True)
def _same_random_numbers_for_every_test() -> None:
    import torch  # not at the top: the process that only hands out tests does without

    torch.set_num_threads(1)  # Ray's workers and other tests share the cores; waiting threads would only spin
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _no_error_is_logged(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    records = [*caplog.get_records("setup"), *caplog.get_records("call")]
    errors = [record for record in records if record.levelno >= logging.ERROR]
    expected = request.node.get_closest_marker("logs_an_error") is not None
    assert bool(errors) == expected, [record.getMessage() for record in errors]


@pytest.fixture(autouse=True)
def _fetch_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that needs a file which is not in the cache fails instead of reaching for the network."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")


@pytest.fixture(scope="session")
def carphone() -> Path:
    """A man in a car, 176x144, 120 frames, one key frame."""
    return assets.get("carphone_pristine.mp4")


@pytest.fixture(scope="session")
def sky() -> Path:
    """98 frames without a face."""
    return assets.get("no_face.mp4")


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random DMA-STA on ResNet-18 with 4 frames of 64 pixels, so that a test takes no time."""
    from support.checkpoints import write_untrained

    path = tmp_path_factory.mktemp("checkpoint") / "tiny.pt"
    return write_untrained(path, backbone="resnet18", num_frames=NUM_FRAMES, crop_size=CROP_SIZE)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One Ray for all tests that need it; two logical CPUs, whatever the machine has."""
    import ray

    os.environ.update(
        AWS_ACCESS_KEY_ID="test",
        AWS_SECRET_ACCESS_KEY="test",
        AWS_EC2_METADATA_DISABLED="true",
        RAY_raylet_start_wait_time_s=PATIENCE["RAY_raylet_start_wait_time_s"],
    )
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def token_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenCluster]:
    """Three nodes of a CPU each with token authentication, for jobs that are processes of their own."""
    with run_token_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster
