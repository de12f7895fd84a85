"""What the network's answer depends on: its spatial attention, and the effect of covering parts of a face.

Neither is proof. Attention is where the network looks, for any class. Occlusion is measured: how much less
the attribution fits when a part of the face is covered in all frames.
"""

from itertools import pairwise
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
import torch

from dfdm_ray.jobs.report.pictures import jpeg
from dfdm_ray.models.calibration import fits
from dfdm_ray.models.checkpoint import LoadedModel
from dfdm_ray.models.dma_sta import DmaSta, normalize
from dfdm_ray.models.inference import ClipScorer

ATTENTION_CELLS = 14
"""Cells on a side of an attention map: those of the third of four stages, for crops of 224 pixels."""
_AT_ONCE = 8
"""Covered copies of a face in one forward pass."""


class Explainer:
    """The model of ``loaded`` on ``device``, and what its answers depend on."""

    def __init__(
        self, loaded: LoadedModel, *, device: str, precision: Literal["fp32", "bf16"], cells: int
    ) -> None:
        self._loaded, self._cells = loaded, cells
        self._scorer = ClipScorer(loaded, device=device, precision=precision)
        self._temperature = loaded.reference.temperature if loaded.reference else 1.0

    def maps(self, crops: npt.NDArray[np.uint8]) -> dict[str, Any]:
        """Return logits, crops as JPEG files, and both maps of a face's crops ``(C, T, S, S, 3)``."""
        scores = self._scorer.score(crops)
        logits = scores.logits.mean(axis=0, dtype=np.float64)
        frame = int(scores.temporal_attention.argmax())
        return {
            "logits": logits.tolist(),
            "crops": [jpeg(crop) for crop in crops.reshape(-1, *crops.shape[2:])],
            "frame": frame,
            "attention": self._attention(crops, *divmod(frame, crops.shape[1])).ravel().tolist(),
            "occlusion": self._occlusion(crops, logits).ravel().tolist(),
        }

    def _attention(self, crops: npt.NDArray[np.uint8], clip: int, frame: int) -> npt.NDArray[np.float32]:
        """Return the mean gate at each place of one frame, over all blocks, 0..1."""
        model = self._loaded.model
        if not isinstance(model, DmaSta) or not self._loaded.config.spatial_attention:
            return np.empty((0, 0), np.float32)
        preprocessing = self._loaded.preprocessing
        x_BTCHW = normalize(torch.from_numpy(crops[[clip]]), preprocessing.mean, preprocessing.std)
        gates = [one[0, frame, 0].numpy() for one in model.spatial_attention_maps(x_BTCHW)]
        side = (ATTENTION_CELLS, ATTENTION_CELLS)
        mean: npt.NDArray[np.float32] = np.mean([cv2.resize(gate, side) for gate in gates], axis=0)
        return mean

    def _occlusion(
        self, crops: npt.NDArray[np.uint8], logits: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float64]:
        """Return how much the log odds of the attribution fall when each cell is covered."""
        label, cells = int(logits.argmax()), cells_of(crops.shape[2], self._cells)
        colour = np.round(255 * np.array(self._loaded.preprocessing.mean)).astype(np.uint8)
        fit = fits(logits[None] / self._temperature)[0, label]
        losses = []
        for start in range(0, len(cells), _AT_ONCE):
            covered = np.stack([with_cover(crops, cell, colour) for cell in cells[start : start + _AT_ONCE]])
            found = self._scorer.score(covered.reshape(-1, *crops.shape[1:])).logits
            means = found.reshape(len(covered), len(crops), -1).mean(axis=1, dtype=np.float64)
            losses += (fit - fits(means / self._temperature)[:, label]).tolist()
        return np.array(losses)


def cells_of(side_px: int, number: int) -> list[tuple[slice, slice]]:
    """Return the rows and columns of ``number`` by ``number`` cells of a square, row by row."""
    edges = np.linspace(0, side_px, number + 1).round().astype(int)
    spans = [slice(int(start), int(end)) for start, end in pairwise(edges)]
    return [(rows, columns) for rows in spans for columns in spans] if number else []


def with_cover(
    crops: npt.NDArray[np.uint8], cell: tuple[slice, slice], colour: npt.NDArray[np.uint8]
) -> npt.NDArray[np.uint8]:
    """Return crops ``(C, T, S, S, 3)`` with one cell of each frame in ``colour``."""
    covered = crops.copy()
    covered[:, :, cell[0], cell[1]] = colour
    return covered
