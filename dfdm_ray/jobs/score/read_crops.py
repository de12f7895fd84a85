"""CPU stage: reads the crops that ``preprocess`` made, in place of decoding and cropping."""

import time

import numpy as np
import pyarrow as pa

from dfdm_ray.clips.child import BY_FRAME, NO_CLIPS, Row, reject_on_error
from dfdm_ray.clips.crops_dataset import pick_frames, read_crops
from dfdm_ray.clips.stage import worker_name
from dfdm_ray.errors import RejectCode, UserError, VideoRejectedError
from dfdm_ray.io.object_store import drain_failures, unreadable
from dfdm_ray.schemas import CLIPS, REJECTED


class ReadCrops:
    """Ray Data actor: turns :data:`schemas.CROPS_INDEX` into :data:`schemas.CLIPS`, row for row.

    Rejected rows pass through, and a video whose crops cannot be read is rejected.

    Args:
        stored: Shape of a video's crops in it, (C, T, S, S, 3).
        num_frames: Frames that the model takes, spread evenly over longer clips.
    """

    def __init__(self, *, root: str, stored: tuple[int, int, int, int, int], num_frames: int) -> None:
        self._root = root
        self._stored = stored
        self._picked = pick_frames(stored[1], num_frames)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Read the videos of ``batch`` in turn."""
        return pa.Table.from_pylist([self._read(row) for row in batch.to_pylist()], schema=CLIPS)

    def _read(self, row: Row) -> Row:
        """Return ``row`` with its crops, and with the work of this run in place of that of ``preprocess``."""
        started = time.perf_counter()
        columns = {}
        if row["status"] != REJECTED:
            columns = reject_on_error(lambda: self._columns(row), empty=NO_CLIPS)
        work = {
            "num_frames_decoded": 0,
            "seconds_decode": time.perf_counter() - started,
            "seconds_detect": 0.0,
            "faults": drain_failures(),
            "prepared_by": worker_name(),
        }
        return {**NO_CLIPS, **row, **columns, **work}

    def _columns(self, row: Row) -> Row:
        try:
            crops = read_crops(self._root, row["file"])
        except UserError as error:
            raise unreadable(error) from error
        if crops.shape != self._stored:
            detail = f"crops of shape {crops.shape}, but the dataset has {self._stored}"
            raise VideoRejectedError(RejectCode.UNFIT_FRAMES, detail)
        num_clips, num_frames = self._stored[:2]
        flat = (np.arange(num_clips)[:, None] * num_frames + self._picked).ravel()
        by_frame = {name: [row[name][frame] for frame in flat] if row[name] else [] for name in BY_FRAME}
        face = {"num_frames_scored": len(flat), **by_frame, "face_score": row["face_score"]}
        return {**face, "faces": [face], "crops": crops[:, self._picked].tobytes()}
