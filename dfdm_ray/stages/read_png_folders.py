"""CPU stage: a folder of PNG frames to the crops of one clip."""

from functools import partial

import cv2
import pyarrow as pa

from dfdm_ray.png_tree.read import read_clip
from dfdm_ray.stages.prepare_clips import clips_table

DETECTOR = "none"
"""What stands for the detector of crops that others made."""


class ReadPngFolders:
    """Reads frames where :class:`PrepareClips` would decode and crop.

    In: :data:`schemas.MANIFEST`. Out: :data:`schemas.CLIPS`, one row for each.

    Args:
        num_frames: Frames that each folder must have (T).
        size: Side of each frame (S), pixels.
    """

    def __init__(self, *, num_frames: int, size: int) -> None:
        cv2.setNumThreads(1)  # the workers are the parallelism
        self._read = partial(read_clip, num_frames=num_frames, size=size)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Read the folders of ``batch`` in turn."""
        return clips_table(batch, self._read, detector=DETECTOR)
