"""The tasks of making a dataset, as plain functions: each leaves a file, whole or not at all.

A task whose file is there returns at once, so tasks can be retried and runs continued.
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
from dfdm_ray.config import FaceConfig
from dfdm_ray.engine.reports import draw_losses
from dfdm_ray.errors import UserError, VideoRejectedError
from dfdm_ray.generators.swap_autoencoder import SIDES, Side, build_generator
from dfdm_ray.io import storage
from dfdm_ray.io.images import png
from dfdm_ray.jobs.generate.config import GenerateConfig, SwapTrainConfig
from dfdm_ray.jobs.generate.convert import FaceSwapper, encode_scene
from dfdm_ray.jobs.generate.extract import VideoFaces, extract_faces
from dfdm_ray.jobs.generate.plan import Scene
from dfdm_ray.jobs.generate.train import SwapTrainer, conversion_spans, has_diverged
from dfdm_ray.labels import Generator

SAVE_EVERY = 100
"""Iterations between two checkpoints: what a killed training loses at most."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """One generator on one pair."""

    generator: Generator
    pair: tuple[str, str]
    """Identities ``a`` and ``b``."""
    faces: Mapping[Side, tuple[str, ...]]
    """Files of :func:`extract` for either side."""
    folder: str
    config: SwapTrainConfig
    seed: int

    def path(self, name: str) -> Path:
        """Return the training's file of that name."""
        return Path(self.folder) / name

    @property
    def result(self) -> dict[str, float] | None:
        """PSNR of the two reconstructions in dB, by side, once training is over."""
        done = self.path("result.json")
        return json.loads(done.read_text()) if done.exists() else None

    @property
    def iterations_done(self) -> int:
        """How far training got, as of its last report."""
        if self.result is not None:
            return self.config.iterations
        progress = self.path("progress.txt")
        return int(progress.read_text()) if progress.exists() else 0


def extract(uri: str, out: str, faces: FaceConfig, weights: bytes, config: GenerateConfig) -> str | None:
    """Write the faces of a video to ``out``; return why it cannot be used, if so."""
    cv2.setNumThreads(1)
    if Path(out).exists():
        return None
    try:
        found = extract_faces(
            uri,
            make_detector(faces, weights),
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
    """Return what :func:`extract` wrote."""
    return VideoFaces.from_bytes(Path(path).read_bytes())


def train(training: Training, device: str) -> None:
    """Train to the end on ``device`` from wherever an earlier try got to.

    Raises:
        UserError: If the training diverges.
    """
    if training.result is not None:
        return
    cv2.setNumThreads(1)
    faces = {
        side: np.concatenate([read_faces(path).faces for path in training.faces[side]]) for side in SIDES
    }
    trainer = SwapTrainer(
        generator=training.generator,
        faces=faces,
        config=training.config,
        seed=training.seed,
        device=device,
    )
    state = training.path("state.pt")
    if state.exists():
        trainer.restore(state.read_bytes(), name=str(state))

    def report(iteration: int) -> None:
        if has_diverged(trainer.losses):
            lowest, last = min(trainer.losses), trainer.losses[-1]
            raise UserError(
                f"the training of {training.generator} on {' and '.join(training.pair)} has diverged by "
                f"iteration {iteration} (loss {lowest:.2g}, then {last:.2g}); give a lower "
                "--train.learning-rate or a --train.clip-norm such as 0.3, and a new --out"
            )
        storage.write_atomic(str(state), trainer.to_bytes())
        storage.write_atomic(str(training.path("progress.txt")), str(iteration).encode())
        storage.write_atomic(str(training.path("preview.png")), png(trainer.preview()))
        storage.write_atomic(str(training.path("losses.png")), png(draw_losses(trainer.losses)))

    trainer.run(report, report_every=SAVE_EVERY)
    if len(trainer.losses) % SAVE_EVERY:
        report(len(trainer.losses))
    storage.write_atomic(str(training.path("network.pt")), trainer.network_bytes())
    psnr = {side: round(trainer.psnr_db(side), 2) for side in SIDES}
    storage.write_atomic(str(training.path("result.json")), json.dumps(psnr).encode())


def convert(training: Training | None, scene: Scene, faces: str, to: Side, paths: Mapping[int, str]) -> None:
    """Encode a scene at every quality: with the pair's face ``to`` put in, or as it is without a training.

    The network runs on the CPU, as this task reserves no GPU.
    """
    missing = {crf: Path(path) for crf, path in paths.items() if not Path(path).exists()}
    if not missing:
        return
    cv2.setNumThreads(1)
    swapper = None if training is None else _swapper(training, to)
    encode_scene(scene.uri, scene.frames, missing, swapper=swapper, landmarks=read_faces(faces).landmarks)


def _swapper(training: Training, to: Side) -> FaceSwapper:
    weights = torch.load(training.path("network.pt"), map_location="cpu", weights_only=True)
    network = build_generator(training.generator, width=training.config.width)
    network.load_state_dict(weights)
    train_span, span = conversion_spans(training.config)
    return FaceSwapper(network, to=to, train_span_mfu=train_span, span_mfu=span, device="cpu")
