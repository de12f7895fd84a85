from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from ray.exceptions import WorkerCrashedError
from rich.console import Console
from support.videos import VideoRecipe, write_video

from dfdm_ray.errors import IncompleteError
from dfdm_ray.generators import build_generator
from dfdm_ray.jobs.generate import job
from dfdm_ray.jobs.generate.config import SwapTrainConfig
from dfdm_ray.jobs.generate.extract import VideoFaces
from dfdm_ray.jobs.generate.plan import Scene
from dfdm_ray.jobs.generate.tasks import Training, convert, train
from dfdm_ray.labels import Generator

FACE = np.array([(60, 50), (90, 50), (75, 65), (63, 80), (87, 80)], np.float32)
"""Eyes, nose and corners of the mouth, pixels."""


@pytest.fixture
def training(tmp_path: Path) -> Training:
    """Two sides of three frames each, with the same file of faces."""
    pictures = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    faces = VideoFaces(landmarks=np.stack([FACE] * 3), faces=pictures)
    (tmp_path / "faces.npz").write_bytes(faces.to_bytes())
    return Training(
        generator=Generator.FACESWAP,
        pair=("id0", "id1"),
        faces={"a": (str(tmp_path / "faces.npz"),), "b": (str(tmp_path / "faces.npz"),)},
        folder=tmp_path,
        config=SwapTrainConfig(width=0.03, iterations=2, batch_size=2, face_px=64),
        seed=0,
    )


def convert_scene(training: Training, out: Path) -> bytes:
    source = write_video(training.folder / "s.mp4", VideoRecipe(num_frames=3, size=(160, 128)))
    network = build_generator(training.generator, width=training.config.width, seed=0)
    torch.save(network.state_dict(), training.folder / "network.pt")
    scene = Scene(identity="id0", number=0, uri=str(source), frames=range(3))
    convert(training, scene, training.faces["a"][0], "b", {10: out})
    return out.read_bytes()


def test_a_conversion_stays_off_gpus_which_it_has_not_reserved(
    training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert convert_scene(training, training.folder / "out.mp4")


def test_the_faithful_crop_draws_another_face_than_the_crop_of_training(training: Training) -> None:
    plain = replace(training, config=replace(training.config, faithful_crop=False))
    faithful, again, other = (
        convert_scene(one, training.folder / f"{number}.mp4")
        for number, one in enumerate((training, training, plain))
    )
    assert faithful == again
    assert faithful != other


def losses_of(training: Training) -> list[float]:
    state = torch.load(training.folder / "state.pt", weights_only=True)
    return list(state["losses"])


def test_a_training_continues_from_its_checkpoint(training: Training) -> None:
    """With another seed: from the beginning it would have other losses."""
    train(training, "cpu")
    before = losses_of(training)
    assert len(before) == training.iterations_done == 2
    (training.folder / "result.json").unlink()
    longer = replace(training, config=replace(training.config, iterations=4), seed=1)
    assert longer.iterations_done == 2
    train(longer, "cpu")
    assert losses_of(longer)[:2] == before
    assert len(losses_of(longer)) == longer.iterations_done == 4
    assert longer.result is not None
    assert (longer.folder / "losses.png").stat().st_size > 1000


def test_a_finished_training_is_left_alone(training: Training) -> None:
    train(training, "cpu")
    (training.folder / "state.pt").unlink()
    train(training, "cpu")
    assert not (training.folder / "state.pt").exists()


def test_a_worker_that_dies_in_every_attempt_ends_the_run_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def died(_: object) -> None:
        raise WorkerCrashedError

    monkeypatch.setattr(job.ray, "wait", lambda running, **_: (running, []))
    monkeypatch.setattr(job.ray, "get", died)
    with pytest.raises(
        IncompleteError, match=r"^a worker died in each of 4 attempts \(The worker died unexp"
    ):
        job._wait([cast(Any, None)], "scenes", Console(quiet=True))
