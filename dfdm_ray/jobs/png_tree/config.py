"""Configuration of `dfdm-ray png-tree`; imports nothing heavy, so that --help is quick."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from dfdm_ray.config import DecodeConfig, RunConfig, at_least


@dataclass(frozen=True, kw_only=True)
class PngTreeExport:
    """Write a crops dataset as TREE/<split>/DF_class*/Video*/Frame*.png."""

    crops: str
    """Crops dataset made by `dfdm-ray preprocess`."""
    tree: str
    """New folder for the tree; its videos.csv says which video each folder is."""
    crf: tuple[int, ...] = ()
    """Qualities to take. A tree does not tell them apart, so they are needed where there are several."""
    class_folder: Literal["DF_class", "df"] = "DF_class"
    """How class folders begin: DF_class as the authors describe, df as their loader wants."""


@dataclass(frozen=True, kw_only=True)
class PngTreeImport(RunConfig):
    """Read TREE/.../<DF_class* or df*>/<video>/*.png into a crops dataset, one clip for each folder."""

    tree: str
    """The tree; folders above the class may tell the split (train, Frame_10_cfr10_test) and the quality."""
    out: str
    """Crops dataset to make, as of `dfdm-ray preprocess`. Running again continues it."""
    frames: int = 10
    """Frames that each folder must have (T)."""
    size: int | None = None
    """Side of every frame (S), pixels. Default: that of the tree's first frame."""
    margin: float = 0.3
    """How the tree's faces were cropped, for models trained on it: see `dfdm-ray preprocess --help`."""
    crf: int | None = None
    """Quality of all videos. Default: what folders tell, else unknown."""
    resources: DecodeConfig = field(default_factory=DecodeConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, frames=self.frames)
        at_least(32, size=self.size)
        at_least(0, margin=self.margin, crf=self.crf)


@dataclass(frozen=True, kw_only=True)
class PngTreeConfig:
    """Exchange crops with the authors' code as a tree of PNG frames."""

    job: tyro.conf.OmitArgPrefixes[
        Annotated[PngTreeExport, tyro.conf.subcommand("export", prefix_name=False)]
        | Annotated[PngTreeImport, tyro.conf.subcommand("import", prefix_name=False)]
    ]
