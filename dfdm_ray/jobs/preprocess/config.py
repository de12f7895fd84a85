"""Configuration of `dfdm-ray preprocess`."""

from dataclasses import dataclass, field

from dfdm_ray.config import ArchiveConfig, CropConfig, DecodeConfig, FaceConfig, RunsConfig, at_least


@dataclass(frozen=True, kw_only=True)
class PreprocessConfig(ArchiveConfig):
    """Crop the faces of every video once, into the crops dataset that training reads."""

    out: str
    """Output folder: crops/, videos/*.parquet, manifest.parquet, run.json, contact_sheet.png. Workers write
    there too: on a cluster, give a shared folder or s3://. The same command continues it."""
    frames: int = 10
    """Frames in a clip (T); the published DMA-STA takes 10."""
    clips: int = 2
    """Clips per video (C), from different times of it, for variety in training."""
    plan: RunsConfig = field(default_factory=RunsConfig)
    faces: FaceConfig = field(default_factory=FaceConfig)
    crop: CropConfig = field(default_factory=CropConfig)
    resources: DecodeConfig = field(default_factory=DecodeConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, frames=self.frames, clips=self.clips)
