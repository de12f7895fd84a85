"""Configuration of `dfdm-ray calibrate`."""

from dataclasses import dataclass

from dfdm_ray.models.reference import DEFAULT_KIND
from dfdm_ray.models.unknown import Kind


@dataclass(frozen=True, kw_only=True)
class CalibrateConfig:
    """Fit verdicts on your own labelled videos, without training: a checkpoint with another reference set."""

    checkpoint: str
    """Checkpoint of `dfdm-ray train`."""
    predictions: str
    """Output folder of `dfdm-ray score --features` with this checkpoint. The videos should show people and
    networks that training did not see, and real ones: 19 of a class or more."""
    out: str
    """Checkpoint to write."""
    manifest: str | None = None
    """Manifest (Parquet or CSV) with the generator of each video, where the predictions lack it."""
    split: str | None = None
    """Use only videos of this split. Default: all with a known generator."""
    name: str | None = None
    """Name of the reference set, which every verdict states. Default: the path of --predictions."""
    unknown: Kind = DEFAULT_KIND
    """Score that tells unknown inputs from known ones; `train` takes the one that finds most outliers."""
    overwrite: bool = False
    """Replace --out if it exists."""
