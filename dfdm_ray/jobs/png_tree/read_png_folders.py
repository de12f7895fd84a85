"""CPU stage: a folder of PNG frames to the crops of one clip."""

from functools import partial

from dfdm_ray.clips.child import png_work
from dfdm_ray.clips.isolation import Allowance
from dfdm_ray.clips.stage import MakeClips

DETECTOR = "none"
"""What stands for the detector of crops that others made."""


class ReadPngFolders(MakeClips):
    """Reads frames where :class:`PrepareClips` would decode and crop.

    In: :data:`schemas.MANIFEST`. Out: :data:`schemas.CLIPS`, one row for each.

    Args:
        num_frames: Frames that each folder must have (T).
        size: Side of each frame (S), pixels.
        allowance: What one folder may cost.
        attempts: How often a folder is tried of which the decoding process dies.
    """

    def __init__(self, *, num_frames: int, size: int, allowance: Allowance, attempts: int) -> None:
        work = partial(png_work, num_frames, size)
        shape = (1, num_frames, size, size, 3)
        super().__init__(work, detector=DETECTOR, shape=shape, allowance=allowance, attempts=attempts)
