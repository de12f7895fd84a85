import socket
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO, cast

import numpy as np
import pytest
import torch
from ray.exceptions import WorkerCrashedError
from rich.console import Console
from support.videos import VideoRecipe, write_video

from dfdm_ray.clips.cut import load_detector
from dfdm_ray.config import FaceConfig
from dfdm_ray.errors import IncompleteError, UserError, WriteError
from dfdm_ray.generators import build_generator
from dfdm_ray.io import atomic
from dfdm_ray.jobs.generate import job, tasks
from dfdm_ray.jobs.generate.config import GenerateConfig, SwapTrainConfig
from dfdm_ray.jobs.generate.faces import Subject, faces_file, read_faces, read_subject
from dfdm_ray.jobs.generate.plan import Scene
from dfdm_ray.jobs.generate.tasks import Training, convert, extract, train
from dfdm_ray.jobs.generate.train import SwapTrainer
from dfdm_ray.labels import Generator

FACE = np.array([(60, 50), (90, 50), (75, 65), (63, 80), (87, 80)], np.float32)
"""Eyes, nose and corners of the mouth, pixels."""


@pytest.fixture
def training(tmp_path: Path) -> Training:
    """Two sides of three frames each, with the same file of faces."""
    pictures = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    subject = Subject(landmarks=np.stack([FACE] * 3), times_s=np.arange(3) / 25)
    (tmp_path / "faces.npz").write_bytes(subject.to_bytes())
    np.save(tmp_path / "faces.npy", pictures)
    return Training(
        generator=Generator.FACESWAP,
        pair=("id0", "id1"),
        faces={"a": (str(tmp_path / "faces.npz"),), "b": (str(tmp_path / "faces.npz"),)},
        folder=tmp_path,
        config=SwapTrainConfig(width=0.03, iterations=2, batch_size=2, face_px=64),
        seed=0,
        save_s=60,
    )


def convert_scene(training: Training, out: Path) -> bytes:
    source = write_video(training.folder / "s.mp4", VideoRecipe(num_frames=3, size=(160, 128)))
    network = build_generator(training.generator, width=training.config.width, seed=0)
    torch.save(network.state_dict(), training.folder / "network.pt")
    scene = Scene(identity="id0", number=0, uri=str(source), frames=range(3))
    host, layers = convert(training, scene, training.faces["a"][0], "b", {10: out}) or ("", [])
    assert host == socket.gethostname()
    assert {"no_new_privs", "limits"} <= {*layers}
    assert convert(training, scene, training.faces["a"][0], "b", {10: out}) is None
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


def test_a_training_saves_by_time_and_at_its_end(training: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[str, int]] = []
    appearing = atomic.appearing

    def note(path: str) -> AbstractContextManager[BinaryIO]:
        written.append((Path(path).name, int(clock[0])))
        return appearing(path)

    clock = [0.0]

    def tick() -> float:
        clock[0] += 1  # a second for each look at the clock, of which a step takes one
        return clock[0]

    monkeypatch.setattr(tasks.time, "monotonic", tick)
    monkeypatch.setattr(atomic, "appearing", note)
    train(replace(training, save_s=10, config=replace(training.config, iterations=24)), "cpu")
    saves = [at for name, at in written if name == "state.pt"]
    assert len(saves) == 3
    assert all(10 <= later - earlier <= 13 for earlier, later in pairwise(saves[:-1]))
    assert len(losses_of(training)) == 24


def test_a_save_that_fails_leaves_the_one_before(training: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    train(training, "cpu")
    before = (training.folder / "state.pt").read_bytes()
    (training.folder / "result.json").unlink()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(WriteError, match=r"cannot write .*: No space left on device"):
        train(replace(training, config=replace(training.config, iterations=4)), "cpu")
    assert (training.folder / "state.pt").read_bytes() == before
    assert not list(training.folder.glob("*.part"))


@pytest.mark.parametrize("content", [b"", b"nonsense", None])
def test_a_damaged_or_missing_network_is_one_line_that_says_what_to_delete(
    training: Training, content: bytes | None
) -> None:
    train(training, "cpu")
    network = training.folder / "network.pt"
    if content is None:
        network.unlink()
    else:
        network.write_bytes(content)
    scene = Scene(identity="id0", number=0, uri="s.mp4", frames=range(3))
    with pytest.raises(UserError, match=r"network\.pt is missing or damaged; delete .* trains this network"):
        convert(training, scene, training.faces["a"][0], "b", {10: training.folder / "out.mp4"})


def test_a_network_of_other_sizes_is_damaged_too(training: Training) -> None:
    train(training, "cpu")
    other = replace(training, config=replace(training.config, width=0.05))
    scene = Scene(identity="id0", number=0, uri="s.mp4", frames=range(3))
    with pytest.raises(UserError, match="missing or damaged"):
        convert(other, scene, training.faces["a"][0], "b", {10: training.folder / "out.mp4"})


def test_a_damaged_state_is_one_line_that_says_what_to_delete(training: Training) -> None:
    train(training, "cpu")
    (training.folder / "result.json").unlink()
    (training.folder / "state.pt").write_bytes(b"half a st")
    with pytest.raises(UserError, match=r"state\.pt is missing or damaged; delete "):
        train(training, "cpu")


def test_a_training_reads_the_faces_of_all_its_videos_from_their_files(training: Training) -> None:
    """It ends as one on the same faces in one array."""
    pictures = np.random.default_rng(1).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    np.save(training.folder / "more.npy", pictures)
    both = (*training.faces["a"], str(training.folder / "more.npz"))
    train(replace(training, faces={"a": both, "b": both}), "cpu")
    whole = np.concatenate([read_faces(path) for path in both])
    alone = SwapTrainer(
        generator=training.generator,
        faces={"a": whole, "b": whole},
        config=training.config,
        seed=training.seed,
        device="cpu",
    )
    for _ in range(training.config.iterations):
        alone.step()
    assert losses_of(training) == alone.losses


def test_faces_of_an_earlier_version_are_split_and_not_extracted_again(tmp_path: Path) -> None:
    path = tmp_path / "id0_0000.npz"
    faces = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    np.savez_compressed(path, landmarks=np.stack([FACE] * 3), faces=faces)
    config = GenerateConfig(identities="people", out="out")
    assert extract("nowhere.mp4", str(path), b"", config) is None
    np.testing.assert_array_equal(read_faces(path), faces)
    assert read_subject(path).times_s is None
    assert read_subject(path).landmarks.shape == (3, 5, 2)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["id0_0000.npy", "id0_0000.npz"]


def test_a_video_that_is_left_out_leaves_no_faces(tmp_path: Path) -> None:
    weights = load_detector(FaceConfig())[1]
    video = write_video(tmp_path / "s.mp4", VideoRecipe(num_frames=3, size=(160, 128)))
    path = tmp_path / "faces" / "id0_0000.npz"
    config = GenerateConfig(identities="people", out="out")
    assert str(extract(str(video), str(path), weights, config)).startswith("no_face")
    assert not faces_file(path).exists()
    assert list(path.parent.iterdir()) == []


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


@pytest.mark.parametrize(
    ("nodes", "memory_gib", "given", "share"),
    [
        ([{"CPU": 4.0}], None, None, (1.0, 0.0)),
        ([{"CPU": 4.0, "GPU": 1.0}], 80, None, (0.0, 0.25)),
        ([{"CPU": 4.0, "GPU": 1.0}], 15, None, (0.0, 0.5)),
        ([{"CPU": 4.0}, {"GPU": 1.0}], 80, 2, (0.0, 0.5)),
        ([{"CPU": 4.0, "GPU": 1.0}], None, None, (0.0, 1.0)),  # another job holds the GPU
    ],
)
def test_trainings_reserve_a_share_of_a_gpu_or_a_cpu(
    nodes: list[dict[str, float]],
    memory_gib: float | None,
    given: int | None,
    share: tuple[float, float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(job, "worker_nodes", lambda: nodes)
    monkeypatch.setattr(job.ray, "remote", lambda **_: lambda _: SimpleNamespace(remote=lambda: "look"))
    monkeypatch.setattr(job.ray, "wait", lambda refs, **_: (refs, []) if memory_gib else ([], refs))
    monkeypatch.setattr(job.ray, "get", lambda _: memory_gib)
    monkeypatch.setattr(job.ray, "cancel", lambda _: None)
    config = GenerateConfig(identities="people", out="out", trainings_per_gpu=given)
    found = job._of_training(config)
    assert (found["num_cpus"], found["num_gpus"]) == share
