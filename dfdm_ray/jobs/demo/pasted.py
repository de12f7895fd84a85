"""Swaps by something that is no class: a real face of one person, pasted into scenes of another.

Alignment, colours and blending are those of ``generate``, but no network draws the face.
"""

from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import numpy as np

from dfdm_ray.faces.alignment import FACE_SPAN_MFU, crop_matrix
from dfdm_ray.faces.detector import Frame
from dfdm_ray.io.images import Image
from dfdm_ray.jobs.generate import convert
from dfdm_ray.jobs.generate.convert import SceneSource, encode_scene
from dfdm_ray.jobs.generate.faces import Landmarks, read_faces, read_subject
from dfdm_ray.video.decode import VideoReader

METHOD = "pasted"
"""Name of the method, which is no class of the model."""
CRF = 10
_SCENES = 2
_FACE = 20
"""Number of the face that is pasted, among those of its video."""


@dataclass(frozen=True, kw_only=True)
class PastedFace:
    """Puts one picture of a face into every frame."""

    face: Image
    """Aligned, RGB, shape ``(S, S, 3)``, :data:`FACE_SPAN_MFU` wide."""

    def __call__(self, frames: list[Frame], landmarks: Landmarks) -> list[Frame]:
        """Return the frames ``(H, W, 3)`` swapped; their landmarks have shape ``(n, 5, 2)``, pixels."""
        matrices = [crop_matrix(marks, size=len(self.face), span_mfu=FACE_SPAN_MFU) for marks in landmarks]
        faces = repeat(np.divide(self.face, 255, dtype=np.float32), len(frames))
        return convert.paste_faces(frames, faces, matrices, landmarks, mask_mfu=FACE_SPAN_MFU)


def paste_into(video: str, faces: Path, source: Path, out: Path, *, scene_frames: int) -> list[Path]:
    """Write swaps of the last scenes of ``video`` to ``out`` and return their paths.

    Args:
        faces: What ``generate`` found in the video.
        source: What it found in a video of the other person.
    """
    subject = read_subject(faces)
    swapper = PastedFace(face=read_faces(source)[_FACE])
    made = []
    for number, span in enumerate(subject.scenes(scene_frames)[-_SCENES:]):
        path = out / f"{faces.stem}_with_{source.stem}_{number}.mp4"
        made.append(path)
        if path.exists():
            continue
        with VideoReader(video) as reader:
            frames = convert.scene_frames(reader, span, subject.times_s)
            scene = SceneSource(frames=frames, time_base=reader.time_base, rate=reader.rate)
            encode_scene(scene, span, {CRF: path}, swapper=swapper, subject=subject)
    return made
