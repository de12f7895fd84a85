"""CPU stage of the crops dataset: make a video's crops and write them where they stay; only facts go on."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from dfdm_ray.clips.child import Row
from dfdm_ray.clips.crops_dataset import write_crops
from dfdm_ray.errors import writing_to
from dfdm_ray.io.retry import drain_failures
from dfdm_ray.schemas import CROPS_INDEX, REJECTED


class SaveCrops:
    """Ray Data actor: writes one file for each video that has crops.

    In: :data:`schemas.MANIFEST`. Out: :data:`schemas.CROPS_INDEX`, one row for each.

    The file's name depends on the video alone, so that work done again replaces it.

    Args:
        clips: Makes the stage that turns :data:`schemas.MANIFEST` into :data:`schemas.CLIPS`. It works
            in this actor, so that no pixels travel.
        shape: Of a video's crops, (C, T, S, S, 3).
        out: The crops dataset.
    """

    def __init__(
        self,
        *,
        clips: Callable[[], Callable[[pa.Table], pa.Table]],
        shape: tuple[int, int, int, int, int],
        out: str,
    ) -> None:
        self._clips = clips()
        self._shape = shape
        self._out = out

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Process the videos of ``batch`` one by one: memory holds the crops of one."""
        videos = (self._clips(batch.slice(index, 1)) for index in range(batch.num_rows))
        rows = [self._save(row) for video in videos for row in video.to_pylist()]
        return pa.Table.from_pylist(rows, schema=CROPS_INDEX)

    def _save(self, row: Row) -> Row:
        content = row.pop("crops")
        if row["status"] == REJECTED:
            return {**row, "num_clips": 0, "file": None}
        row["num_clips"] = self._shape[0]
        crops = np.frombuffer(content, np.uint8).reshape(self._shape)
        with writing_to(self._out):
            file = write_crops(self._out, row, crops)
        return {**row, "file": file, "faults": row["faults"] + drain_failures()}
