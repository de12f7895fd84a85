"""Configuration of `dfdm-ray crops`."""

from dataclasses import dataclass, field

from dfdm_ray.config import CropConfig, FacesConfig, LimitsConfig, PlanConfig, at_least


@dataclass(frozen=True, kw_only=True)
class CropsConfig:
    """Draw the face crops that `score` would give to the model."""

    videos: str
    """A folder, a glob, one video or a list file (.txt)."""
    contact_sheet: str = "crops.png"
    """PNG to write: one line per attributed face with its T crops in order of time."""
    limit: int = 24
    """Maximum number of videos."""
    plan: PlanConfig = field(default_factory=PlanConfig)
    faces: FacesConfig = field(default_factory=FacesConfig)
    crop: CropConfig = field(default_factory=CropConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)

    def __post_init__(self) -> None:
        at_least(1, limit=self.limit)
