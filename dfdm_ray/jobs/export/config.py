"""Configuration of `dfdm-ray export`."""

from dataclasses import dataclass
from typing import Literal

from tyro.conf import Positional


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Write the predictions of a run as CSV for spreadsheets, or as JSON lines for programs."""

    out: Positional[str]
    """Output folder of `dfdm-ray score`; a path or any pyarrow.fs URI."""
    format: Literal["csv", "jsonl"] = "csv"
    """csv: one line per video, flat columns; jsonl: one object per video, with its faces and frames."""
    to: str | None = None
    """File to write. Default: predictions.csv or predictions.jsonl in the output folder."""
    overwrite: bool = False
    """Replace the file if it exists."""
