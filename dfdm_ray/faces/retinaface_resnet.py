"""RetinaFace with a ResNet-50 trunk: the network of ``retinaface-pytorch``, batched."""

import io
import zipfile
from collections.abc import Sequence

import numpy as np
import torch

from dfdm_ray.errors import UserError
from dfdm_ray.faces.detector import Frame, RawOutputs, RetinaFace

# ImageNet statistics of 0..255 RGB, with which that package normalises (defaults of albumentations).
_MEAN_RGB = np.array([0.485, 0.456, 0.406], dtype=np.float32) * 255
_STD_RGB = np.array([0.229, 0.224, 0.225], dtype=np.float32) * 255


class ResNetRetinaFace(RetinaFace):
    """RetinaFace with the state dict of ``retinaface.network.RetinaFace`` in ``weights``, a torch file.

    Raises:
        UserError: If the package is missing or the weights have other keys.
    """

    name = "resnet50"

    def __init__(self, weights: bytes, *, max_side: int, score_threshold: float) -> None:
        super().__init__(max_side=max_side, score_threshold=score_threshold)
        self._network = _network(weights)

    @torch.inference_mode()
    def _outputs(self, frames: Sequence[Frame]) -> RawOutputs:
        rgb = (np.stack(frames).astype(np.float32) - _MEAN_RGB) / _STD_RGB
        boxes, classes, landmarks = self._network(torch.from_numpy(rgb).permute(0, 3, 1, 2))
        return RawOutputs(
            box_deltas=boxes.numpy(),
            scores=classes.softmax(dim=-1)[..., 1].numpy(),
            landmark_deltas=landmarks.numpy(),
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
        if zipfile.is_zipfile(io.BytesIO(weights)):
            with zipfile.ZipFile(io.BytesIO(weights)) as archive:
                if len(archive.namelist()) == 1:  # as published; files of torch.save are zips of several
                    weights = archive.read(archive.namelist()[0])
        file = io.BytesIO(weights)
        network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"the resnet50 weights do not load: {reason}") from error
    return network.eval()
