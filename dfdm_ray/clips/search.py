"""The frames of one video in which faces are searched.

The planned runs come first. If the face is not in enough of their frames, other key frames follow, then a
scan frame by frame::

    planned runs -> runs at other key frames -> scan from the start      (search_frames bounds the rest)
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from dfdm_ray.clips.spec import ClipSpec
from dfdm_ray.errors import RejectCode, VideoRejectedError
from dfdm_ray.video.decode import VideoReader
from dfdm_ray.video.frames import FrameBatch
from dfdm_ray.video.plan import Runs, other_runs, plan_frames

_SCAN_EVERY = 15
"""Frames between two detections of the scan: half a second at 30 frames per second."""


class FrameSearch:
    """The search through one video.

    Args:
        has_face: Whether a face is in a frame; the scan asks it.
    """

    def __init__(
        self, reader: VideoReader, spec: ClipSpec, *, has_face: Callable[[FrameBatch], bool]
    ) -> None:
        self._reader, self._spec, self._has_face = reader, spec, has_face
        self._shown: set[float] = set()
        self.plan: Runs | None = None
        """The planned runs, once :meth:`batches` has begun."""

    def batches(self) -> Iterator[FrameBatch]:
        """Yield runs of frames, none of them twice.

        Raises:
            VideoRejectedError: If the video has too few frames, or they cannot be decoded.
        """
        reader, spec = self._reader, self._spec
        while self.plan is None or reader.corrects_keys():
            self.plan = _planned(reader, spec)
            for batch in reader.read_planned(self.plan, flexible=spec.strategy == "keyframe_runs"):
                if self._shown.isdisjoint(batch.pts_s.tolist()):
                    yield self._noted(batch)
        allowed = reader.num_frames_decoded + spec.search_frames
        for run in other_runs(self.plan, reader.index.keys, num_frames=len(reader.index)):
            if reader.num_frames_decoded + run.num_decoded > allowed:
                return
            if (found := reader.read_run(run)) is not None:
                yield self._noted(found)
        if reader.num_frames_decoded < allowed:
            yield from self._scan(allowed)

    def _noted(self, batch: FrameBatch) -> FrameBatch:
        self._shown.update(batch.pts_s.tolist())
        return batch

    def _scan(self, allowed: int) -> Iterator[FrameBatch]:
        """Decode onwards, detect every few frames, and yield runs that begin where a face is found."""
        run: list[FrameBatch] = []
        since_look = _SCAN_EVERY
        for frame in self._reader.read_onwards():
            if self._reader.num_frames_decoded > allowed:
                break
            since_look += 1
            if frame.pts_s[0] in self._shown:
                continue
            if run and frame.rgb.shape != run[0].rgb.shape:  # as where recordings were joined
                yield _stacked(run)
                run, since_look = [], _SCAN_EVERY
            if not run and since_look >= _SCAN_EVERY:
                since_look = 0
                if self._has_face(frame):
                    run = [frame]
            elif run:
                run.append(frame)
            if len(run) == max(self._spec.detect_every, 2):
                yield _stacked(run)
                run, since_look = [], _SCAN_EVERY
        if run:
            yield _stacked(run)


def _planned(reader: VideoReader, spec: ClipSpec) -> Runs:
    index = reader.index
    plan = plan_frames(
        spec.strategy,
        index.keys,
        num_frames=len(index),
        wanted=spec.frames_wanted,
        runs=spec.runs_per_clip * spec.num_clips,
    )
    if plan is not None:
        return plan
    usable = len(index) - int(index.keys[0]) if len(index.keys) else 0
    late = f", {usable} of them from a whole key frame on" if usable < len(index) else ""
    missing = f" ({index.num_missing} more are beyond the end of the file)" if index.num_missing else ""
    code = RejectCode.TOO_SHORT if len(index) < spec.frames_wanted else RejectCode.DECODE_ERROR
    detail = f"{len(index)} frames{late}{missing}, {spec.frames_wanted} are needed"
    raise VideoRejectedError(code, detail)


def _stacked(frames: Sequence[FrameBatch]) -> FrameBatch:
    return FrameBatch(
        rgb=np.concatenate([frame.rgb for frame in frames]),
        pts_s=np.concatenate([frame.pts_s for frame in frames]),
    )
