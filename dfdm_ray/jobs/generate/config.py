"""Frozen configuration of making data; see :mod:`dfdm_ray.config`."""

from dataclasses import dataclass, field
from typing import Literal

from dfdm_ray.config import FaceConfig, at_least
from dfdm_ray.errors import UserError
from dfdm_ray.labels import Generator


@dataclass(frozen=True, kw_only=True)
class SwapTrainConfig:
    """How each generator is trained on each pair; the same for all five, so that only the network differs."""

    iterations: int = 100_000
    """Optimiser steps; each takes a batch of either identity."""
    width: float = 1.0
    """Multiplies every number of channels; 1 is the published networks, 0.25 a sixteenth of their weights."""
    batch_size: int = 16
    """Faces of each identity in a step."""
    learning_rate: float = 5e-5
    """Of Adam; faceswap's is 5e-5. Short runs want more."""
    schedule: Literal["constant", "cosine"] = "constant"
    """constant: as in faceswap; cosine: warmed up and then lowered to nothing, for short runs."""
    clip_norm: float = 0.0
    """Longest gradient; keeps short runs at high learning rates from diverging. 0: no limit, as faceswap."""
    augment_colour: bool = True
    """Change contrast and colours at random. Short runs get further without (faceswap has such a switch)."""
    flip: bool = True
    """Mirror half of the faces. Short runs get further without (faceswap has such a switch)."""
    loss: Literal["ssim", "mae"] = "ssim"
    """ssim: DSSIM and squared error, eyes and mouth weighted, faceswap's since August 2020; mae: before."""
    coverage: float = 0.875
    """Part of the stored face that is used: 0.875, or 0.6875 as before August 2021."""
    faithful_crop: bool = True
    """Convert with the narrower crop that faceswap had until 2026; no: the crop of training."""
    face_px: int = 256
    """Side of the stored faces, pixels."""

    def __post_init__(self) -> None:
        at_least(1, **{"train.iterations": self.iterations, "train.batch_size": self.batch_size})
        at_least(64, **{"train.face_px": self.face_px})
        at_least(0, **{"train.clip_norm": self.clip_norm})
        if self.width <= 0 or self.learning_rate <= 0:
            raise UserError("--train.width and --train.learning-rate must be above 0")
        if self.coverage not in (0.6875, 0.875):
            raise UserError(f"--train.coverage must be 0.6875 or 0.875, got {self.coverage:g}")


@dataclass(frozen=True, kw_only=True)
class GenerateConfig:
    """Make a DFDM-shaped dataset from videos you own: five face-swap autoencoders, three qualities.

    For forensics research on material of people who agreed to it.
    """

    identities: str
    """A folder with a folder of videos for each identity, or a CSV with the columns identity and video."""
    out: str
    """Where the dataset goes, a local or shared folder. Running again finishes what is missing."""
    networks: str | None = None
    """The --out of an earlier run on the same identities: its trained networks are used for these scenes."""
    pairs: tuple[str, ...] = ()
    """Pairs such as anna:bob; both directions are made. Default: all."""
    sample_pairs: int | None = None
    """Take so many of the pairs at random, by --seed."""
    generators: tuple[Generator, ...] = tuple(Generator)
    """Which of the five."""
    scene_frames: int = 100
    """Frames of a scene; each has the face in every frame."""
    scenes_per_identity: int = 10
    """Scenes of each identity, for each pair it is in."""
    max_frames: int = 3000
    """Frames of each source video that are used."""
    smoothing: float = 1.0
    """Of the face's landmarks over time: standard deviation in frames; 0 as faceswap has it."""
    detector: FaceConfig = field(default_factory=FaceConfig)
    train: SwapTrainConfig = field(default_factory=SwapTrainConfig)
    seed: int = 0
    ray_address: str | None = None
    """Ray cluster to join. Default: RAY_ADDRESS, else a Ray started here for this run."""

    def __post_init__(self) -> None:
        at_least(2, scene_frames=self.scene_frames)
        at_least(0, smoothing=self.smoothing)
        at_least(1, scenes_per_identity=self.scenes_per_identity, sample_pairs=self.sample_pairs)
