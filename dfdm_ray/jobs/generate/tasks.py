"""Ray tasks of ``generate`` as plain functions. Each leaves whole files or none.

A task whose files exist returns at once, so tasks can be retried and runs can be continued.
"""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from dfdm_ray.clips.cut import make_detector
from dfdm_ray.errors import UserError, VideoRejectedError
from dfdm_ray.faces.alignment import spans
from dfdm_ray.generators import build_generator
from dfdm_ray.generators.base import SIDES, Side
from dfdm_ray.io import storage
from dfdm_ray.io.images import png
from dfdm_ray.jobs.generate.config import GenerateConfig, SwapTrainConfig
from dfdm_ray.jobs.generate.convert import FaceSwapper, encode_scene
from dfdm_ray.jobs.generate.extract import VideoFaces, extract_faces
from dfdm_ray.jobs.generate.plan import Scene
from dfdm_ray.jobs.generate.train import SwapTrainer, draw_losses, has_diverged
from dfdm_ray.labels import Generator

SAVE_EVERY = 100
"""Iterations between two checkpoints: the most that a killed training loses."""


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

    @property
    def result(self) -> dict[str, float] | None:
        """PSNR of the reconstruction of each side in dB; ``None`` before the training is finished."""
        done = self.folder / "result.json"
        return json.loads(done.read_text()) if done.exists() else None

    @property
    def iterations_done(self) -> int:
        """Iterations up to the last checkpoint."""
        if self.result is not None:
            return self.config.iterations
        progress = self.folder / "progress.txt"
        return int(progress.read_text()) if progress.exists() else 0


def extract(uri: str, out: str, weights: bytes, config: GenerateConfig) -> str | None:
    """Write the faces of a video to ``out``; return the reason if the video cannot be used."""
    cv2.setNumThreads(1)
    if Path(out).exists():
        return None
    try:
        found = extract_faces(
            uri,
            make_detector(config.detector, weights),
            size_px=config.train.face_px,
            max_frames=config.max_frames,
            smoothing=config.smoothing,
        )
    except VideoRejectedError as rejected:
        return str(rejected)
    storage.write_atomic(out, found.to_bytes())
    return None


@functools.lru_cache(maxsize=4)
def read_faces(path: str) -> VideoFaces:
    """Read a file that :func:`extract` wrote."""
    return VideoFaces.from_bytes(Path(path).read_bytes())


def train(training: Training, device: str) -> None:
    """Train to the end on ``device``, from the last checkpoint if there is one.

    Raises:
        UserError: If the training diverges.
    """
    if training.result is not None:
        return
    cv2.setNumThreads(1)
    trainer = SwapTrainer(
        generator=training.generator,
        faces={
            side: np.concatenate([read_faces(path).faces for path in training.faces[side]]) for side in SIDES
        },
        config=training.config,
        seed=training.seed,
        device=device,
    )
    state = training.folder / "state.pt"
    if state.exists():
        trainer.restore(state.read_bytes(), name=str(state))
    for iteration in range(len(trainer.losses) + 1, training.config.iterations + 1):
        trainer.step()
        if iteration % SAVE_EVERY == 0 or iteration == training.config.iterations:
            _save(training, trainer)
    storage.write_atomic(str(training.folder / "network.pt"), trainer.network_bytes())
    psnr = {side: round(trainer.psnr_db(side), 2) for side in SIDES}
    storage.write_atomic(str(training.folder / "result.json"), json.dumps(psnr).encode())


def _save(training: Training, trainer: SwapTrainer) -> None:
    losses = trainer.losses
    if has_diverged(losses):
        raise UserError(
            f"the training of {training.generator} on {' and '.join(training.pair)} has diverged by "
            f"iteration {len(losses)} (loss {min(losses):.2g}, then {losses[-1]:.2g}); give a lower "
            "--train.learning-rate or a --train.clip-norm such as 0.3, and a new --out"
        )
    files = {
        "preview.png": png(trainer.preview()),
        "losses.png": draw_losses(losses),
        "state.pt": trainer.to_bytes(),
        "progress.txt": str(len(losses)).encode(),
    }
    for name, content in files.items():
        storage.write_atomic(str(training.folder / name), content)


def convert(training: Training | None, scene: Scene, faces: str, to: Side, paths: Mapping[int, Path]) -> None:
    """Encode a scene to ``paths``, by crf: with the face of side ``to``, or unchanged without a training.

    The network runs on the CPU, because this task reserves no GPU.
    """
    missing = {crf: path for crf, path in paths.items() if not path.exists()}
    if not missing:
        return
    cv2.setNumThreads(1)
    swapper = None
    if training is not None:
        network = build_generator(training.generator, width=training.config.width)
        weights = training.folder / "network.pt"
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        crops = spans(training.config.coverage, faithful=training.config.faithful_crop)
        swapper = FaceSwapper(network=network, to=to, spans=crops)
    encode_scene(scene.uri, scene.frames, missing, swapper=swapper, landmarks=read_faces(faces).landmarks)
