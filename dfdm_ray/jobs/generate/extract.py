"""Faces of one video: landmarks of the subject in every frame, and aligned faces for training.

The detector sees every frame, because conversion pastes a face into every frame.
"""

from collections.abc import Iterator
from itertools import islice

import numpy as np

from dfdm_ray.errors import RejectCode, VideoRejectedError
from dfdm_ray.faces.alignment import FACE_SPAN_MFU, align_face, crop_matrix, smooth_landmarks
from dfdm_ray.faces.detector import Detections, FaceDetector, Frame
from dfdm_ray.io.lending import OpenedFile
from dfdm_ray.jobs.generate.faces import Landmarks, Subject
from dfdm_ray.video.decode import VideoReader

_CROWDED_FRACTION = 0.1
"""A video is rejected if a larger share of its frames has several faces of similar size."""
_JUMP = 1.5
"""Largest move of the subject's centre from one frame to the next, in eye distances."""
_AT_ONCE = 16
"""Frames after which the faces found in them are given away."""

_UNSEEN = np.full((5, 2), np.nan, np.float32)


def find_faces(
    video: str | OpenedFile, detector: FaceDetector, *, size_px: int, max_frames: int, smoothing: float
) -> Iterator[list[Frame] | Subject]:
    """Find the subject in the first ``max_frames`` frames of a video; yield its faces, then the subject.

    The faces come in lists, one for every few frames: aligned, RGB, ``FACE_SPAN_MFU`` wide. ``size_px`` is
    their side, ``smoothing`` the strength of :func:`smooth_landmarks`.

    Raises:
        VideoRejectedError: If the video cannot be read, has no face, or has several faces of similar size.
    """
    found: list[Detections] = []
    landmarks: list[Landmarks] = []
    times_s: list[float] = []
    faces: list[Frame] = []
    last: Landmarks | None = None
    with VideoReader(video) as reader:
        for frame in islice(reader.read_onwards(), max_frames):
            (looked,) = detector.detect([frame.rgb[0]])
            last = _follow(looked, last)
            found.append(looked)
            landmarks.append(_UNSEEN if last is None else last)
            times_s.append(float(frame.pts_s[0]))
            if last is not None:
                matrix = crop_matrix(last, size=size_px, span_mfu=FACE_SPAN_MFU)
                faces.append(align_face(frame.rgb[0], matrix, size_px))
            if len(found) % _AT_ONCE == 0:
                yield faces
                faces = []
    yield faces
    _require_one_face(found)
    marks = np.stack(landmarks)
    seen = np.flatnonzero(np.isfinite(marks[:, 0, 0]))
    for stretch in np.split(seen, np.flatnonzero(np.diff(seen) > 1) + 1):
        marks[stretch] = smooth_landmarks(marks[stretch], smoothing)
    yield Subject(landmarks=marks, times_s=np.array(times_s))


def _follow(found: Detections, last: Landmarks | None) -> Landmarks | None:
    """Return the landmarks nearest to those of the last frame; after a gap, those of the largest face."""
    if not len(found):
        return None
    if last is None:
        sides = (found.boxes_xyxy[:, 2:] - found.boxes_xyxy[:, :2]).max(axis=1)
        largest: Landmarks = found.landmarks[int(sides.argmax())]
        return largest
    distances = np.linalg.norm(found.landmarks.mean(axis=1) - last.mean(axis=0), axis=1)
    nearest = int(distances.argmin())
    eyes = float(np.linalg.norm(last[0] - last[1]))
    if distances[nearest] > _JUMP * eyes:
        return None
    points: Landmarks = found.landmarks[nearest]
    return points


def _require_one_face(found: list[Detections]) -> None:
    if not found:
        raise VideoRejectedError(RejectCode.DECODE_ERROR, "no frame could be decoded")
    if not any(map(len, found)):
        raise VideoRejectedError(RejectCode.NO_FACE, f"no face in {len(found)} frames")
    crowded = [number for number in map(_num_comparable, found) if number > 1]
    if len(crowded) > _CROWDED_FRACTION * len(found):
        detail = f"up to {max(crowded)} faces of similar size in {len(crowded)} of {len(found)} frames"
        raise VideoRejectedError(RejectCode.SEVERAL_FACES, detail)


def _num_comparable(found: Detections) -> int:
    """Return the number of faces at least half as large as the largest."""
    sides = (found.boxes_xyxy[:, 2:] - found.boxes_xyxy[:, :2]).max(axis=1, initial=0)
    return int((sides >= sides.max(initial=0) / 2).sum())
