"""Conversion of a scene: align, draw and paste back each face, and encode once per quality.

Frames are streamed: memory does not grow with the length of the scene.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import av
import numpy as np
import torch

from dfdm_ray.faces.alignment import Spans, align_face, crop_centre_mfu, crop_matrix
from dfdm_ray.faces.detector import Frame
from dfdm_ray.generators.base import Side, SwapAutoencoder
from dfdm_ray.generators.blend import paste_face
from dfdm_ray.generators.masks import render_conversion_mask
from dfdm_ray.jobs.generate.extract import Landmarks
from dfdm_ray.video.decode import VideoReader
from dfdm_ray.video.encode import QualityWriter

SYNTHETIC = "synthetic face swap made by dfdm-ray for forensics research"
REAL = "real video, not swapped, re-encoded by dfdm-ray"
_BATCH = 8


@dataclass(frozen=True, kw_only=True)
class FaceSwapper:
    """Draws the face of side ``to`` in frames of the other side."""

    network: SwapAutoencoder
    """A trained network on the CPU."""
    to: Side
    spans: Spans
    """The crop has the span of conversion, the mask that of training."""

    @torch.inference_mode()
    def __call__(self, frames: list[Frame], landmarks: Landmarks) -> list[Frame]:
        """Return the frames ``(H, W, 3)`` swapped; their landmarks have shape ``(n, 5, 2)``, pixels."""
        size, drawn_size = self.network.input_size, self.network.output_size
        matrices = [crop_matrix(marks, size=size, span_mfu=self.spans.convert_mfu) for marks in landmarks]
        crops = [align_face(frame, matrix, size) for frame, matrix in zip(frames, matrices, strict=True)]
        x_BCHW = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 255
        faces = self.network(x_BCHW, self.to).permute(0, 2, 3, 1).numpy()
        swapped = []
        for frame, face, matrix, marks in zip(frames, faces, matrices, landmarks, strict=True):
            centre = crop_centre_mfu(marks.astype(np.float64))
            mask = render_conversion_mask(drawn_size, span_mfu=self.spans.train_mfu, centre=centre)
            swapped.append(paste_face(frame, face, matrix * (drawn_size / size), mask))
        return swapped


def encode_scene(
    uri: str, span: range, paths: Mapping[int, Path], *, swapper: FaceSwapper | None, landmarks: Landmarks
) -> None:
    """Encode the frames ``span`` of a video to ``paths``, by crf; without a swapper, unchanged.

    The frame rate and times are those of the video; sound is left out. ``landmarks`` are those of the whole
    video, shape ``(N, 5, 2)``, pixels.

    Raises:
        ValueError: If the video ends before the span.
    """
    metadata = {"comment": REAL if swapper is None else SYNTHETIC}
    with VideoReader(uri) as reader:
        frames = islice(reader.read_onwards(), span.start, span.stop)
        first = next(frames, None)
        if first is None:
            raise ValueError(f"{uri} has no frame {span.start}")
        height, width = first.rgb.shape[1:3]
        time_base = reader.time_base
        with QualityWriter(
            paths, size=(width, height), time_base=time_base, rate=reader.rate, metadata=metadata
        ) as writer:
            rest, start = chain([first], frames), span.start
            while batch := list(islice(rest, _BATCH)):
                images = [one.rgb[0] for one in batch]
                if swapper is not None:
                    images = swapper(images, landmarks[start : start + len(batch)])
                for one, image in zip(batch, images, strict=True):
                    frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                    frame.pts = round(float(one.pts_s[0] - first.pts_s[0]) / time_base)
                    writer.write(frame)
                start += len(batch)
