"""Configuration of `dfdm-ray doctor`."""

from dataclasses import dataclass
from typing import Literal

from dfdm_ray.errors import UserError


@dataclass(frozen=True, kw_only=True)
class DoctorConfig:
    """Check a cluster, or this machine, before a job runs: packages, GPUs, memory, disks, storage, token.

    Exits with 1 if a check fails.
    """

    reads: tuple[str, ...] = ()
    """Files, folders or prefixes that jobs read. The driver and each node with CPUs or GPUs read a little of
    each."""
    writes: tuple[str, ...] = ()
    """Folders or prefixes that workers write to: the output of preprocess, train, ablate and generate.
    Trial files are removed; in an object store an empty folder may remain."""
    driver_writes: tuple[str, ...] = ()
    """Folders or prefixes that only the driver writes to: the output of score."""
    checkpoint: str | None = None
    """DMA-STA checkpoint that jobs use."""
    detector: Literal["mobilenet0.25", "resnet50"] = "mobilenet0.25"
    """Face detector that jobs use."""
    weights: str | None = None
    """Weights file of the face detector. Default: the file in the cache."""
    ray_address: str | None = None
    """Address of the Ray cluster to check. Default: RAY_ADDRESS, else a Ray that runs in this process."""
    timeout_s: float = 120.0
    """Time limit for the answer of a node; a node that exceeds it fails."""
    json: bool = False
    """Print the findings as JSON and nothing else."""

    def __post_init__(self) -> None:
        if self.timeout_s <= 0:
            raise UserError(f"--timeout-s must be above 0, got {self.timeout_s:g}")
