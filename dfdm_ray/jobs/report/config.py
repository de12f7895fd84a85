"""Configuration of `dfdm-ray report`."""

from dataclasses import dataclass, field
from typing import Literal

from tyro.conf import Positional

from dfdm_ray.config import LimitsConfig, ResourceConfig, at_least

Wanted = Literal["attributed", "one_of", "unknown", "inconclusive", "real", "rejected"]


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Make a page for each chosen video of a score run, and an index of all videos that opens from disk."""

    out: Positional[str]
    """Output folder of `dfdm-ray score`; a path or any pyarrow.fs URI."""
    videos: tuple[str, ...] = ()
    """Only pages of these video_id, without the index."""
    verdict: tuple[Wanted, ...] = ("attributed", "one_of", "unknown", "inconclusive", "rejected")
    """Pages of videos with these verdicts. Default: all but real."""
    top: int = 200
    """At most this many pages, strongest evidence first; 0: only the index."""
    to: str | None = None
    """Folder to write to. Default: OUT/report."""
    checkpoint: str | None = None
    """Checkpoint of the run, if it is at another place now. Default: the path in OUT/run.json."""
    check: bool = False
    """Make no pages: score the chosen videos again, compare, and exit with 1 if one differs."""
    tolerance: float | None = None
    """For --check: largest difference of a logit. Default: 0.001, for bf16 0.1."""
    occlusion: int = 7
    """Cells on a side of the face that are covered one after the other, to see what each changes; 0: none."""
    ray_address: str | None = None
    """Address of the Ray cluster. Default: RAY_ADDRESS; without it, up to 200 local videos need no Ray."""
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    resources: ResourceConfig = field(default_factory=ResourceConfig)

    def __post_init__(self) -> None:
        at_least(0, top=self.top, occlusion=self.occlusion, tolerance=self.tolerance)
