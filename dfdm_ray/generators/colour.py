"""Colour augmentation in LAB, batched, on the device of the images.

Figures: ``deepfakes/faceswap`` 183aee37, ``lib/training/augmentation.py`` and ``plugins/train/trainer``.
faceswap works on 8-bit images; here values stay in floating point, except the lightness in contrast
equalisation (:func:`clahe`). LAB has OpenCV's 8-bit scaling: all three channels in 0..255.

Shape suffixes: B samples, H and W pixels.
"""

import cv2
import numpy as np
import torch
from torch import Tensor

# sRGB to CIE XYZ for the white D65, each row divided by that white (IEC 61966-2-1).
_XYZ_FROM_RGB = (
    (0.412453 / 0.950456, 0.357580 / 0.950456, 0.180423 / 0.950456),
    (0.212671, 0.715160, 0.072169),
    (0.019334 / 1.088754, 0.119193 / 1.088754, 0.950227 / 1.088754),
)
_CUBE_ROOT_FROM = 0.008856
"""Below this share of white, the cube root in LAB is replaced by a line (CIE 1976)."""


def lab_from_rgb(rgb_B3HW: Tensor) -> Tensor:
    """Map sRGB in 0..1 to LAB in 0..255 (lightness times 2.55, a and b plus 128), shape ``(B, 3, H, W)``."""
    linear = torch.where(rgb_B3HW > 0.04045, ((rgb_B3HW + 0.055) / 1.055) ** 2.4, rgb_B3HW / 12.92)
    xyz = torch.einsum("ij,bjhw->bihw", rgb_B3HW.new_tensor(_XYZ_FROM_RGB), linear)
    root = torch.where(
        xyz > _CUBE_ROOT_FROM, xyz.clamp(min=_CUBE_ROOT_FROM) ** (1 / 3), 7.787 * xyz + 16 / 116
    )
    x, y, z = root.unbind(1)
    return torch.stack([(116 * y - 16) * 2.55, 500 * (x - y) + 128, 200 * (y - z) + 128], dim=1)


def rgb_from_lab(lab_B3HW: Tensor) -> Tensor:
    """Map LAB in 0..255 back to sRGB, clipped to 0..1; the inverse of :func:`lab_from_rgb`."""
    lightness, a, b = lab_B3HW.unbind(1)
    y = (lightness / 2.55 + 16) / 116
    root = torch.stack([y + (a - 128) / 500, y, y - (b - 128) / 200], dim=1)
    xyz = torch.where(root**3 > _CUBE_ROOT_FROM, root**3, (root - 16 / 116) / 7.787)
    rgb_from_xyz = torch.linalg.inv(torch.tensor(_XYZ_FROM_RGB, dtype=torch.float64))
    linear = torch.einsum("ij,bjhw->bihw", rgb_from_xyz.to(lab_B3HW), xyz).clamp(0, 1)
    return torch.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear).clamp(0, 1)


def shift_lab(lab_B3HW: Tensor, amount_B3: Tensor) -> Tensor:
    """Shift each channel by its amount ``u`` in -1..1: up, ``v + (255 - v) u``; down, ``v (1 + u)``."""
    amount = amount_B3[:, :, None, None]
    return lab_B3HW + torch.where(amount >= 0, 255 - lab_B3HW, lab_B3HW) * amount


def clahe(levels_BHW: Tensor, *, grid: int, clip_limit: float) -> Tensor:
    """Equalise local contrast with a limit (CLAHE) by OpenCV, on the CPU; uint8 in and out.

    The image is cut into ``grid x grid`` tiles. The tone curve of a tile comes from its histogram, clipped at
    ``clip_limit`` times the mean count.
    """
    equalise = cv2.createCLAHE(clip_limit, (grid, grid)).apply
    images = [equalise(levels) for levels in levels_BHW.cpu().numpy()]
    return torch.from_numpy(np.stack(images)).to(levels_BHW.device)
