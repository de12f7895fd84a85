"""CPU stage: video to face crops. Plan, decode, detect, track and crop in one worker; only crops leave it."""

import logging
from collections.abc import Callable

import cv2
import pyarrow as pa

from dfdm_ray.clips import ClipFacts, make_detector, prepare_clips
from dfdm_ray.config import ClipSpec, FaceConfig
from dfdm_ray.schemas import CLIPS
from dfdm_ray.stages.base import Row, reject_on_error

logger = logging.getLogger(__name__)

_NO_CLIPS: Row = {"pts_s": [], "boxes_xyxy": [], "landmarks": [], "face_score": None, "crops": b""}


class PrepareClips:
    """Ray Data actor: holds a face detector and turns manifest rows into rows with crops.

    In: :data:`schemas.MANIFEST`. Out: :data:`schemas.CLIPS`, one row for each.

    Args:
        faces: Which detector, and how.
        spec: Frames and crops.
        weights: Gives the detector's weights.
    """

    def __init__(self, *, faces: FaceConfig, spec: ClipSpec, weights: Callable[[], bytes]) -> None:
        cv2.setNumThreads(1)  # the workers are the parallelism
        self._detector = make_detector(faces, weights())
        self._spec = spec

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Process the videos of ``batch`` in turn."""
        return pa.Table.from_pylist([self._process(row) for row in batch.to_pylist()], schema=CLIPS)

    def _process(self, row: Row) -> Row:
        facts = ClipFacts()
        columns = reject_on_error(lambda: self._clips(row["uri"], facts), empty=_NO_CLIPS)
        if columns["reject_code"]:
            logger.info(
                "rejected %s: %s: %s", row["video_id"], columns["reject_code"], columns["reject_detail"]
            )
        scored = len(columns["pts_s"])
        return {**row, **vars(facts), **columns, "detector": self._detector.name, "num_frames_scored": scored}

    def _clips(self, uri: str, facts: ClipFacts) -> Row:
        clips = prepare_clips(uri, self._detector, self._spec, facts)
        return {
            "pts_s": clips.pts_s.tolist(),
            "boxes_xyxy": clips.boxes_xyxy.tolist(),
            "landmarks": clips.landmarks.tolist(),
            "face_score": clips.face_score,
            "crops": clips.crops.tobytes(),
        }
