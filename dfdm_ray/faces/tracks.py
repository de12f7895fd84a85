"""Face tracks of a video, and the choice of its subject.

Detections are linked by overlap inside a run of consecutive frames, up to a cut, and boxes between them are
interpolated. The tracks of separate runs, which may be minutes apart, are joined by place and size. Faces
that do not look alike stay apart: after a cut, another person may be at the same place.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from dfdm_ray.faces.cuts import cuts, thumbnail
from dfdm_ray.faces.detector import Detections, FaceDetector, Floats, Frame
from dfdm_ray.faces.follow import followed
from dfdm_ray.faces.looks import Look, alike, alike_anywhere, face_look
from dfdm_ray.video.frames import FrameBatch

_LINK_IOU = 0.3
"""Smallest overlap of one face in two frames of a run."""
_JOIN_DISTANCE = 1.0
"""Largest distance of one face in two runs, in box sides."""
_JOIN_SIZE_RATIO = 2.0


@dataclass(frozen=True, kw_only=True, eq=False)
class RunTrack:
    """One face over ``n`` frames of a run; row ``i`` of all arrays is one frame."""

    frames: npt.NDArray[np.int64]
    """Position of each frame in the run, ascending, no gaps after :func:`interpolate`; shape ``(n,)``."""
    boxes_xyxy: Floats
    """Shape ``(n, 4)``, pixels."""
    landmarks: Floats
    """Shape ``(n, 5, 2)``, pixels."""
    scores: Floats
    """Shape ``(n,)``, 0..1."""
    look: Look
    """Look of the face in its first frame."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceTrack:
    """One face over the runs of a video: at most one track in each run."""

    parts: Mapping[int, RunTrack]
    """By position of the run."""

    @property
    def num_frames(self) -> int:
        """Number of frames in which the face is known."""
        return sum(len(part.frames) for part in self.parts.values())


def iou(a_xyxy: Floats, b_xyxy: Floats) -> Floats:
    """Return the overlap (IoU) of every pair of boxes, ``(N, M)`` from ``(N, 4)`` and ``(M, 4)``."""
    low = np.maximum(a_xyxy[:, None, :2], b_xyxy[None, :, :2])
    high = np.minimum(a_xyxy[:, None, 2:], b_xyxy[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=2)
    area_a, area_b = (np.prod(box[:, 2:] - box[:, :2], axis=1) for box in (a_xyxy, b_xyxy))
    union = area_a[:, None] + area_b[None, :] - shared
    overlap: Floats = (shared / np.maximum(union, 1e-9)).astype(np.float32)
    return overlap


def find_tracks(batch: FrameBatch, detector: FaceDetector, *, every: int) -> list[RunTrack]:
    """Return the face tracks of a run of frames; a cut ends them.

    Every ``every``-th frame and the last are looked at. In every second one of these, the faces of the one
    before are followed; where that fails, and in the others, they are detected. If there are faces but none
    from the first frame to the last, a face came or went in between, and they are detected in all frames.
    After a cut, this begins anew. If faces go on, a change of the picture behind them, such as a caption, is
    no cut.
    """
    pictures = [thumbnail(frame) for frame in batch.rgb]
    tracks = _tracks_of_shot(batch, range(len(batch)), pictures, detector, every)
    ends = [at for at in cuts(pictures, batch.pts_s) if any(_is_cut(track, at, batch) for track in tracks)]
    if not ends:
        return tracks
    shots = [range(start, end) for start, end in pairwise([0, *ends, len(batch)])]
    return [track for shot in shots for track in _tracks_of_shot(batch, shot, pictures, detector, every)]


def _is_cut(track: RunTrack, at: int, batch: FrameBatch) -> bool:
    """Whether a track goes from the frame before ``at`` to this frame although its face does not."""
    row = at - 1 - int(track.frames[0])
    if not 0 <= row < len(track.frames) - 1:
        return False
    face = Detections(
        boxes_xyxy=track.boxes_xyxy[[row]], scores=track.scores[[row]], landmarks=track.landmarks[[row]]
    )
    return followed(batch.rgb[at - 1], batch.rgb[at], face) is None


def _tracks_of_shot(
    batch: FrameBatch, shot: range, pictures: Sequence[Frame], detector: FaceDetector, every: int
) -> list[RunTrack]:
    looked = sorted({*shot[::every], shot[-1]})
    detections = _detect(batch, detector, looked[::2])
    for before, frame in zip(looked[::2], looked[1::2], strict=False):
        if found := followed(batch.rgb[before], batch.rgb[frame], detections[before]):
            detections[frame] = found
    if lost := [frame for frame in looked if frame not in detections]:
        detections |= _detect(batch, detector, lost)
    tracks = _linked(batch, pictures, detections)
    if tracks and max(len(track.frames) for track in tracks) < len(shot):
        rest = [frame for frame in shot if frame not in detections]
        tracks = _linked(batch, pictures, detections | _detect(batch, detector, rest)) if rest else tracks
    return tracks


def _linked(
    batch: FrameBatch, pictures: Sequence[Frame], detections: dict[int, Detections]
) -> list[RunTrack]:
    looks = {
        frame: [Look(face_look(batch.rgb[frame], box), pictures[frame]) for box in found.boxes_xyxy]
        for frame, found in detections.items()
    }
    return link(detections, looks)


def _detect(batch: FrameBatch, detector: FaceDetector, frames: list[int]) -> dict[int, Detections]:
    return dict(zip(frames, detector.detect([batch.rgb[frame] for frame in frames]), strict=True))


def link(detections: Mapping[int, Detections], looks: Mapping[int, Sequence[Look]]) -> list[RunTrack]:
    """Link the detections of one run, by position of the frame, greedily by overlap from frame to frame.

    ``looks`` are those of the detections; a face is linked only if it looks like the first of its track.
    """
    tracks: list[list[tuple[int, int]]] = []
    previous: list[tuple[int, int]] = []  # (track, detection) in the frame before
    earlier = -1
    for frame in sorted(detections):
        now = detections[frame]
        current: list[tuple[int, int]] = []
        free = set(range(len(now)))
        if previous and len(now):
            last = detections[earlier].boxes_xyxy[[face for _, face in previous]]
            overlap = iou(last, now.boxes_xyxy)
            for pair in np.argsort(-overlap, axis=None).tolist():
                row, face = divmod(pair, len(now))
                track = previous[row][0]
                if overlap[row, face] < _LINK_IOU or face not in free or track in {t for t, _ in current}:
                    continue
                first, at = tracks[track][0]
                if alike(looks[first][at].colours, looks[frame][face].colours):
                    current.append((track, face))
                    free.remove(face)
        for face in sorted(free):
            current.append((len(tracks), face))
            tracks.append([])
        for track, face in current:
            tracks[track].append((frame, face))
        previous, earlier = current, frame
    return [interpolate(track, detections, looks[track[0][0]][track[0][1]]) for track in tracks]


def interpolate(
    faces: Sequence[tuple[int, int]], detections: Mapping[int, Detections], look: Look
) -> RunTrack:
    """Interpolate linearly between the detections ``(frame, face)`` of one track with this ``look``."""
    seen = np.array([frame for frame, _ in faces], dtype=np.int64)
    frames = np.arange(seen[0], seen[-1] + 1)

    def fill(values: list[Floats]) -> Floats:
        flat = np.stack(values).reshape(len(values), -1)
        lines = [np.interp(frames, seen, column) for column in flat.T]
        return np.stack(lines, axis=1).astype(np.float32).reshape(len(frames), *values[0].shape)

    return RunTrack(
        frames=frames,
        boxes_xyxy=fill([detections[frame].boxes_xyxy[face] for frame, face in faces]),
        landmarks=fill([detections[frame].landmarks[face] for frame, face in faces]),
        scores=fill([detections[frame].scores[face] for frame, face in faces]),
        look=look,
    )


def join(runs: Sequence[Sequence[RunTrack]]) -> list[FaceTrack]:
    """Join tracks of separate runs into face tracks if their places, sizes and looks are near."""
    faces: list[dict[int, RunTrack]] = []
    for position, tracks in enumerate(runs):
        for track in sorted(tracks, key=lambda track: -_side(track)):
            free = [face for face in faces if position not in face]
            near = [
                (distance, face)
                for face in free
                if (distance := _distance(face[max(face)], track)) is not None
            ]
            if near:
                min(near, key=lambda pair: pair[0])[1][position] = track
            else:
                faces.append({position: track})
    return [FaceTrack(parts=face) for face in faces]


def _side(track: RunTrack) -> float:
    """Return the mean longer side of the boxes, pixels."""
    return float((track.boxes_xyxy[:, 2:] - track.boxes_xyxy[:, :2]).max(axis=1).mean())


def _centre(track: RunTrack) -> Floats:
    centre: Floats = ((track.boxes_xyxy[:, :2] + track.boxes_xyxy[:, 2:]) / 2).mean(axis=0)
    return centre


def _distance(a: RunTrack, b: RunTrack) -> float | None:
    """Return the distance of two tracks in box sides, or ``None`` if they cannot be one face."""
    smaller, larger = sorted((_side(a), _side(b)))
    distance = float(np.linalg.norm(_centre(a) - _centre(b))) / max((smaller + larger) / 2, 1e-9)
    near = distance <= _JOIN_DISTANCE and larger <= _JOIN_SIZE_RATIO * smaller
    return distance if near and alike_anywhere(a.look, b.look) else None


def choose_subject(faces: Sequence[FaceTrack], *, frame_size: tuple[int, int]) -> FaceTrack | None:
    """Return the longest, largest, most central face, or ``None`` if there is none, see :func:`by_weight`."""
    return next(iter(by_weight(faces, frame_size=frame_size)), None)


def by_weight(faces: Sequence[FaceTrack], *, frame_size: tuple[int, int]) -> list[FaceTrack]:
    """Return the faces, the longest, largest, most central first.

    The weight of a face is the sum over its frames of its size times its centrality, which falls from 1 in
    the middle of the frame to 0.5 in a corner. ``frame_size`` is the height and width in pixels.
    """
    middle = np.array([frame_size[1], frame_size[0]]) / 2

    def weight(part: RunTrack) -> float:
        from_middle = float(np.linalg.norm(_centre(part) - middle) / np.linalg.norm(middle))
        return len(part.frames) * _side(part) * (1 - 0.5 * min(from_middle, 1.0))

    return sorted(faces, key=lambda face: -sum(map(weight, face.parts.values())))
