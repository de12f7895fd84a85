"""Configuration of `dfdm-ray manifest`."""

from dataclasses import dataclass
from typing import Literal

from dfdm_ray.errors import UserError
from dfdm_ray.manifest.names import Original


@dataclass(frozen=True, kw_only=True)
class ManifestConfig:
    """List videos with the facts in their names, and split them into train, val and test."""

    videos: str
    """A folder (a DFDM tree or any other), a pattern, one video, a list file (.txt), a table of videos
    (.csv, see docs/data.md), or an s3:// prefix."""
    real: tuple[str, ...] = ()
    """More sources, of videos that nobody swapped: their generator is `real`. For DFDM, these are the
    originals of Celeb-DF; names such as id28_0008.mp4 contain target and scene."""
    out: str = "manifest.parquet"
    """Manifest to write (Parquet)."""
    split: Literal["auto", "strict", "network", "identity", "scene", "video", "lists", "none"] = "auto"
    """strict: no person is in two splits, as target or source, hence no face-swap network is; videos of two
    people in different splits are left out. network: no pair of people is in two splits, in either
    direction, hence no network is, but people are. auto: strict if it leaves out at most a third of the
    videos, else network, else scene. identity: no target is in two splits, but networks are. scene: no scene
    is in two splits; the scenes of a target go to train, val and test in their order, so that scenes of test
    do not adjoin scenes of train, but people and networks are in all splits. video: the paper's 70/30 by file
    with val taken from the 70; LEAKS content from train to test. lists: train and test are those of
    --train-list and --test-list. none: no split."""
    train_list: str | None = None
    """Text file with the names of the training videos, for --split lists: one a line, with or without folder
    and ending; # starts a comment line. Val is taken from them by pair of identities."""
    test_list: str | None = None
    """Text file with the names of the test videos, for --split lists."""
    original: Original = "faceswap"
    """Meaning of the tag 1original in a DFDM name: swaps by Faceswap, or real videos; see docs/dfdm.md."""
    seed: int = 0
    """Seed of the split."""
    overwrite: bool = False
    """Replace --out if it exists."""

    def __post_init__(self) -> None:
        lists = [one for one in (self.train_list, self.test_list) if one is not None]
        if self.split == "lists" and len(lists) < 2:
            raise UserError("--split lists needs --train-list and --test-list")
        if self.split != "lists" and lists:
            raise UserError("--train-list and --test-list need --split lists")
