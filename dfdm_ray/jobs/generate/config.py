"""Configuration of `dfdm-ray generate`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from dfdm_ray.config import FaceConfig, at_least
from dfdm_ray.errors import UserError
from dfdm_ray.labels import Generator

EARLIER: Mapping[str, Any] = {"geometry": 1.0, "widths": (), "even_inputs": False}
"""Settings of :class:`SwapTrainConfig` that earlier versions did not store, with the values they had."""


@dataclass(frozen=True, kw_only=True)
class SwapTrainConfig:
    """Training of each generator on each pair; one setting for all five, so that only the networks differ.

    Only ``widths`` lets them differ in more.
    """

    iterations: int = 100_000
    """Optimiser steps; each takes one batch of each identity."""
    width: float = 1.0
    """Factor on every number of channels. 1: published networks; 0.25: a sixteenth of their weights."""
    widths: tuple[str, ...] = ()
    """Other widths of single generators, such as dfl-h128=0.0625, whose step costs several times as much as
    that of the small ones. For short runs on a CPU."""
    batch_size: int = 16
    """Faces of each identity in a step."""
    learning_rate: float = 5e-5
    """Learning rate of Adam. faceswap has 5e-5; short runs need more."""
    schedule: Literal["constant", "cosine"] = "constant"
    """constant: as in faceswap; cosine: warmed up, then lowered to 0, for short runs."""
    clip_norm: float = 0.0
    """Largest norm of the gradient; prevents divergence at high learning rates. 0: none, as in faceswap."""
    augment_colour: bool = True
    """Change contrast and colours at random. Short runs get further without (a switch of faceswap too)."""
    flip: bool = True
    """Mirror half of the faces. Short runs get further without (a switch of faceswap too)."""
    geometry: float = 1.0
    """Strength of the random rotation, zoom and shift; 1: as in faceswap. Short runs get further with 0.3."""
    even_inputs: bool = False
    """Show the networks faces of even colours on grey, in training and conversion. Both people look alike to
    the encoder then, which a short run does not reach by itself; faceswap does not do this."""
    loss: Literal["ssim", "mae"] = "ssim"
    """ssim: DSSIM and squared error, weighted on eyes and mouth, as in faceswap since August 2020; mae: the
    older mean absolute error."""
    coverage: float = 0.875
    """Share of the stored face that is used: 0.875 as in faceswap, or 0.6875 as before August 2021."""
    faithful_crop: bool = True
    """Convert with the narrower crop of faceswap until April 2026; no: with the crop of training."""
    face_px: int = 256
    """Side of the stored faces, pixels."""

    def __post_init__(self) -> None:
        at_least(1, **{"train.iterations": self.iterations, "train.batch_size": self.batch_size})
        at_least(64, **{"train.face_px": self.face_px})
        at_least(0, **{"train.clip_norm": self.clip_norm, "train.geometry": self.geometry})
        if not (0 < self.width < math.inf and 0 < self.learning_rate < math.inf):
            raise UserError(
                "--train.width and --train.learning-rate must be finite and above 0, "
                f"got {self.width:g} and {self.learning_rate:g}"
            )
        if self.coverage not in (0.6875, 0.875):
            raise UserError(f"--train.coverage must be 0.6875 or 0.875, got {self.coverage:g}")
        for generator in Generator:
            self.width_of(generator)

    def width_of(self, generator: Generator) -> float:
        """Return the factor on the channels of ``generator``."""
        found = self.width
        for text in self.widths:
            name, _, value = text.partition("=")
            try:
                width = float(value)
            except ValueError:
                width = math.nan
            if name not in [*Generator] or not 0 < width < math.inf:
                raise UserError(f"--train.widths must be such as dfl-h128=0.0625, got {text}")
            found = width if name == generator else found
        return found


@dataclass(frozen=True, kw_only=True)
class GenerateConfig:
    """Make a DFDM-shaped dataset from videos you own: five face-swap autoencoders, three qualities.

    For forensics research on material of people who agreed to it.
    """

    identities: str
    """A folder with a folder of videos for each identity, or a CSV with the columns identity and video."""
    out: str
    """Folder of the dataset, local or shared. The same command again makes what is missing."""
    networks: str | None = None
    """The --out of an earlier run on the same identities; its trained networks are used."""
    pairs: tuple[str, ...] = ()
    """Pairs such as anna:bob; each is swapped in both directions. Default: all pairs."""
    sample_pairs: int | None = None
    """Number of pairs to draw at random. Default: all."""
    generators: tuple[Generator, ...] = tuple(Generator)
    """Generators to use."""
    scene_frames: int = 100
    """Frames of a scene; all contain the face."""
    scenes_per_identity: int = 10
    """Largest number of scenes of each identity; each is used in all pairs of the identity."""
    max_frames: int = 3000
    """Number of frames to use of each source video, from its start."""
    smoothing: float = 1.0
    """Smoothing of landmarks over time: standard deviation in frames; 0: none, as in faceswap."""
    save_minutes: float = 5.0
    """Minutes between two saves of a training (state, preview, plot of losses): the most that a killed one
    loses. The state of a network at full size is 1 to 1.4 GB. 0: save after every step."""
    trainings_per_gpu: int | None = None
    """Trainings that share a GPU. Default: as many as fit its memory, up to 4."""
    detector: FaceConfig = field(default_factory=FaceConfig)
    train: SwapTrainConfig = field(default_factory=SwapTrainConfig)
    seed: int = 0
    """Seed of the sample of pairs and of all trainings."""
    ray_address: str | None = None
    """Ray cluster to join. Default: RAY_ADDRESS, else a Ray started for this run."""

    def __post_init__(self) -> None:
        at_least(2, scene_frames=self.scene_frames)
        at_least(0, smoothing=self.smoothing, save_minutes=self.save_minutes)
        at_least(1, scenes_per_identity=self.scenes_per_identity, sample_pairs=self.sample_pairs)
        at_least(1, trainings_per_gpu=self.trainings_per_gpu)
