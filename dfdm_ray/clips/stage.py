"""CPU stages: files to face crops. Each file is handled in a process that it may kill; only crops leave it.

The worker itself imports no decoder; its child does, see :mod:`dfdm_ray.clips.child`.
"""

import logging
import os
import socket
import time

import numpy as np
import pyarrow as pa

from dfdm_ray.clips.child import NO_CLIPS, NOTHING_KNOWN, ClipWork, Row, rejection, row_of
from dfdm_ray.clips.isolation import Allowance, ChildLostError, Isolated, WorkBugError
from dfdm_ray.errors import RejectCode, writing_to
from dfdm_ray.io.object_store import drain_failures
from dfdm_ray.io.terminal import visible
from dfdm_ray.schemas import CLIPS, CROPS_INDEX, REJECTED

logger = logging.getLogger(__name__)

_TRIED_ONCE = (RejectCode.TIMED_OUT, RejectCode.STORAGE_ERROR)
"""A second attempt would take as long again."""


def worker_name() -> str:
    """Return host and process number."""
    return f"{socket.gethostname()}:{os.getpid()}"


class MakeClips:
    """Ray Data actor: turns :data:`schemas.MANIFEST` into :data:`schemas.CLIPS`, row for row.

    Args:
        shape: Shape of the crops of a face, (C, T, S, S, 3).
        attempts: How often a file that kills the child is tried.
        most_faces: Most faces of a video.
    """

    def __init__(
        self,
        *,
        work: ClipWork,
        detector: str,
        shape: tuple[int, int, int, int, int],
        allowance: Allowance,
        attempts: int,
        most_faces: int = 1,
    ) -> None:
        self._isolated = Isolated(work, allowance)
        self._detector = detector
        self._shape, self._most_faces = shape, most_faces
        self._attempts = attempts

    def start(self) -> None:
        """Start the decoding process now, not with the first file."""
        self._isolated.start()

    def close(self) -> None:
        """End the decoding process."""
        self._isolated.close()

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Process the files of ``batch`` in turn."""
        return pa.Table.from_pylist([self.clips(row) for row in batch.to_pylist()], schema=CLIPS)

    def clips(self, row: Row) -> Row:
        """Return a manifest row with its clips, or with the reason why it has none."""
        started, faults = time.perf_counter(), []
        for attempt in range(1, self._attempts + 1):
            try:
                answer = self._isolated(row["uri"])
                columns = row_of(answer, self._shape, most_faces=self._most_faces)
                faults += self._isolated.drain_failures()
                break
            except ChildLostError as lost:
                self._isolated.close()  # a child that lives on after a wrong answer would give another
                faults.append(str(lost))
                logger.warning("%s: %s", visible(row["video_id"]), lost, extra=_extra(row, lost.code))
                if attempt == self._attempts or lost.code in _TRIED_ONCE:
                    columns = _without_facts(rejection(lost.code, lost.detail), started)
                    break
            except WorkBugError as bug:
                columns = _without_facts(rejection(RejectCode.INTERNAL_ERROR, bug.summary), started)
                faults.append(f"{RejectCode.INTERNAL_ERROR}: {bug.summary}")
                text, extra = visible(str(bug), keep="\n"), _extra(row, RejectCode.INTERNAL_ERROR)
                logger.error("%s triggers a bug:\n%s", visible(row["video_id"]), text, extra=extra)
                break
        if code := columns["reject_code"]:
            text = visible(f"rejected {row['video_id']}: {columns['reject_detail']}")
            logger.info("%s", text, extra=_extra(row, code))
        fixed = {"detector": self._detector, "prepared_by": worker_name(), "sandbox": self._isolated.layers}
        return {**row, **columns, "faults": faults + columns["faults"], **fixed}


class SaveCrops:
    """Ray Data actor: turns :data:`schemas.MANIFEST` into :data:`schemas.CROPS_INDEX`, row for row.

    It writes one file for each video that has crops, so that no pixels travel. The file's name depends on the
    video alone: a second attempt replaces the file of the first.

    Args:
        out: The crops dataset; the other arguments are those of :class:`MakeClips`.
    """

    def __init__(
        self,
        *,
        out: str,
        work: ClipWork,
        detector: str,
        shape: tuple[int, int, int, int, int],
        allowance: Allowance,
        attempts: int,
    ) -> None:
        self._make = MakeClips(
            work=work, detector=detector, shape=shape, allowance=allowance, attempts=attempts
        )
        self._shape = shape
        self._out = out

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Process the videos of ``batch`` one by one: memory holds the crops of one."""
        rows = [self._save(self._make.clips(row)) for row in batch.to_pylist()]
        return pa.Table.from_pylist(rows, schema=CROPS_INDEX)

    def _save(self, row: Row) -> Row:
        from dfdm_ray.clips.crops_dataset import write_crops  # it needs OpenCV and PyAV

        content = row.pop("crops")
        if row["status"] == REJECTED:
            return {**row, "num_clips": 0, "file": None}
        row["num_clips"] = self._shape[0]
        crops = np.frombuffer(content, np.uint8).reshape(self._shape)
        with writing_to(self._out):
            file = write_crops(self._out, row, crops)
        return {**row, "file": file, "faults": row["faults"] + drain_failures()}


def _without_facts(columns: Row, started: float) -> Row:
    """Return all columns of a video for which the decoding process gave no answer."""
    return {**NOTHING_KNOWN, "seconds_decode": time.perf_counter() - started, **NO_CLIPS, **columns}


def _extra(row: Row, code: str) -> Row:
    """Return fields for structured logs."""
    return {"video_id": row["video_id"], "reject_code": str(code)}
