"""Put a generator's faces into a scene: align, predict, blend, paste back, encode once per quality.

Frames stream through: memory does not grow with the scene.
"""

from collections.abc import Iterator, Mapping
from itertools import chain, islice
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import torch

from dfdm_ray.faces.detector import Frame
from dfdm_ray.generators.alignment import align_face, crop_centre_mfu, crop_matrix
from dfdm_ray.generators.blend import paste_face
from dfdm_ray.generators.masks import render_conversion_mask
from dfdm_ray.generators.swap_autoencoder import Side, SwapAutoencoder
from dfdm_ray.video.decode import VideoReader
from dfdm_ray.video.encode import QualityWriter
from dfdm_ray.video.frames import FrameBatch

SYNTHETIC = "synthetic face swap made by dfdm-ray for forensics research"
REAL = "real video, not swapped, re-encoded by dfdm-ray"
_BATCH = 8

Landmarks = npt.NDArray[np.float32]


class FaceSwapper:
    """Draws side ``b``'s face in place of side ``a``'s, or the other way round.

    Args:
        network: A trained generator.
        to: Whose face goes in.
        train_span_mfu: Width of the crop the network was trained on, mean-face units; the mask is this wide.
        span_mfu: Width of the crop it sees now: narrower in the faithful mode, as faceswap had it.
        device: Torch device.
    """

    def __init__(
        self, network: SwapAutoencoder, *, to: Side, train_span_mfu: float, span_mfu: float, device: str
    ) -> None:
        self._network = network.to(device).eval()
        self._to: Side = to
        self._span_mfu = span_mfu
        self._device = device
        self._train_span_mfu = train_span_mfu

    def __call__(self, frames: list[Frame], landmarks: Landmarks) -> list[Frame]:
        """Return the frames ``(H, W, 3)`` swapped; ``landmarks`` are theirs, ``(n, 5, 2)``, pixels."""
        sizes = self._network.input_size, self._network.output_size
        crops = [
            align_face(frame, crop_matrix(marks, size=sizes[0], span_mfu=self._span_mfu), sizes[0])
            for frame, marks in zip(frames, landmarks, strict=True)
        ]
        return [
            paste_face(
                frame, face, crop_matrix(marks, size=sizes[1], span_mfu=self._span_mfu), self._mask(marks)
            )
            for frame, face, marks in zip(frames, self._predict(crops), landmarks, strict=True)
        ]

    def _mask(self, marks: Landmarks) -> Landmarks:
        """Return the face mask of one frame, centred by the head's pose as its crop is, ``(S, S)``."""
        centre = crop_centre_mfu(marks.astype(np.float64))
        return render_conversion_mask(self._network.output_size, span_mfu=self._train_span_mfu, centre=centre)

    @torch.inference_mode()
    def _predict(self, crops: list[Frame]) -> npt.NDArray[np.float32]:
        x = torch.from_numpy(np.stack(crops)).to(self._device).permute(0, 3, 1, 2).float() / 255
        faces: npt.NDArray[np.float32] = self._network(x, self._to).permute(0, 2, 3, 1).cpu().numpy()
        return faces


def encode_scene(
    uri: str, span: range, paths: Mapping[int, Path], *, swapper: FaceSwapper | None, landmarks: Landmarks
) -> None:
    """Encode the frames ``span`` of a video at every quality, swapped or as they are.

    Frame rate and times are the source's; sound is left out.

    Args:
        uri: The video.
        span: Frame numbers.
        paths: Where the encodings go, by crf.
        swapper: Changes the frames; ``None`` keeps them.
        landmarks: Of the video's frames, shape ``(N, 5, 2)``, pixels.

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
            start = span.start
            for batch in _batches(chain([first], frames)):
                rgb = [one.rgb[0] for one in batch]
                if swapper is not None:
                    rgb = swapper(rgb, landmarks[start : start + len(batch)])
                for one, image in zip(batch, rgb, strict=True):
                    frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                    frame.pts = round(float(one.pts_s[0] - first.pts_s[0]) / time_base)
                    writer.write(frame)
                start += len(batch)


def _batches(frames: Iterator[FrameBatch]) -> Iterator[list[FrameBatch]]:
    while batch := list(islice(frames, _BATCH)):
        yield batch
