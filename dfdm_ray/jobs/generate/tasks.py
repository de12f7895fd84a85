"""Ray tasks of ``generate`` as plain functions. Each leaves whole files or none.

A task whose files exist returns at once, so tasks can be retried and runs can be continued.
"""

import json
import pickle
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import torch

from dfdm_ray.errors import UserError, VideoRejectedError
from dfdm_ray.faces.alignment import spans
from dfdm_ray.generators import build_generator
from dfdm_ray.generators.base import SIDES, Side, SwapAutoencoder
from dfdm_ray.io import storage
from dfdm_ray.io.atomic import atomic_stream
from dfdm_ray.io.images import png
from dfdm_ray.jobs.generate.config import GenerateConfig, SwapTrainConfig
from dfdm_ray.jobs.generate.convert import FaceSwapper, encode_scene
from dfdm_ray.jobs.generate.decoding import end_processes, finder, scene_of, scene_reader, take_faces
from dfdm_ray.jobs.generate.faces import FacePool, faces_file, read_faces, read_subject, split_faces
from dfdm_ray.jobs.generate.plan import Scene
from dfdm_ray.jobs.generate.train import SwapTrainer, draw_losses, has_diverged
from dfdm_ray.labels import Generator

_PROGRESS_S = 5.0
"""Seconds between two notes of the progress, and checks for divergence."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """One generator on one pair of identities."""

    generator: Generator
    pair: tuple[str, str]
    """Ids of the identities ``a`` and ``b``."""
    faces: Mapping[Side, tuple[str, ...]]
    """Files that :func:`extract` wrote for each side."""
    folder: Path
    config: SwapTrainConfig
    seed: int
    save_s: float
    """Seconds between two checkpoints: the most that a killed training loses."""

    @property
    def result(self) -> dict[str, float] | None:
        """PSNR of the reconstruction of each side in dB; ``None`` before the training is finished."""
        done = self.folder / "result.json"
        return json.loads(done.read_text()) if done.exists() else None

    @property
    def iterations_done(self) -> int:
        """Iterations up to the last note of the progress."""
        if self.result is not None:
            return self.config.iterations
        progress = self.folder / "progress.txt"
        return int(progress.read_text()) if progress.exists() else 0


def extract(uri: str, out: str, weights: bytes, config: GenerateConfig) -> str | None:
    """Write the faces of a video to ``out``; return the reason if the video cannot be used."""
    marks, faces = Path(out), faces_file(out)
    if marks.exists() and (faces.exists() or split_faces(marks)):
        return None
    try:
        with atomic_stream(str(faces)) as stream:
            child = finder(
                config.detector,
                weights,
                size_px=config.train.face_px,
                max_frames=config.max_frames,
                smoothing=config.smoothing,
            )
            found = take_faces(child.pieces(uri), stream, size_px=config.train.face_px)
    except VideoRejectedError as rejected:
        return str(rejected)
    storage.write_atomic(out, found.to_bytes())
    return None


def gpu_memory_gib() -> float:
    """Return the memory of the GPU that this task reserves, GiB."""
    return torch.cuda.get_device_properties(0).total_memory / 2**30


def train(training: Training, device: str) -> None:
    """Train to the end on ``device``, from the last checkpoint if there is one.

    Raises:
        UserError: If the training diverges.
    """
    if training.result is not None:
        return
    end_processes()  # of earlier tasks of this worker
    cv2.setNumThreads(1)
    trainer = SwapTrainer(
        generator=training.generator,
        faces={side: FacePool([*map(read_faces, training.faces[side])]) for side in SIDES},
        config=training.config,
        seed=training.seed,
        device=device,
    )
    state = training.folder / "state.pt"
    if state.exists():
        with _readable(training, state):
            trainer.restore(state, name=str(state))
    _train_on(training, trainer)
    with atomic_stream(str(training.folder / "network.pt")) as stream:
        torch.save(trainer.network.state_dict(), stream)
    psnr = {side: round(trainer.psnr_db(side), 2) for side in SIDES}
    storage.write_atomic(str(training.folder / "result.json"), json.dumps(psnr).encode())


def _train_on(training: Training, trainer: SwapTrainer) -> None:
    """Train to the last iteration; save from time to time and at the end."""
    saved = noted = time.monotonic()
    while len(trainer.losses) < training.config.iterations:
        trainer.step()
        now, ended = time.monotonic(), len(trainer.losses) == training.config.iterations
        if ended or now - saved >= training.save_s:
            _save(training, trainer)
            saved = noted = time.monotonic()  # the time in between does not count the saving itself
        elif now - noted >= _PROGRESS_S:
            _note(training, trainer)
            noted = now


def _note(training: Training, trainer: SwapTrainer) -> None:
    """Write the number of iterations, which the driver shows."""
    losses = trainer.losses
    if has_diverged(losses):
        raise UserError(
            f"the training of {training.generator} on {' and '.join(training.pair)} has diverged by "
            f"iteration {len(losses)} (loss {min(losses):.2g}, then {losses[-1]:.2g}); give a lower "
            "--train.learning-rate or a --train.clip-norm such as 0.3, and a new --out"
        )
    storage.write_atomic(str(training.folder / "progress.txt"), str(len(losses)).encode())


def _save(training: Training, trainer: SwapTrainer) -> None:
    folder = training.folder
    _note(training, trainer)
    storage.write_atomic(str(folder / "preview.png"), png(trainer.preview()))
    storage.write_atomic(str(folder / "losses.png"), draw_losses(trainer.losses))
    with atomic_stream(str(folder / "state.pt")) as stream:
        torch.save(trainer.state(), stream)


def _network(training: Training) -> SwapAutoencoder:
    """Return the trained network; its weights are mapped from their file, which all tasks share."""
    with torch.device("meta"):
        width = training.config.width_of(training.generator)
        network = build_generator(training.generator, width=width)
    weights = training.folder / "network.pt"
    with _readable(training, weights):
        stored = torch.load(weights, map_location="cpu", weights_only=True, mmap=True)
        network.load_state_dict(stored, assign=True)
    return network


@contextmanager
def _readable(training: Training, file: Path) -> Iterator[None]:
    """Raise a :class:`UserError` if the block cannot read a ``file`` of PyTorch."""
    try:
        yield
    except (
        OSError,
        EOFError,
        RuntimeError,
        KeyError,
        ValueError,
        TypeError,
        pickle.UnpicklingError,
    ) as error:
        raise UserError(
            f"{file} is missing or damaged; delete {training.folder} and run the same command again, which "
            "trains this network anew and keeps the others"
        ) from error


def convert(
    training: Training | None, scene: Scene, faces: str, to: Side, paths: Mapping[int, Path]
) -> tuple[str, list[str]] | None:
    """Encode a scene to ``paths``, by crf: with the face of side ``to``, or unchanged without a training.

    The network runs on the CPU, because this task reserves no GPU.

    Returns:
        This host and the layers of the sandbox in which it decoded; ``None`` if all files exist.
    """
    missing = {crf: path for crf, path in paths.items() if not path.exists()}
    if not missing:
        return None
    cv2.setNumThreads(1)
    swapper = None
    if training is not None:
        crops = spans(training.config.coverage, faithful=training.config.faithful_crop)
        even = training.config.even_inputs
        swapper = FaceSwapper(network=_network(training), to=to, spans=crops, even_inputs=even)
    subject = read_subject(faces)
    source = scene_of(scene_reader().pieces(scene.uri, scene.frames, subject.times_s))
    try:
        encode_scene(source, scene.frames, missing, swapper=swapper, subject=subject)
    except ValueError as error:
        raise ValueError(f"{scene.uri}: {error}") from error
    return socket.gethostname(), scene_reader().layers
