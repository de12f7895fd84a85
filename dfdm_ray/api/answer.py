"""The answer for one video."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dfdm_ray.io.rows import nested
from dfdm_ray.schemas import REJECTED

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Answer:
    """The answer for one video, scored or rejected. In a notebook it shows its figure."""

    table: pa.Table
    """The row that `dfdm-ray score` would store, see :data:`dfdm_ray.schemas.PREDICTIONS`."""
    classes: Sequence[str]
    """Classes of the model, in the order of the lists in the row."""
    crops: npt.NDArray[np.uint8]
    """Crops of the face that decides, as the model got them, RGB ``(N, S, S, 3)`` in order of time; empty if
    rejected."""

    @cached_property
    def row(self) -> Mapping[str, Any]:
        """The row as plain Python values."""
        (row,) = self.table.to_pylist()
        return cast(Mapping[str, Any], row)

    @property
    def status(self) -> str:
        """``scored`` or ``rejected``."""
        return str(self.row["status"])

    @property
    def reject_code(self) -> str | None:
        """Why there is no answer, one of :class:`dfdm_ray.errors.RejectCode`; ``None`` if scored."""
        return cast(str | None, self.row["reject_code"])

    @property
    def reject_detail(self) -> str | None:
        """Details of the fault; ``None`` if scored."""
        return cast(str | None, self.row["reject_detail"])

    @property
    def verdict(self) -> str | None:
        """What a person may act on, see docs/verdicts.md; ``None`` if rejected."""
        return cast(str | None, self.row["verdict"])

    @property
    def generator(self) -> str | None:
        """Attribution: the class with the highest probability; ``None`` if rejected."""
        return cast(str | None, self.row["generator"])

    @property
    def probability(self) -> float | None:
        """Probability of that class, 0..1; ``None`` if rejected."""
        return cast(float | None, self.row["probability"])

    @property
    def probabilities(self) -> dict[str, float]:
        """Probability of each class, in class order; empty if rejected."""
        values = self.row["probabilities"]
        return dict(zip(self.classes, values, strict=True)) if values else {}

    def to_dict(self) -> dict[str, Any]:
        """Return the row as JSON has it, equal to a line of `dfdm-ray export --format jsonl`."""
        return nested(self.row, self.table.schema, self.classes)

    def to_pandas(self) -> "pd.DataFrame":
        """Return the row as a frame of one row, with the columns of the predictions."""
        frame: pd.DataFrame = self.table.to_pandas()
        return frame

    def figure(self) -> "Figure":
        """Draw the crops with their times, and the probabilities."""
        from dfdm_ray.api.figure import draw  # matplotlib is slow to import

        return draw(self)

    def _repr_png_(self) -> bytes:
        out = io.BytesIO()
        self.figure().savefig(out, format="png")
        return out.getvalue()

    def __str__(self) -> str:
        row = self.row
        if row["status"] == REJECTED:
            return f"rejected: {row['reject_code']}: {row['reject_detail']}"
        return f"{row['verdict']}; {row['generator']} {row['probability']:.3f}"

    def __repr__(self) -> str:
        return f"<Answer for {self.row['video_id']!r}: {self}>"
