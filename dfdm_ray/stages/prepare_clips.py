"""CPU stage: video to face crops. Plan, decode, detect, track and crop in one worker; only crops leave it."""

import logging
from collections.abc import Callable

import cv2
import pyarrow as pa

from dfdm_ray.clip_spec import ClipSpec
from dfdm_ray.clips import ClipFacts, FaceClips, make_detector, prepare_clips
from dfdm_ray.config import FaceConfig
from dfdm_ray.schemas import CLIPS
from dfdm_ray.stages.base import Row, reject_on_error

logger = logging.getLogger(__name__)

NO_CLIPS: Row = {
    "num_frames_scored": 0,
    "pts_s": [],
    "boxes_xyxy": [],
    "landmarks": [],
    "face_score": None,
    "crops": b"",
}
"""Columns of a rejected video."""


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
        return clips_table(
            batch,
            lambda uri, facts: prepare_clips(uri, self._detector, self._spec, facts),
            detector=self._detector.name,
        )


def clips_table(batch: pa.Table, make: Callable[[str, ClipFacts], FaceClips], *, detector: str) -> pa.Table:
    """Return :data:`schemas.CLIPS`, a row for each row of ``batch``.

    Args:
        batch: :data:`schemas.MANIFEST`.
        make: Turns a video's URI into its clips and fills in what it learns; may reject the video.
        detector: Name of what found the faces.
    """
    rows = [{**_clips_row(row, make), "detector": detector} for row in batch.to_pylist()]
    return pa.Table.from_pylist(rows, schema=CLIPS)


def _clips_row(row: Row, make: Callable[[str, ClipFacts], FaceClips]) -> Row:
    facts = ClipFacts()
    columns = reject_on_error(lambda: _columns(make(row["uri"], facts)), empty=NO_CLIPS)
    if columns["reject_code"]:
        logger.info("rejected %s: %s: %s", row["video_id"], columns["reject_code"], columns["reject_detail"])
    return {**row, **vars(facts), **columns}


def _columns(clips: FaceClips) -> Row:
    return {
        "num_frames_scored": clips.crops.shape[0] * clips.crops.shape[1],
        "pts_s": clips.pts_s.tolist(),
        "boxes_xyxy": clips.boxes_xyxy.tolist(),
        "landmarks": clips.landmarks.tolist(),
        "face_score": clips.face_score,
        "crops": clips.crops.tobytes(),
    }
