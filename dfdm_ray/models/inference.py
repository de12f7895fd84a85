"""Scorer of batches of face-crop clips on one device."""

import copy
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from dfdm_ray.errors import UserError
from dfdm_ray.io.memory import keep_freed_memory
from dfdm_ray.models.checkpoint import LoadedModel
from dfdm_ray.models.dma_sta import ClipNetwork, DmaStaOutput, normalize

Precision = Literal["fp32", "bf16"]

_KEPT_BYTES = 2**30
"""Memory to keep; the result of one layer for four clips has 128 MB."""

_PAIRS = (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"), ("0", "1"))
"""Names of a convolution and its batch norm in torchvision's ResNets; the last pair is that of a shortcut."""


def computes_in_bfloat16(device: torch.device) -> bool:
    """Whether ``device`` has instructions for bfloat16: CUDA devices, and CPUs with avx512_bf16 or amx_bf16.

    On other CPUs, bfloat16 is slower than float32.
    """
    if device.type != "cpu":
        return device.type == "cuda"
    has = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(has.get("avx512_bf16") or has.get("amx_bf16"))


class ClipScores(NamedTuple):
    """Output of the model for ``N`` clips."""

    logits: npt.NDArray[np.float32]
    """Shape ``(N, K)``, in the order of the model's classes."""
    temporal_attention: npt.NDArray[np.float32]
    """Weight of each frame, shape ``(N, T)``, 0..1."""
    features: npt.NDArray[np.float32]
    """Penultimate features, shape ``(N, C)``."""


class ClipScorer:
    """A copy of the model of ``loaded`` on ``device``.

    Crops are copied to the device once, as bytes. ``bf16`` runs the trunk under autocast; the head and the
    results are float32. ``compile`` makes batches faster after a compilation at the first batch and
    another when the batch size first changes.

    Raises:
        UserError: If this machine has no such device.
    """

    def __init__(
        self, loaded: LoadedModel, *, device: str, precision: Precision = "fp32", compile: bool = False
    ) -> None:
        if precision not in ("fp32", "bf16"):
            raise ValueError(f"precision must be fp32 or bf16, got {precision!r}")
        self._device = _checked_device(device)
        self._precision = precision
        self._config = loaded.config
        self._num_channels = loaded.model.fc.in_features
        self._preprocessing = loaded.preprocessing
        model = fold_batch_norms(loaded.model).to(self._device).to(memory_format=torch.channels_last)
        if self._device.type == "cpu":
            keep_freed_memory(_KEPT_BYTES)
        self._model: Any = torch.compile(model) if compile else model

    def score(self, crops_u8: npt.NDArray[np.uint8]) -> ClipScores:
        """Score face crops, RGB, uint8 ``(N, T, S, S, 3)``; ``N`` may be 0 and the array read-only.

        Raises:
            ValueError: If dtype, ``T`` or ``S`` are not those of the model.
        """
        size = self._preprocessing.crop_size
        wanted = (self._config.num_frames, size, size, 3)
        if crops_u8.dtype != np.uint8 or crops_u8.ndim != 5 or crops_u8.shape[1:] != wanted:
            shape = f"(N, {', '.join(map(str, wanted))})"
            raise ValueError(f"crops must be uint8 {shape}, got {crops_u8.dtype} {crops_u8.shape}")
        if len(crops_u8) == 0:
            return ClipScores(
                np.empty((0, self._config.num_classes), np.float32),
                np.empty((0, self._config.num_frames), np.float32),
                np.empty((0, self._num_channels), np.float32),
            )
        return ClipScores(*(values.float().cpu().numpy() for values in self._forward(crops_u8)))

    @torch.inference_mode()
    def _forward(self, crops_u8: npt.NDArray[np.uint8]) -> DmaStaOutput:
        # Copies from pinned memory are asynchronous; copying into it also allows read-only arrays.
        staging = torch.empty(crops_u8.shape, dtype=torch.uint8, pin_memory=self._device.type == "cuda")
        np.copyto(staging.numpy(), crops_u8)
        crops = staging.to(self._device, non_blocking=True)
        x_BTCHW = normalize(crops, self._preprocessing.mean, self._preprocessing.std)
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._precision == "bf16"):
            output: DmaStaOutput = self._model(x_BTCHW)
        return output


def _checked_device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"there is no device {name!r}; use cpu, cuda, cuda:N or mps") from error
    if device.type == "cuda":
        num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= num_gpus:
            raise UserError(f"there is no device {name!r}: torch sees {num_gpus} CUDA GPUs here; use cpu")
    elif device.type == "mps":
        if not torch.backends.mps.is_available():
            raise UserError(f"there is no device {name!r}: torch sees no Apple GPU here; use cpu")
    elif device.type != "cpu":
        raise UserError(f"the device {name!r} is not supported; use cpu, cuda, cuda:N or mps")
    return device


def fold_batch_norms(model: ClipNetwork) -> ClipNetwork:
    """Return a copy of ``model`` in eval mode, with its batch norms folded into the convolutions.

    With running statistics a batch norm is a product and a sum for each channel, which the weight and bias
    of the convolution can include. Logits differ by rounding only.
    """
    folded: ClipNetwork = copy.deepcopy(model).eval()
    for module in list(folded.modules()):
        parts = dict(module.named_children())
        for conv, norm in _PAIRS:
            first, second = parts.get(conv), parts.get(norm)
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                setattr(module, conv, fuse_conv_bn_eval(first, second))
                setattr(module, norm, nn.Identity())
    return folded
