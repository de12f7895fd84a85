"""Configuration of `dfdm-ray manifest`."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class ManifestConfig:
    """List videos with the facts in their names, and split them into train, val and test."""

    videos: str
    """A folder (a DFDM tree or any other), a pattern, one video, a list file (.txt), or an s3:// prefix."""
    out: str = "manifest.parquet"
    """Manifest to write (Parquet)."""
    split: Literal["identity", "scene", "video", "none"] = "identity"
    """identity: no target identity is in two splits. scene: no scene is in two splits; the scenes of a
    target go to train, val and test in their order, so that scenes of test do not adjoin scenes of train,
    but people are in all splits. video: the paper's 70/30 by file with val taken from the 70; LEAKS
    content from train to test. none: no split."""
    seed: int = 0
    """Seed of the split."""
    overwrite: bool = False
    """Replace --out if it exists."""
