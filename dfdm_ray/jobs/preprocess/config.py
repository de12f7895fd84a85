"""Configuration of `dfdm-ray preprocess`."""

from dataclasses import dataclass, field

from dfdm_ray.config import ArchiveConfig, CropConfig, DecodeConfig, FaceConfig, RunsConfig, at_least


@dataclass(frozen=True, kw_only=True)
class PreprocessConfig(ArchiveConfig):
    """Crop the faces of every video of an archive once: the crops dataset that training reads."""

    out: str
    """Output folder: crops/, videos/*.parquet, manifest.parquet, run.json, contact_sheet.png. Workers
    write there too: on a cluster a shared folder or s3://. Running again continues it."""
    frames: int = 10
    """Frames in a clip (T); DMA-STA as published takes 10."""
    clips: int = 2
    """Clips of each video (C), at other times of it, for variety in training."""
    plan: RunsConfig = field(default_factory=RunsConfig)
    faces: FaceConfig = field(default_factory=FaceConfig)
    crop: CropConfig = field(default_factory=CropConfig)
    resources: DecodeConfig = field(default_factory=DecodeConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, frames=self.frames, clips=self.clips)
