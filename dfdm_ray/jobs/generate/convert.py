"""Conversion of a scene: align, draw and paste back each face, and encode once per quality.

Frames are read in parts: memory does not grow with the length of the scene.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import torch

from dfdm_ray.faces.alignment import Matrix, Spans, align_face, crop_centre_mfu, crop_matrix
from dfdm_ray.faces.detector import Frame
from dfdm_ray.generators.augment import even_faces, input_mask
from dfdm_ray.generators.base import Side, SwapAutoencoder
from dfdm_ray.generators.blend import Floats, paste_face
from dfdm_ray.generators.masks import render_conversion_mask
from dfdm_ray.jobs.generate.faces import Landmarks, Subject, Times
from dfdm_ray.video.decode import VideoReader
from dfdm_ray.video.encode import QualityWriter
from dfdm_ray.video.frames import FrameBatch
from dfdm_ray.video.plan import Run

SYNTHETIC = "synthetic face swap made by dfdm-ray for forensics research"
REAL = "real video, not swapped, re-encoded by dfdm-ray"
_BATCH = 8
_PART_BYTES = 150 * 2**20
"""Frames that are decoded at once from a key frame, as RGB: a scene of 100 frames of 942x500."""


@dataclass(frozen=True, kw_only=True)
class FaceSwapper:
    """Draws the face of side ``to`` in frames of the other side."""

    network: SwapAutoencoder
    """A trained network on the CPU."""
    to: Side
    spans: Spans
    """The crop has the span of conversion, the mask that of training."""
    even_inputs: bool = False
    """As in training."""

    @torch.inference_mode()
    def __call__(self, frames: list[Frame], landmarks: Landmarks) -> list[Frame]:
        """Return the frames ``(H, W, 3)`` swapped; their landmarks have shape ``(n, 5, 2)``, pixels."""
        size, drawn_size = self.network.input_size, self.network.output_size
        matrices = [crop_matrix(marks, size=size, span_mfu=self.spans.convert_mfu) for marks in landmarks]
        crops = [align_face(frame, matrix, size) for frame, matrix in zip(frames, matrices, strict=True)]
        x_BCHW = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 255
        if self.even_inputs:
            x_BCHW = even_faces(x_BCHW, input_mask(size, span_mfu=self.spans.convert_mfu))
        faces = self.network(x_BCHW, self.to).permute(0, 2, 3, 1).numpy()
        matrices = [matrix * (drawn_size / size) for matrix in matrices]
        return paste_faces(frames, faces, matrices, landmarks, mask_mfu=self.spans.train_mfu)


def paste_faces(
    frames: Sequence[Frame],
    faces: Iterable[Floats],
    matrices: Sequence[Matrix],
    landmarks: Landmarks,
    *,
    mask_mfu: float,
) -> list[Frame]:
    """Return the frames with a face pasted into each, ``(S, S, 3)``, 0..1.

    Args:
        matrices: From each frame to its face.
        mask_mfu: Width of the mask.
    """
    swapped = []
    for frame, face, matrix, marks in zip(frames, faces, matrices, landmarks, strict=True):
        centre = crop_centre_mfu(marks.astype(np.float64))
        mask = render_conversion_mask(len(face), span_mfu=mask_mfu, centre=centre)
        swapped.append(paste_face(frame, face, matrix, mask))
    return swapped


class SceneSource(NamedTuple):
    """The frames of a scene, one at a time, and the unit and rate of their times."""

    frames: Iterator[FrameBatch]
    time_base: Fraction
    rate: Fraction


def encode_scene(
    source: SceneSource,
    span: range,
    paths: Mapping[int, Path],
    *,
    swapper: Callable[[list[Frame], Landmarks], list[Frame]] | None,
    subject: Subject,
) -> None:
    """Encode the frames ``span`` of a video to ``paths``, by crf; without a swapper, unchanged.

    The frame rate and times are those of the video; sound is left out.

    Raises:
        ValueError: If the video ends before the span.
    """
    metadata = {"comment": REAL if swapper is None else SYNTHETIC}
    frames, time_base, rate = source
    first = next(frames, None)
    if first is None:
        raise ValueError(f"the video has no frame {span.start}")
    height, width = first.rgb.shape[1:3]
    with QualityWriter(
        paths, size=(width, height), time_base=time_base, rate=rate, metadata=metadata
    ) as writer:
        rest, start = chain([first], frames), span.start
        while batch := list(islice(rest, _BATCH)):
            images = [one.rgb[0] for one in batch]
            if swapper is not None:
                images = swapper(images, subject.landmarks[start : start + len(batch)])
            for one, image in zip(batch, images, strict=True):
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts = round(float(one.pts_s[0] - first.pts_s[0]) / time_base)
                writer.write(frame)
            start += len(batch)


def scene_frames(reader: VideoReader, span: range, times_s: Times | None) -> Iterator[FrameBatch]:
    """Yield the frames ``span`` of a video, one at a time, decoded from the key frame before each part.

    Args:
        times_s: Times of all frames of the video, which show that the right ones were decoded. If they are
            unknown or do not match, as in a damaged file, the video is decoded from its start.
    """
    start = span.start
    key = None if times_s is None else _key_before(reader, start, times_s)
    while key is not None and times_s is not None and start < span.stop:
        stop = min(span.stop, start + max(_BATCH, _PART_BYTES // key.frame_bytes))
        run = Run(key=key.packet, offsets=tuple(number - key.frame for number in range(start, stop)))
        found = reader.read_run(run)
        if found is None or not np.array_equal(found.pts_s, times_s[start:stop]):
            break
        for one in range(stop - start):
            yield FrameBatch(rgb=found.rgb[one][None], pts_s=found.pts_s[one : one + 1])
        start = stop
    if start < span.stop:
        yield from islice(reader.read_onwards(), start, span.stop)


class _Key(NamedTuple):
    """A key frame: its packet, its number in order of presentation, and its size as RGB."""

    packet: int
    frame: int
    frame_bytes: int


def _key_before(reader: VideoReader, frame: int, times_s: Times) -> _Key | None:
    """Return the key frame nearest before ``frame``, if it is found."""
    keys = reader.index.keys
    for key in keys[keys - keys[:1] <= frame][::-1][:2].tolist():  # that of an open GOP may be shown later
        found = reader.read_run(Run(key=key, offsets=(0,)))
        numbers = [] if found is None else np.flatnonzero(times_s == found.pts_s[0]).tolist()
        if found is not None and len(numbers) == 1 and numbers[0] <= frame:
            return _Key(key, numbers[0], found.rgb[0].nbytes)
    return None
