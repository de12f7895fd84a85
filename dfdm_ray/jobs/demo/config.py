"""Configuration of `dfdm-ray demo`."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Run the main job on real face videos, from fetching them to the table of predictions."""

    out: str = "build/demo"
    """Folder for all that the demo makes."""
