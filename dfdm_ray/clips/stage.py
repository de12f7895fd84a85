"""CPU stage: files to face crops, each file in a process that may die of it. Only crops leave that process.

The worker itself imports no decoder; the child does, in :mod:`dfdm_ray.clips.child`.
"""

import logging
import time
from collections.abc import Callable

import pyarrow as pa

from dfdm_ray.clips.child import NO_CLIPS, NOTHING_KNOWN, Row, rejection, row_of
from dfdm_ray.clips.isolation import Allowance, ChildLostError, Isolated, Work, WorkBugError
from dfdm_ray.engine.stage import worker_name
from dfdm_ray.errors import RejectCode
from dfdm_ray.io.terminal import visible
from dfdm_ray.schemas import CLIPS

logger = logging.getLogger(__name__)

_TRIED_ONCE = (RejectCode.TIMED_OUT,)
"""Time does not run out by accident, and to try again would cost as much."""


class MakeClips:
    """Ray Data actor: turns manifest rows into rows with crops.

    In: :data:`schemas.MANIFEST`. Out: :data:`schemas.CLIPS`, one row for each.

    Args:
        work: Makes, in the child, what answers a file: see :mod:`dfdm_ray.clips.child`.
        detector: Name of what finds the faces.
        shape: Of a video's crops, (C, T, S, S, 3).
        allowance: What one file may cost.
        attempts: How often a file is tried of which the child dies.
    """

    def __init__(
        self,
        work: Callable[[], Work],
        *,
        detector: str,
        shape: tuple[int, int, int, int, int],
        allowance: Allowance,
        attempts: int,
    ) -> None:
        self._isolated = Isolated(work, allowance)
        self._detector = detector
        self._shape = shape
        self._attempts = attempts

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Process the files of ``batch`` in turn."""
        fixed = {"detector": self._detector, "prepared_by": worker_name()}
        rows = [{**row, **self._columns(row), **fixed} for row in batch.to_pylist()]
        return pa.Table.from_pylist(rows, schema=CLIPS)

    def _columns(self, row: Row) -> Row:
        started, faults = time.perf_counter(), []
        for attempt in range(1, self._attempts + 1):
            try:
                columns = row_of(self._isolated(row["uri"]), self._shape)
                break
            except ChildLostError as lost:
                self._isolated.close()  # one that lives on but answers nonsense would do so again
                faults.append(str(lost))
                logger.warning("%s: %s", visible(row["video_id"]), lost, extra=_extra(row, lost.code))
                if attempt == self._attempts or lost.code in _TRIED_ONCE:
                    columns = _without_facts(rejection(lost.code, lost.detail), started)
                    break
            except WorkBugError as bug:
                columns = _without_facts(rejection(RejectCode.INTERNAL_ERROR, bug.summary), started)
                faults.append(f"{RejectCode.INTERNAL_ERROR}: {bug.summary}")
                extra = _extra(row, RejectCode.INTERNAL_ERROR)
                logger.error(
                    "%s met a bug:\n%s", visible(row["video_id"]), visible(str(bug), keep="\n"), extra=extra
                )
                break
        if code := columns["reject_code"]:
            text = visible(f"rejected {row['video_id']}: {columns['reject_detail']}")
            logger.info("%s", text, extra=_extra(row, code))
        return {**columns, "faults": faults + columns["faults"]}


def _without_facts(columns: Row, started: float) -> Row:
    """Return all columns of a video whose decoding process told nothing."""
    return {**NOTHING_KNOWN, "seconds_decode": time.perf_counter() - started, **NO_CLIPS, **columns}


def _extra(row: Row, code: str) -> Row:
    """Return fields for structured logs."""
    return {"video_id": row["video_id"], "reject_code": str(code)}
