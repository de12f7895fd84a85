"""Frozen configuration that several jobs share; defaults, ``--help`` and checks in one place."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from tyro.conf import Positional

from dfdm_ray.errors import RejectCode, UserError

Strategy = Literal["keyframe_runs", "head", "uniform"]
"""Choice of the frames of a clip."""

Align = Literal["box", "generator"]
"""Position of a face in its crop."""


def at_least(minimum: float, **values: float | None) -> None:
    """Raise a :class:`UserError` that names the flag for each of ``values`` below ``minimum``."""
    for name, value in values.items():
        if value is not None and not value >= minimum:  # true for nan as well
            raise UserError(f"--{name.replace('_', '-')} must be at least {minimum:g}, got {value:g}")


@dataclass(frozen=True, kw_only=True)
class RunsConfig:
    """Frames of a video that are used."""

    strategy: Strategy = "keyframe_runs"
    """keyframe_runs: runs of consecutive frames that start at key frames spread over the video, the
    cheapest to decode; head: the first frames; uniform: evenly spaced, which decodes nearly all frames."""
    runs: int = 2
    """Runs of consecutive frames in each clip, for keyframe_runs."""
    search_frames: int = 300
    """Further frames that may be decoded to find a face if the planned frames have none."""

    def __post_init__(self) -> None:
        at_least(1, **{"plan.runs": self.runs})
        at_least(0, **{"plan.search_frames": self.search_frames})


@dataclass(frozen=True, kw_only=True)
class PlanConfig:
    """Frames of a video that are used, and how many make a clip. Default: those of the checkpoint, if any."""

    strategy: Strategy | None = None
    """keyframe_runs: runs of consecutive frames that start at key frames spread over the video, the
    cheapest to decode; head: the first frames; uniform: evenly spaced, which decodes nearly all frames."""
    frames: int | None = None
    """Frames in a clip (T)."""
    clips: int | None = None
    """Clips per video (C); their logits are averaged."""
    runs: int | None = None
    """Runs of consecutive frames in each clip, for keyframe_runs."""
    search_frames: int = 300
    """Further frames that may be decoded to find a face if the planned frames have none."""

    def __post_init__(self) -> None:
        at_least(1, **{"plan.frames": self.frames, "plan.clips": self.clips, "plan.runs": self.runs})
        at_least(0, **{"plan.search_frames": self.search_frames})


@dataclass(frozen=True, kw_only=True)
class FaceConfig:
    """Detection of faces and choice of the subject."""

    detector: Literal["mobilenet0.25", "resnet50"] = "mobilenet0.25"
    """RetinaFace with this trunk. mobilenet0.25 runs on the CPU with onnxruntime."""
    weights: str | None = None
    """Weights file of the detector. Default: the one in `dfdm-ray assets list`, downloaded once."""
    detect_every: int = 5
    """Look for faces in every n-th frame of a run and in its last; boxes between are interpolated."""
    max_side: int = 480
    """For detection only, frames are shrunk to this longest side, in pixels; if no face is found, to twice
    that."""
    score_threshold: float = 0.8
    """Detections with a lower score, 0..1, are dropped."""
    min_face_px: int = 24
    """Minimum of the longer side of the subject's box, pixels."""

    def __post_init__(self) -> None:
        at_least(1, **{"faces.detect_every": self.detect_every, "faces.min_face_px": self.min_face_px})
        at_least(64, **{"faces.max_side": self.max_side})
        if not 0 < self.score_threshold < 1:
            raise UserError(f"--faces.score-threshold must be between 0 and 1, got {self.score_threshold:g}")


@dataclass(frozen=True, kw_only=True)
class FacesConfig(FaceConfig):
    """Detection of faces and choice of those that the model gets."""

    most: int = 4
    """Maximum of attributed faces of a video, the most prominent first; 1: the subject alone. Faces in fewer
    frames than a clip has, or below --faces.min-face-px, are only counted."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, **{"faces.most": self.most})


@dataclass(frozen=True, kw_only=True)
class CropConfig:
    """Crop of a face."""

    size: int = 224
    """Side of the square crop (S), pixels."""
    margin: float = 0.3
    """For --crop.align box: the crop's side is (1 + margin) times the longer side of the face box."""
    align: Align = "box"
    """box: the square around the face box; generator: the grid on which generators draw faces, turned and
    scaled by the landmarks to 4 pixels for each that a generator of 64 pixels draws. The middle S pixels of
    256 are kept; 176 leave out hair, neck and background."""

    def __post_init__(self) -> None:
        at_least(32, **{"crop.size": self.size})
        at_least(0, **{"crop.margin": self.margin})


@dataclass(frozen=True, kw_only=True)
class DecodeConfig:
    """Use of the cluster. Default: all of its CPUs."""

    decode_workers: int | None = None
    """CPU workers that decode, detect and crop. Default: by the CPUs; more as nodes join."""
    max_decode_workers: int | None = None
    """Largest number of these workers if --resources.decode-workers is not given. Default: no limit."""

    def __post_init__(self) -> None:
        at_least(
            1,
            **{
                "resources.decode_workers": self.decode_workers,
                "resources.max_decode_workers": self.max_decode_workers,
            },
        )


@dataclass(frozen=True, kw_only=True)
class ResourceConfig(DecodeConfig):
    """Use of the cluster. Default: derived from its CPUs and GPUs."""

    model_workers: int | None = None
    """Workers that hold the model. Default: one per GPU, without GPUs one per CPU; more as nodes join."""
    max_model_workers: int | None = None
    """Largest number of these workers if --resources.model-workers is not given. Default: no limit."""
    batch_size: int | None = None
    """Videos in one forward pass. Default: 32 on a GPU, 4 on a CPU."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of the model; auto: GPUs if the cluster has any or can start nodes with any."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(
            1,
            **{
                "resources.model_workers": self.model_workers,
                "resources.max_model_workers": self.max_model_workers,
                "resources.batch_size": self.batch_size,
            },
        )


@dataclass(frozen=True, kw_only=True)
class LimitsConfig:
    """Limits for one video, which is decoded in a process of its own."""

    seconds: float = 300.0
    """Wall seconds; a video that takes longer is rejected as timed_out."""
    memory_gib: float | None = None
    """Memory of a decoding process; a video that needs more is rejected as out_of_memory. Default: 4, or a
    worker's share of its node."""
    attempts: int = 2
    """Attempts for a video that kills its decoding process, before it is rejected as crashed."""
    sandbox: Literal["on", "off"] = "on"
    """on: a decoding process can open no file, no connection and no program, as far as its system allows
    (SECURITY.md); off: to find out whether that is the reason for a fault."""
    max_pixels: int = 2**26
    """Pixels of a frame, rows padded to multiples of 64, before and after pixels become square; a video with
    more is rejected as too_large. Default: 8192 x 8192."""

    def __post_init__(self) -> None:
        at_least(0.1, **{"limits.seconds": self.seconds, "limits.memory_gib": self.memory_gib})
        at_least(1, **{"limits.attempts": self.attempts, "limits.max_pixels": self.max_pixels})


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Options of every job that makes one row per video."""

    overwrite: bool = False
    """Delete the results of an earlier run in --out and start anew."""
    retry: tuple[str, ...] = ()
    """Reject codes whose videos are processed again, such as storage_error; changed: replaced files."""
    max_reject_fraction: float = 1.0
    """Stop the run when more than this fraction of at least 50 videos is rejected."""
    ray_address: str | None = None
    """Address of the Ray cluster. Default: RAY_ADDRESS; without it, Ray is started for this run."""
    limits: LimitsConfig = field(default_factory=LimitsConfig)

    def __post_init__(self) -> None:
        known = [*RejectCode, "changed"]
        if wrong := [code for code in self.retry if code not in known]:
            raise UserError(f"--retry {wrong[0]} is not one of {', '.join(known)}")
        if not 0 <= self.max_reject_fraction <= 1:
            raise UserError(
                f"--max-reject-fraction must be between 0 and 1, got {self.max_reject_fraction:g}"
            )


@dataclass(frozen=True, kw_only=True)
class ArchiveConfig(RunConfig):
    """A run over videos."""

    INPUTS: ClassVar[tuple[str, ...]] = ("videos", "manifest")
    """Fields of which exactly one must be given."""

    videos: str | None = None
    """A folder, a glob, one video, a list file (.txt) or an s3:// or gs:// prefix."""
    manifest: str | None = None
    """A manifest from `dfdm-ray manifest`, instead of --videos."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if sum(getattr(self, name) is not None for name in self.INPUTS) != 1:
            raise UserError(f"give one of {', '.join(f'--{name}' for name in self.INPUTS)}")


@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """Check that an output folder of score, preprocess or png-tree import has one whole row per video."""

    out: Positional[str]
    """Output folder; a path or any pyarrow.fs URI."""
    deep: bool = False
    """Also read every crops file and the ends of every video, in object stores too."""


@dataclass(frozen=True, kw_only=True)
class AssetsConfig:
    """List or download the weights and demo media that this project uses and does not ship."""

    action: Positional[Literal["list", "get"]]
    """list: names, sources, licences and cached files; get: download into the cache."""
    names: Positional[tuple[str, ...]] = ()
    """Assets to get. Default: all that are in public packages."""
