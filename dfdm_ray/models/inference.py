"""Scores batches of face-crop clips on one device."""

from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dfdm_ray.errors import UserError
from dfdm_ray.io.memory import keep_freed_memory
from dfdm_ray.models.checkpoint import LoadedModel
from dfdm_ray.models.dma_sta import DmaStaOutput, normalize
from dfdm_ray.models.folding import fold_batch_norms

Precision = Literal["fp32", "bf16"]

_KEPT_BYTES = 2**30
"""A layer's result of four clips has 128 MB."""


class ClipScores(NamedTuple):
    """The model's answer for ``N`` clips."""

    logits: npt.NDArray[np.float32]
    """Shape ``(N, K)``, in the order of the model's classes."""
    temporal_attention: npt.NDArray[np.float32]
    """Weight of each frame, shape ``(N, T)``, 0..1."""


class ClipScorer:
    """A model on its device, ready to score; ``loaded`` itself stays on the CPU and unchanged.

    Crops cross to the device once, as bytes. ``bf16`` runs the trunk under autocast; the head and the
    results stay float32. ``compile`` pays a compilation at the first batch (and one more when the batch
    size first changes) for faster batches after it.

    Raises:
        UserError: If there is no such device here.
    """

    def __init__(
        self, loaded: LoadedModel, *, device: str, precision: Precision = "fp32", compile: bool = False
    ) -> None:
        if precision not in ("fp32", "bf16"):
            raise ValueError(f"precision must be fp32 or bf16, got {precision!r}")
        self._device = _checked_device(device)
        self._precision = precision
        self._config = loaded.config
        self._preprocessing = loaded.preprocessing
        model = fold_batch_norms(loaded.model).to(self._device).to(memory_format=torch.channels_last)
        if self._device.type == "cpu":
            keep_freed_memory(_KEPT_BYTES)
        self._model: Any = torch.compile(model) if compile else model

    def score(self, crops_u8: npt.NDArray[np.uint8]) -> ClipScores:
        """Score clips of face crops.

        Args:
            crops_u8: RGB, uint8 ``(N, T, S, S, 3)``; ``N`` may be 0 and the array read-only.

        Raises:
            ValueError: If type, ``T`` or ``S`` are not what the model was trained on.
        """
        self._check_crops(crops_u8)
        if len(crops_u8) == 0:
            return ClipScores(
                np.empty((0, self._config.num_classes), np.float32),
                np.empty((0, self._config.num_frames), np.float32),
            )
        output = self._forward(crops_u8)
        return ClipScores(_to_numpy(output.logits), _to_numpy(output.temporal_attention))

    @torch.inference_mode()
    def _forward(self, crops_u8: npt.NDArray[np.uint8]) -> DmaStaOutput:
        # Pinned memory lets the copy run without a stop; filling it also frees us of read-only arrays.
        staging = torch.empty(crops_u8.shape, dtype=torch.uint8, pin_memory=self._device.type == "cuda")
        np.copyto(staging.numpy(), crops_u8)
        crops = staging.to(self._device, non_blocking=True)
        x_BTCHW = normalize(crops, self._preprocessing.mean, self._preprocessing.std)
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._precision == "bf16"):
            output: DmaStaOutput = self._model(x_BTCHW)
        return output

    def _check_crops(self, crops_u8: npt.NDArray[np.uint8]) -> None:
        size = self._preprocessing.crop_size
        wanted = (self._config.num_frames, size, size, 3)
        if crops_u8.dtype != np.uint8 or crops_u8.ndim != 5 or crops_u8.shape[1:] != wanted:
            shape = f"(N, {', '.join(map(str, wanted))})"
            raise ValueError(f"crops must be uint8 {shape}, got {crops_u8.dtype} {crops_u8.shape}")


def _to_numpy(values: Tensor) -> npt.NDArray[np.float32]:
    array: npt.NDArray[np.float32] = values.float().cpu().numpy()
    return array


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
