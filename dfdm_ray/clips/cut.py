"""Cut one video to the face crops of its clips: plan, decode, detect, track, crop.

Frames never leave this step. They are searched until the subject is in enough of them, see
:mod:`dfdm_ray.clips.search`; other faces get crops if they are in enough of the frames that were read.
"""

import time
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from dfdm_ray import assets
from dfdm_ray.clips.search import FrameSearch
from dfdm_ray.clips.spec import ClipSpec
from dfdm_ray.config import FaceConfig, LimitsConfig
from dfdm_ray.errors import RejectCode, VideoRejectedError
from dfdm_ray.faces.crops import crop_aligned, crop_face
from dfdm_ray.faces.detector import FaceDetector, Frame
from dfdm_ray.faces.retinaface_onnx import MobileNetRetinaFace
from dfdm_ray.faces.tracks import FaceTrack, RunTrack, by_weight, choose_subject, find_tracks, join
from dfdm_ray.faces.turns import as_shown, find_turn, turn_back
from dfdm_ray.io.lending import OpenedFile
from dfdm_ray.video.decode import VideoReader
from dfdm_ray.video.frames import FrameBatch
from dfdm_ray.video.plan import Runs


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
    """A face in ``C`` clips of ``T`` frames; rows of the flat arrays are in order of time."""

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
    faces: list[FaceTrack] = field(default_factory=list)
    """The subject first, then by weight."""
    turns: int | None = None
    """Quarter turns clockwise of the faces in the frames; ``None`` until a face is found."""

    def add(self, batch: FrameBatch, tracks: list[RunTrack], facts: ClipFacts) -> None:
        self.batches.append(batch)
        self.tracks.append(tracks)
        self.faces = by_weight(join(self.tracks), frame_size=batch.size)
        facts.num_faces = len(self.faces)

    @property
    def num_frames(self) -> int:
        """Frames of the subject."""
        return self.faces[0].num_frames if self.faces else 0


def prepare_clips(
    video: str | OpenedFile,
    detector: FaceDetector,
    spec: ClipSpec,
    facts: ClipFacts,
    *,
    max_pixels: int = LimitsConfig.max_pixels,
) -> FaceClips:
    """Return the crops of the most prominent face, the first of :func:`prepare_faces`."""
    return prepare_faces(video, detector, spec, facts, max_pixels=max_pixels)[0]


def prepare_faces(
    video: str | OpenedFile,
    detector: FaceDetector,
    spec: ClipSpec,
    facts: ClipFacts,
    *,
    max_pixels: int = LimitsConfig.max_pixels,
) -> list[FaceClips]:
    """Return the face crops of a video, by URI or open, the most prominent face first; fill in ``facts``.

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
        return _cut(seen, spec, facts)
    finally:
        facts.seconds_decode = time.perf_counter() - started - facts.seconds_detect


def _collect(
    reader: VideoReader, detector: FaceDetector, spec: ClipSpec, facts: ClipFacts, seen: _Seen
) -> None:
    """Search runs until the subject is found in enough frames, or no more may be decoded."""
    search = FrameSearch(reader, spec, has_face=lambda frame: bool(_timed_tracks(frame, detector, 1, facts)))
    for batch in search.batches():
        facts.plan = search.plan
        batch, tracks = _upright_tracks(batch, detector, spec.detect_every, facts, seen)
        if tracks:
            seen.add(batch, tracks, facts)
        if seen.num_frames >= spec.frames_wanted:
            return
    if not facts.num_frames_looked_at and reader.failure:
        raise reader.failure


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


def _cut(seen: _Seen, spec: ClipSpec, facts: ClipFacts) -> list[FaceClips]:
    """Crop the usable faces, at most ``most_faces``; if that is 1, no other than the subject."""
    looked_at = facts.num_frames_looked_at
    if not seen.faces:
        raise VideoRejectedError(RejectCode.NO_FACE, f"no face in {looked_at} searched frames")
    found: list[FaceClips] = []
    rejections: list[VideoRejectedError] = []
    for face in seen.faces if spec.most_faces > 1 else seen.faces[:1]:
        try:
            found.append(_cut_face(face, seen, spec, looked_at))
        except VideoRejectedError as rejected:
            rejections.append(rejected)
        if len(found) == spec.most_faces:
            break
    if not found:
        raise rejections[0]
    return found


def _cut_face(face: FaceTrack, seen: _Seen, spec: ClipSpec, looked_at: int) -> FaceClips:
    """Crop a face in up to ``C * T`` frames, spread evenly over the frames in which it was found.

    Where several faces are cropped, fewer clips do.
    """
    least = spec.num_frames if spec.most_faces > 1 else spec.frames_wanted
    if face.num_frames < least:
        detail = f"the face is in {face.num_frames} of {looked_at} searched frames, {least} are needed"
        raise VideoRejectedError(RejectCode.FACE_TOO_BRIEF, detail)
    known = [
        (seen.batches[at], part, row) for at, part in face.parts.items() for row in range(len(part.frames))
    ]
    known.sort(key=lambda item: float(item[0].pts_s[item[1].frames[item[2]]]))
    num_clips = min(spec.num_clips, len(known) // spec.num_frames)
    places = np.linspace(0, len(known) - 1, num_clips * spec.num_frames).round().astype(int)
    chosen = [known[place] for place in places]
    boxes = np.stack([part.boxes_xyxy[row] for _, part, row in chosen])
    side = float(np.median((boxes[:, 2:] - boxes[:, :2]).max(axis=1)))
    if side < spec.min_face_px:
        detail = f"the face has {side:.0f} pixels, at least {spec.min_face_px} are needed"
        raise VideoRejectedError(RejectCode.FACE_TOO_SMALL, detail)
    crops = [_crop(batch.rgb[part.frames[row]], part, row, spec) for batch, part, row in chosen]
    turns, size = seen.turns or 0, seen.batches[0].size
    corners = as_shown(boxes.reshape(-1, 2, 2), turns, size)
    return FaceClips(
        crops=np.stack(crops).reshape(num_clips, *spec.shape[1:]),
        pts_s=np.array([batch.pts_s[part.frames[row]] for batch, part, row in chosen]),
        boxes_xyxy=np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1),
        landmarks=as_shown(np.stack([part.landmarks[row] for _, part, row in chosen]), turns, size),
        face_score=float(np.mean([part.scores[row] for _, part, row in chosen])),
    )


def _crop(rgb: Frame, part: RunTrack, row: int, spec: ClipSpec) -> Frame:
    if spec.align == "generator":
        return crop_aligned(rgb, part.landmarks[row], size=spec.crop_size)
    return crop_face(rgb, part.boxes_xyxy[row], size=spec.crop_size, margin=spec.margin)
