"""Cut one video to the face crops of its clips: plan, decode, detect, track, crop.

Frames never leave this step. The planned runs come first. If the face is not in enough of their frames, other
key frames follow, then a scan frame by frame::

    planned runs -> runs at other key frames -> scan from the start      (search_frames bounds the rest)
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from dfdm_ray import assets
from dfdm_ray.clips.spec import ClipSpec
from dfdm_ray.config import FaceConfig, LimitsConfig
from dfdm_ray.errors import RejectCode, VideoRejectedError
from dfdm_ray.faces.crops import crop_aligned, crop_face
from dfdm_ray.faces.detector import FaceDetector, Frame
from dfdm_ray.faces.retinaface_onnx import MobileNetRetinaFace
from dfdm_ray.faces.tracks import FaceTrack, RunTrack, choose_subject, find_tracks, join
from dfdm_ray.faces.turns import as_shown, find_turn, turn_back
from dfdm_ray.io.lending import OpenedFile
from dfdm_ray.video.decode import VideoReader
from dfdm_ray.video.frames import FrameBatch
from dfdm_ray.video.plan import Runs, other_runs, plan_frames

_SCAN_EVERY = 15
"""Frames between two detections of the scan: half a second at 30 frames per second."""


@dataclass(kw_only=True)
class ClipFacts:
    """Facts about a video, filled in step by step so that a rejected video has them too."""

    plan: Runs | None = None
    fingerprint: str | None = None
    num_frames_in_video: int = 0
    num_frames_missing: int = 0
    num_frames_decoded: int = 0
    num_faces: int = 0
    corrections: list[str] = field(default_factory=list)
    num_frames_looked_at: int = 0
    seconds_decode: float = 0.0
    seconds_detect: float = 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceClips:
    """The subject's face in ``C`` clips of ``T`` frames; rows of the flat arrays are in order of time."""

    crops: npt.NDArray[np.uint8]
    """Shape ``(C, T, S, S, 3)``, RGB."""
    pts_s: npt.NDArray[np.float64]
    """Shape ``(C * T,)``, seconds from the stream's start."""
    boxes_xyxy: npt.NDArray[np.float32]
    """Shape ``(C * T, 4)``, pixels."""
    landmarks: npt.NDArray[np.float32]
    """Shape ``(C * T, 5, 2)``, pixels."""
    face_score: float | None
    """Mean detection score, 0..1; ``None`` for crops from elsewhere, whose flat arrays are empty."""


def make_detector(faces: FaceConfig, weights: bytes) -> FaceDetector:
    """Return the configured face detector; ``weights`` is the content of its file."""
    if faces.detector == "mobilenet0.25":
        return MobileNetRetinaFace(weights, max_side=faces.max_side, score_threshold=faces.score_threshold)
    from dfdm_ray.faces.retinaface_resnet import ResNetRetinaFace  # torch is heavy, and seldom needed

    return ResNetRetinaFace(weights, max_side=faces.max_side, score_threshold=faces.score_threshold)


def load_detector(faces: FaceConfig) -> tuple[FaceDetector, bytes]:
    """Return the configured detector and its weights, so that a bad file is found before any work starts."""
    weights = assets.read_weights(faces.detector, faces.weights)
    return make_detector(faces, weights), weights


@dataclass(kw_only=True)
class _Seen:
    """The runs in which faces were found."""

    batches: list[FrameBatch] = field(default_factory=list)
    tracks: list[list[RunTrack]] = field(default_factory=list)
    subject: FaceTrack | None = None
    turns: int | None = None
    """Quarter turns clockwise of the faces in the frames; ``None`` until a face is found."""

    def add(self, batch: FrameBatch, tracks: list[RunTrack], facts: ClipFacts) -> None:
        self.batches.append(batch)
        self.tracks.append(tracks)
        faces = join(self.tracks)
        facts.num_faces = len(faces)
        self.subject = choose_subject(faces, frame_size=batch.size)

    @property
    def num_frames(self) -> int:
        return self.subject.num_frames if self.subject else 0


def prepare_clips(
    video: str | OpenedFile,
    detector: FaceDetector,
    spec: ClipSpec,
    facts: ClipFacts,
    *,
    max_pixels: int = LimitsConfig.max_pixels,
) -> FaceClips:
    """Return the face crops of a video, by URI or open; ``facts`` is filled in on the way.

    Raises:
        VideoRejectedError: If the video cannot be read, is too short, has no usable face, or has frames of
            more than ``max_pixels``.
    """
    seen = _Seen()
    started = time.perf_counter()
    try:
        with VideoReader(video, max_pixels=max_pixels) as reader:
            facts.fingerprint = reader.fingerprint
            facts.num_frames_in_video = len(reader.index) + reader.index.num_missing
            facts.num_frames_missing = reader.index.num_missing
            try:
                _collect(reader, detector, spec, facts, seen)
            finally:
                facts.num_frames_decoded = reader.num_frames_decoded
                facts.corrections = reader.corrections
        clips = _cut(seen, spec, facts)
    finally:
        facts.seconds_decode = time.perf_counter() - started - facts.seconds_detect
    return clips


def _collect(
    reader: VideoReader, detector: FaceDetector, spec: ClipSpec, facts: ClipFacts, seen: _Seen
) -> None:
    """Search runs until the subject is found in enough frames, or no more may be decoded."""
    for batch in _batches(reader, detector, spec, facts):
        batch, tracks = _upright_tracks(batch, detector, spec.detect_every, facts, seen)
        if tracks:
            seen.add(batch, tracks, facts)
        if seen.num_frames >= spec.frames_wanted:
            return
    if not facts.num_frames_looked_at and reader.failure:
        raise reader.failure


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


def _batches(
    reader: VideoReader, detector: FaceDetector, spec: ClipSpec, facts: ClipFacts
) -> Iterator[FrameBatch]:
    shown: set[float] = set()

    def noted(batch: FrameBatch) -> FrameBatch:
        shown.update(batch.pts_s.tolist())
        return batch

    while facts.plan is None or reader.corrects_keys():
        facts.plan = _planned(reader, spec)
        for batch in reader.read_planned(facts.plan, flexible=spec.strategy == "keyframe_runs"):
            if shown.isdisjoint(batch.pts_s.tolist()):
                yield noted(batch)
    allowed = reader.num_frames_decoded + spec.search_frames
    for run in other_runs(facts.plan, reader.index.keys, num_frames=len(reader.index)):
        if reader.num_frames_decoded + run.num_decoded > allowed:
            return
        if (found := reader.read_run(run)) is not None:
            yield noted(found)
    if reader.num_frames_decoded < allowed:
        yield from _scan(reader, detector, spec, facts, shown=shown, allowed=allowed)


def _scan(
    reader: VideoReader,
    detector: FaceDetector,
    spec: ClipSpec,
    facts: ClipFacts,
    *,
    shown: set[float],
    allowed: int,
) -> Iterator[FrameBatch]:
    """Decode onwards, detect every few frames, and yield runs that begin where a face is found."""
    run: list[FrameBatch] = []
    since_look = _SCAN_EVERY
    for frame in reader.read_onwards():
        if reader.num_frames_decoded > allowed:
            break
        since_look += 1
        if frame.pts_s[0] in shown:
            continue
        if run and frame.rgb.shape != run[0].rgb.shape:  # as where recordings were joined
            yield _stacked(run)
            run, since_look = [], _SCAN_EVERY
        if not run and since_look >= _SCAN_EVERY:
            since_look = 0
            if _timed_tracks(frame, detector, 1, facts):
                run = [frame]
        elif run:
            run.append(frame)
        if len(run) == max(spec.detect_every, 2):
            yield _stacked(run)
            run, since_look = [], _SCAN_EVERY
    if run:
        yield _stacked(run)


def _stacked(frames: Sequence[FrameBatch]) -> FrameBatch:
    return FrameBatch(
        rgb=np.concatenate([frame.rgb for frame in frames]),
        pts_s=np.concatenate([frame.pts_s for frame in frames]),
    )


def _upright_tracks(
    batch: FrameBatch, detector: FaceDetector, every: int, facts: ClipFacts, seen: _Seen
) -> tuple[FrameBatch, list[RunTrack]]:
    """Return the frames and their tracks, turned so that the first subject found is upright."""
    if seen.turns:
        batch = _turned(batch, seen.turns)
    tracks = _timed_tracks(batch, detector, every, facts)
    if seen.turns is None and (subject := choose_subject(join([tracks]), frame_size=batch.size)):
        part = subject.parts[0]
        seen.turns = find_turn(batch.rgb[part.frames[0]], part, detector)
        if seen.turns:
            batch = _turned(batch, seen.turns)
            tracks = _timed_tracks(batch, detector, every, facts)
    return batch, tracks


def _turned(batch: FrameBatch, turns: int) -> FrameBatch:
    return FrameBatch(rgb=turn_back(np.asarray(batch.rgb), turns), pts_s=batch.pts_s)


def _timed_tracks(batch: FrameBatch, detector: FaceDetector, every: int, facts: ClipFacts) -> list[RunTrack]:
    facts.num_frames_looked_at += len(batch)
    started = time.perf_counter()
    try:
        return find_tracks(batch, detector, every=every)
    finally:
        facts.seconds_detect += time.perf_counter() - started


def _cut(seen: _Seen, spec: ClipSpec, facts: ClipFacts) -> FaceClips:
    """Crop the subject in ``C * T`` frames, spread evenly over the frames in which it was found."""
    looked_at = facts.num_frames_looked_at
    if seen.subject is None:
        raise VideoRejectedError(RejectCode.NO_FACE, f"no face in {looked_at} searched frames")
    if seen.num_frames < spec.frames_wanted:
        found, needed = f"{seen.num_frames} of {looked_at} searched frames", spec.frames_wanted
        detail = f"the face is in {found}, {needed} are needed"
        raise VideoRejectedError(RejectCode.FACE_TOO_BRIEF, detail)
    known = [
        (seen.batches[at], part, row)
        for at, part in seen.subject.parts.items()
        for row in range(len(part.frames))
    ]
    known.sort(key=lambda item: float(item[0].pts_s[item[1].frames[item[2]]]))
    chosen = [known[i] for i in np.linspace(0, len(known) - 1, spec.frames_wanted).round().astype(int)]
    boxes = np.stack([part.boxes_xyxy[row] for _, part, row in chosen])
    side = float(np.median((boxes[:, 2:] - boxes[:, :2]).max(axis=1)))
    if side < spec.min_face_px:
        detail = f"the face has {side:.0f} pixels, at least {spec.min_face_px} are needed"
        raise VideoRejectedError(RejectCode.FACE_TOO_SMALL, detail)
    crops = [_crop(batch.rgb[part.frames[row]], part, row, spec) for batch, part, row in chosen]
    turns, size = seen.turns or 0, seen.batches[0].size
    corners = as_shown(boxes.reshape(-1, 2, 2), turns, size)
    return FaceClips(
        crops=np.stack(crops).reshape(spec.shape),
        pts_s=np.array([batch.pts_s[part.frames[row]] for batch, part, row in chosen]),
        boxes_xyxy=np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1),
        landmarks=as_shown(np.stack([part.landmarks[row] for _, part, row in chosen]), turns, size),
        face_score=float(np.mean([part.scores[row] for _, part, row in chosen])),
    )


def _crop(rgb: Frame, part: RunTrack, row: int, spec: ClipSpec) -> Frame:
    if spec.align == "generator":
        return crop_aligned(rgb, part.landmarks[row], size=spec.crop_size)
    return crop_face(rgb, part.boxes_xyxy[row], size=spec.crop_size, margin=spec.margin)
