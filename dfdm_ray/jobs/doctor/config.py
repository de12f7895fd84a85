"""Configuration of `dfdm-ray doctor`."""

from dataclasses import dataclass
from typing import Literal

from dfdm_ray.errors import UserError


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
