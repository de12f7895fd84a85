"""Configuration of `dfdm-ray png-tree`; no heavy imports, so that --help is quick."""

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
    """New folder for the tree; its videos.csv lists the video of each folder."""
    crf: tuple[int, ...] = ()
    """Qualities to export; required if the dataset has several, which a tree cannot distinguish."""
    class_folder: Literal["DF_class", "df"] = "DF_class"
    """Start of the class folders' names: DF_class as in the authors' README, df as in their loader."""


@dataclass(frozen=True, kw_only=True)
class PngTreeImport(RunConfig):
    """Read TREE/.../<DF_class* or df*>/<video>/*.png into a crops dataset, one clip for each folder."""

    tree: str
    """The tree; folders above the class may name split (train, Frame_10_cfr10_test) and quality."""
    out: str
    """Crops dataset to make, as by `dfdm-ray preprocess`. The same command continues it."""
    frames: int = 10
    """Required number of frames in each folder (T)."""
    size: int | None = None
    """Side of every frame (S), pixels. Default: that of the tree's first frame."""
    margin: float = 0.3
    """Margin of the tree's crops, for models trained on it: see `dfdm-ray preprocess --help`."""
    crf: int | None = None
    """Quality of all videos. Default: from folder names, else unknown."""
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
