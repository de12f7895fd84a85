"""Configuration of `dfdm-ray score`."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from dfdm_ray.config import ArchiveConfig, FacesConfig, PlanConfig, ResourceConfig
from dfdm_ray.errors import UserError


@dataclass(frozen=True, kw_only=True)
class ScoreConfig(ArchiveConfig):
    """Attribute every video of an archive: Parquet predictions, one row per video."""

    INPUTS: ClassVar[tuple[str, ...]] = ("videos", "manifest", "crops")

    crops: str | None = None
    """A crops dataset from `dfdm-ray preprocess`, instead of --videos: nothing is decoded again."""
    split: str | None = None
    """Only videos of this split of --manifest or --crops, such as test. Default: all."""
    checkpoint: str
    """DMA-STA checkpoint from `dfdm-ray train`, or a state dict of the authors' code; a path or any
    pyarrow.fs URI."""
    out: str
    """Output folder: predictions/*.parquet, manifest.parquet, run.json. The same command continues it."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of the model; bf16 is faster on GPUs and changes the third digit of the logits."""
    features: bool = False
    """Store the penultimate features of each video, which `dfdm-ray calibrate` needs."""
    compile: bool = False
    """Use torch.compile: a slow start, then faster batches."""
    plan: PlanConfig = field(default_factory=PlanConfig)
    faces: FacesConfig = field(default_factory=FacesConfig)
    resources: ResourceConfig = field(default_factory=ResourceConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.crops is not None and (self.plan, self.faces) != (PlanConfig(), FacesConfig()):
            raise UserError("--plan and --faces apply to videos; --crops are cropped already")
        if self.videos is not None and self.split is not None:
            raise UserError("--split needs --manifest or --crops, as --videos have no splits")
