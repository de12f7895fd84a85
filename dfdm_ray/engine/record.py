"""What ``run.json`` says of a run besides its settings."""

import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dfdm_ray.schemas import REJECTED

_PACKAGES = (
    "dfdm-ray",
    "ray",
    "torch",
    "torchvision",
    "av",
    "onnxruntime",
    "opencv-python-headless",
    "pyarrow",
    "numpy",
)


def num_rejected(rows: pa.Table) -> int:
    """Return how many rows are rejected."""
    return int(pc.sum(pc.equal(rows["status"], REJECTED)).as_py() or 0)


def totals(rows: pa.Table, *, planned: int, verb: str) -> dict[str, Any]:
    """Return the counts of a run; ``planned`` is what is ``verb`` (scored) + rejected once it is complete.

    ``frames_decoded_per_used`` is over videos that are not rejected: what the frame plan cost.
    """
    decoded = int(pc.sum(rows["num_frames_decoded"]).as_py() or 0)
    used = int(pc.sum(rows["num_frames_scored"]).as_py() or 0)
    scored = rows.filter(pc.not_equal(rows["status"], REJECTED))
    decoded_scored = int(pc.sum(scored["num_frames_decoded"]).as_py() or 0)
    codes = pc.value_counts(rows["reject_code"].drop_null()).to_pylist()
    rejected = num_rejected(rows)
    return {
        "planned": planned,
        verb: rows.num_rows - rejected,
        "rejected": rejected,
        "rejects_by_code": {entry["values"]: entry["counts"] for entry in codes},
        "frames_decoded": decoded,
        "frames_used": used,
        "frames_decoded_per_used": round(decoded_scored / used, 4) if used else None,
    }


def versions() -> dict[str, str]:
    """Return the versions of what the results depend on."""
    found = {"python": sys.version.split()[0]}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed as a package"
    return found


def now() -> str:
    """Return the time in UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
