"""Configuration of `dfdm-ray manifest`."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class ManifestConfig:
    """List videos with what their names tell, and split them into train, val and test."""

    videos: str
    """A folder (a DFDM tree or any other), a glob, one video, a list file (.txt), or an s3:// prefix."""
    out: str = "manifest.parquet"
    """Where the manifest goes."""
    split: Literal["identity", "scene", "video", "none"] = "identity"
    """identity: no target identity stands in two splits; scene: no scene does, a target's scenes go to
    train, val and test in their order, so that test is not next to train, but people are in all;
    video: the paper's 70/30 by file, val taken from the 70, which LEAKS content from train to test; none:
    no split."""
    seed: int = 0
    """Of the split."""
    overwrite: bool = False
    """Replace --out if it is there."""
