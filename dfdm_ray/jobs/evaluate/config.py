"""Configuration of evaluations; see :mod:`dfdm_ray.config`."""

from dataclasses import dataclass

from dfdm_ray.config import at_least
from dfdm_ray.errors import UserError
from dfdm_ray.labels import merged_classes


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Compare predictions with the truth: accuracy with intervals, by generator and quality, calibration."""

    predictions: tuple[str, ...]
    """Output folders of `dfdm-ray score`, or .parquet files with its columns; local or any pyarrow.fs URI."""
    out: str
    """Folder for metrics.json, report.md and report.html."""
    names: tuple[str, ...] = ()
    """Names of --predictions in the report, in order. Default: the last part of each path."""
    split: str | None = None
    """Evaluate only videos of this split, such as test. Default: all videos with a known generator."""
    crf: tuple[int, ...] = ()
    """Evaluate only videos of these qualities. Default: all."""
    manifest: str | None = None
    """Manifest that supplies generator, split, quality, identities and scene where predictions lack them."""
    merge: tuple[str, ...] = ()
    """True generators to treat as one class, as in `train --merge`: 64px=faceswap,lightweight,iae."""
    bootstrap: int = 2000
    """Number of resamples for each 95% interval."""
    seed: int = 0
    """Seed of the resampling."""
    mistakes: int = 20
    """Number of the most confident mistakes to list."""
    overwrite: bool = False
    """Replace an earlier report in --out."""

    def __post_init__(self) -> None:
        at_least(100, bootstrap=self.bootstrap)
        merged_classes(self.merge)
        at_least(0, seed=self.seed, mistakes=self.mistakes)
        if not self.predictions:
            raise UserError("--predictions needs at least one run folder or .parquet file")
        if self.names and len(self.names) != len(self.predictions):
            raise UserError(
                f"--names has {len(self.names)} for {len(self.predictions)} --predictions; give one for each"
            )
        if len(set(self.names)) != len(self.names):
            raise UserError("--names must differ from each other")
