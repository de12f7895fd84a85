"""Crops of one video and the places where they were planned, from a decoding process."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dfdm_ray.clips.child import CutVideos, Row, row_of
from dfdm_ray.clips.isolation import ChildLostError
from dfdm_ray.clips.spec import ClipSpec
from dfdm_ray.errors import RejectCode, VideoRejectedError
from dfdm_ray.io.lending import Files
from dfdm_ray.schemas import REJECTED

if TYPE_CHECKING:
    from dfdm_ray.clips.cut import ClipFacts, FaceClips


class PlanAndCut(CutVideos):
    """Cut videos; the answer has the first frame of each planned run, int64, before the row."""

    def clips(self, files: Files, facts: "ClipFacts") -> "Sequence[FaceClips]":
        """Return the crops of the faces of the video that is lent."""
        self._facts = facts
        return super().clips(files, facts)

    def answer(self, files: Files) -> Iterator[bytes]:
        """Yield the plan, then the row."""
        row = [*super().answer(files)]
        runs = self._facts.plan or ()
        yield np.array([run.key + run.offsets[0] for run in runs], np.int64).tobytes()
        yield from row


def plan_and_row(pieces: Iterable[bytes], spec: ClipSpec) -> tuple[npt.NDArray[np.int64], Row]:
    """Return the first frames of the planned runs, and the row of a video that has crops.

    Raises:
        VideoRejectedError: If it has none.
    """
    try:
        plan, answer = pieces
        places = np.frombuffer(plan, np.int64)
    except ValueError as error:
        raise ChildLostError(RejectCode.CRASHED, "the decoding process returned no plan") from error
    row = row_of(answer, spec.shape, most_faces=spec.most_faces)
    if row["status"] == REJECTED:
        raise VideoRejectedError(RejectCode(row["reject_code"]), row["reject_detail"])
    return places, row
