"""The training samples of :mod:`~dfdm_ray.generators.augment` on the CPU, by OpenCV on 8-bit images.

faceswap works in this way too: one image at a time, rounded to 8 bits after each step. The random draws are
those of :func:`~dfdm_ray.generators.augment.training_pairs`, so a sample differs by rounding only.

Shape suffixes: B samples, H and W pixels.
"""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dfdm_ray.generators.augment import (
    AugmentConfig,
    changes_colour,
    crop_side_px,
    draw_affine,
    draw_colour,
    draw_warp,
    warp_grid,
)

Image = npt.NDArray[np.uint8]
_LEVELS = np.arange(256, dtype=np.float32)
_NO_MAP = np.empty(0, np.float32)  # the first map of cv2.remap holds x and y


@torch.no_grad()
def training_pairs_opencv(
    faces: Image,
    masks: Image,
    config: AugmentConfig,
    input_size: int,
    output_size: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw one training sample from each face.

    Args:
        faces: Aligned faces, RGB, shape ``(B, S, S, 3)``.
        masks: Masks that move with each target, shape ``(S, S, M)``, at most 4.
        generator: Source of all randomness, on the CPU.

    Returns:
        Inputs ``(B, 3, in, in)``, targets ``(B, 3, out, out)`` and target masks ``(B, M, out, out)``, float32
        in 0..1, in ``channels_last`` memory format.
    """
    batch, side = faces.shape[:2]
    grids, amounts = (drawn.numpy() for drawn in draw_colour(batch, config, generator))
    matrices = draw_affine(batch, config, generator).double().numpy()
    noise = draw_warp(batch, config, generator)
    crop = crop_side_px(side, config.coverage)
    start = (side - crop) // 2
    middle = slice(start, start + crop)
    grid = warp_grid(noise, crop_fraction=crop / side, offset_fraction=start / side, input_size=input_size)
    places = pixels(grid.numpy(), side)
    inputs, targets, moved_masks = [], [], []
    for face, tiles, amount, matrix, place in zip(faces, grids, amounts, matrices, places, strict=True):
        coloured = _recolour(face, int(tiles), amount, config) if changes_colour(config) else face
        to_pixels = affine_in_pixels(matrix, side)
        moved = _move(coloured, to_pixels)
        inputs.append(cv2.remap(moved, place, _NO_MAP, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
        targets.append(_resize(moved[middle, middle], output_size))
        moved_masks.append(_resize(_move(masks, to_pixels)[middle, middle], output_size))
    return _as_floats(inputs), _as_floats(targets), _as_floats(moved_masks)


def pixels(grid_BHW2: npt.NDArray[np.float32], side: int) -> npt.NDArray[np.float32]:
    """Return positions of ``grid_sample``, -1..1 across an image, in OpenCV's pixels."""
    return ((grid_BHW2 + 1) * (side / 2) - 0.5).astype(np.float32)


def affine_in_pixels(matrix_23: npt.NDArray[np.float64], side: int) -> npt.NDArray[np.float64]:
    """Return a matrix of ``affine_grid`` as one of OpenCV's inverse maps on images of ``side`` pixels."""
    turn, shift = matrix_23[:, :2], matrix_23[:, 2]
    centre = (side - 1) / 2
    return np.column_stack([turn, shift * (side / 2) + centre - turn @ np.full(2, centre)])


def _move(image: Image, matrix: npt.NDArray[np.float64]) -> Image:
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = image.shape[1::-1]
    return cv2.warpAffine(image, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[return-value]


def _resize(image: Image, size: int) -> Image:
    how = cv2.INTER_AREA if image.shape[0] >= size else cv2.INTER_LINEAR
    return cv2.resize(image, (size, size), interpolation=how)  # type: ignore[return-value]


def _recolour(face: Image, tiles: int, amount: npt.NDArray[np.float32], config: AugmentConfig) -> Image:
    """Equalise the lightness in ``tiles`` by ``tiles`` tiles, 0 for none, and shift LAB by ``amount``."""
    lab = cv2.cvtColor(face, cv2.COLOR_RGB2LAB)
    if tiles:
        lab[..., 0] = cv2.createCLAHE(config.clahe_clip_limit, (tiles, tiles)).apply(lab[..., 0])
    shifted = [_LEVELS + (255 - _LEVELS if u >= 0 else _LEVELS) * u for u in amount]
    table = np.stack(shifted, axis=1).round().clip(0, 255).astype(np.uint8)
    return cv2.cvtColor(cv2.LUT(lab, table[None]), cv2.COLOR_LAB2RGB)  # type: ignore[return-value]


def _as_floats(images: list[Any]) -> Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
