"""Frames at given times, for pictures of what an earlier run looked at."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dfdm_ray.video.decode import VideoReader

Picture = npt.NDArray[np.uint8]
"""RGB pixels as a viewer sees them, shape ``(H, W, 3)``."""

_SAME_S = 1e-4
"""Largest difference of two times of one frame; rows contain float64."""


def frames_at(reader: VideoReader, times_s: Sequence[float]) -> dict[float, Picture]:
    """Return the frames that are shown at ``times_s``, by time; those that cannot be found are missing.

    Each is decoded from the key frame before it, and if that fails from the first one.
    """
    found: dict[float, Picture] = {}
    for key, wanted in _by_key(reader, sorted(set(times_s))).items():
        _collect(reader, key, wanted, found)
    if missing := sorted(set(times_s) - found.keys()):
        _collect(reader, None, missing, found)
    return found


def first_frame(reader: VideoReader) -> Picture | None:
    """Return the first whole frame, ``None`` if there is none."""
    return next((np.asarray(batch.rgb[0]) for batch in reader.read_onwards()), None)


def _by_key(reader: VideoReader, times_s: Sequence[float]) -> dict[int, list[float]]:
    """Return the times by the position of the key frame from which each is decoded."""
    keys = reader.index.keys
    if not len(keys):
        return {}
    index = reader.index
    ticks = index.seek_time - index.seek_time[0] if index.frame_times is None else index.frame_times
    shown_s = ticks[keys] * float(reader.time_base)
    found: dict[int, list[float]] = {}
    for time in times_s:
        before = int(np.searchsorted(shown_s, time + _SAME_S, side="right")) - 1
        found.setdefault(int(keys[max(before, 0)]), []).append(time)
    return found


def _collect(
    reader: VideoReader, key: int | None, times_s: Sequence[float], found: dict[float, Picture]
) -> None:
    """Decode from ``key`` on until all of ``times_s``, ascending, have passed."""
    left = list(times_s)
    for batch in reader.read_onwards(key):
        shown = float(batch.pts_s[0])
        while left and left[0] < shown - _SAME_S:
            left.pop(0)
        if left and abs(left[0] - shown) <= _SAME_S:
            found[left.pop(0)] = np.asarray(batch.rgb[0])
        if not left:
            return
