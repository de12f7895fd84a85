"""RetinaFace with a ResNet-50 trunk: the network of ``retinaface-pytorch``, batched, on CPU or GPU."""

import io
import zipfile
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from dfdm_ray.errors import UserError
from dfdm_ray.faces.detector import Detections, Frame, RawOutputs, decode_outputs, look_closer, shrink

# ImageNet statistics of 0..255 RGB, which that package normalises with (albumentations' defaults).
_MEAN_RGB = np.array([0.485, 0.456, 0.406], dtype=np.float32) * 255
_STD_RGB = np.array([0.229, 0.224, 0.225], dtype=np.float32) * 255


class ResNetRetinaFace:
    """A :class:`~dfdm_ray.faces.detector.FaceDetector` on ``device``.

    Args:
        weights: A state dict of ``retinaface.network.RetinaFace``, as a torch file.
        max_side: Frames are shrunk to this longest side, in pixels; if no face shows, to twice that.
        score_threshold: Lowest score kept, 0..1.
        device: Torch device.

    Raises:
        UserError: If the package is missing or the weights have other keys.
    """

    name = "resnet50"

    def __init__(self, weights: bytes, *, max_side: int, score_threshold: float, device: str = "cpu") -> None:
        self._device = torch.device(device)
        self._network = _network(weights).to(self._device)
        self._max_side = max_side
        self._score_threshold = score_threshold

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        """Return the faces of each frame; frames are ``(H, W, 3)`` uint8 RGB, all of one size."""
        return look_closer(partial(self._look, frames), frames, max_side=self._max_side)

    @torch.inference_mode()
    def _look(self, frames: Sequence[Frame], max_side: int) -> list[Detections]:
        shrunk = [shrink(frame, max_side) for frame in frames]
        rgb = (np.stack([frame for frame, _ in shrunk]).astype(np.float32) - _MEAN_RGB) / _STD_RGB
        x = torch.from_numpy(rgb).to(self._device).permute(0, 3, 1, 2)
        boxes, classes, landmarks = self._network(x)
        outputs = RawOutputs(
            box_deltas=boxes.cpu().numpy(),
            scores=classes.softmax(dim=-1)[..., 1].cpu().numpy(),
            landmark_deltas=landmarks.cpu().numpy(),
        )
        return decode_outputs(
            outputs, size=rgb.shape[1:3], scale=shrunk[0][1], threshold=self._score_threshold
        )


def _network(weights: bytes) -> torch.nn.Module:
    try:
        from retinaface.network import RetinaFace
    except ImportError as error:
        raise UserError(
            "the resnet50 face detector needs `pip install --no-deps retinaface-pytorch==0.0.8`"
        ) from error
    network: torch.nn.Module = RetinaFace(
        name="Resnet50",
        pretrained=False,
        return_layers={"layer2": 1, "layer3": 2, "layer4": 3},
        in_channels=256,
        out_channels=256,
    )
    try:
        file = io.BytesIO(_unzipped(weights))
        network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"the resnet50 face detector's weights do not load: {reason}") from error
    return network.eval()


def _unzipped(weights: bytes) -> bytes:
    """Return the one file in a zip, the way the weights are published, or else ``weights`` as they are."""
    if not zipfile.is_zipfile(io.BytesIO(weights)):
        return weights
    with zipfile.ZipFile(io.BytesIO(weights)) as archive:
        names = archive.namelist()
        return archive.read(names[0]) if len(names) == 1 else weights  # torch's own files are zips of several
