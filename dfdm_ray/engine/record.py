"""Content of ``run.json`` besides the settings, and the lines about a run at its end."""

import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console

from dfdm_ray.errors import IncompleteError, UserError
from dfdm_ray.io import storage
from dfdm_ray.io.terminal import say
from dfdm_ray.schemas import REJECTED

_MOST_CHANGES = 8
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
    """Return the counts of a run; ``planned`` = ``verb`` (scored) + rejected once it is complete.

    ``frames_decoded_per_used`` is over videos that are not rejected: the cost of the frame plan.
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
    """Return the versions of Python and of the packages on which results depend."""
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


def time_of(nanoseconds: int) -> str:
    """Return a time, ns since 1970, in UTC, ISO 8601."""
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC).isoformat(timespec="microseconds")


def read_record(uri: str, *, lenient: bool = False) -> dict[str, Any]:
    """Return the record at ``uri``; a damaged one is ``{}`` if ``lenient``."""
    try:
        record: dict[str, Any] = json.loads(storage.read_bytes(uri, what="run record"))
        record["runs"], record["settings"] = list(record["runs"]), dict(record["settings"])
    except (ValueError, KeyError, TypeError) as error:
        if lenient:
            return {}
        raise UserError(f"{uri} is damaged; give --overwrite or a new --out") from error
    return record


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return texts for the values in which two flat settings differ: ``name: before -> now``, at most 8."""
    names = sorted(before.keys() | now.keys())
    found = [
        f"{name}: {before.get(name)} -> {now.get(name)}"
        for name in names
        if before.get(name) != now.get(name)
    ]
    more = len(found) - _MOST_CHANGES
    return [*found[:_MOST_CHANGES], f"and {more} more"] if more > 0 else found


def status_of(error: BaseException) -> str:
    """Return the status in ``run.json`` of a run that ``error`` ended."""
    if isinstance(error, KeyboardInterrupt | SystemExit):  # Ray turns SIGTERM into SystemExit
        return "interrupted"
    kind = "incomplete" if isinstance(error, IncompleteError) else "failed"
    return f"{kind}: {error!s:.500}"


def show_rejects(rejected: pa.Table, console: Console) -> None:
    """Print how many videos each code rejects, with one video and its reason as an example."""
    groups = rejected.group_by("reject_code", use_threads=False).aggregate(
        [("video_id", "count"), ("video_id", "first"), ("reject_detail", "first")]
    )
    for row in groups.sort_by([("video_id_count", "descending")]).to_pylist():
        example = f"{row['video_id_first']}: {row['reject_detail_first']}"
        say(console, f"rejected: {row['video_id_count']} {row['reject_code']}, such as {example}")


def cost_line(record: dict[str, Any], *, verb: str = "scored") -> str:
    """Return the cost of the last run: rate, start-up and the decode ratio over ``verb`` videos."""
    run = record["runs"][-1]
    parts = []
    if "seconds" in run:
        rate = run["num_videos"] / run["seconds"]
        parts.append(f"{run['num_videos']} videos in {run['seconds']:.1f} s ({rate:.2f} videos/s)")
        parts.append(f"first row after {run['seconds_to_first_row']:.1f} s")
    else:
        parts.append("nothing was left to do")
    if record["frames_decoded_per_used"]:
        parts.append(
            f"frames decoded / frames used = {record['frames_decoded_per_used']:.2f} over {verb} videos"
        )
    if survived := run.get("faults_survived"):
        parts.append("survived " + ", ".join(f"{count} {code}" for code, count in survived.items()))
    return "; ".join(parts)
