"""Colour augmentation in LAB, batched, on the device of the images.

Figures: ``deepfakes/faceswap`` 183aee37, ``lib/training/augmentation.py`` and ``plugins/train/trainer``.
faceswap works on 8-bit images through OpenCV; here values stay in floating point, except the lightness in
contrast equalisation (:func:`clahe`). LAB has OpenCV's 8-bit scaling: all three channels in 0..255.

Shape suffixes: B samples, H and W pixels.
"""

import torch
from torch import Tensor
from torch.nn import functional

LEVELS = 256
"""Levels of an 8-bit channel."""

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


def _tile_curves(levels: Tensor, *, grid: int, tile: int, clip_limit: float) -> Tensor:
    """Return the tone curves of the tiles, the new level of each old one, ``(B * grid * grid * 256,)``."""
    batch = len(levels)
    tiles = levels.reshape(batch, grid, tile, grid, tile).permute(0, 1, 3, 2, 4).reshape(-1, tile * tile)
    first_bin = torch.arange(len(tiles), device=levels.device)[:, None] * LEVELS
    counts = torch.bincount((tiles + first_bin).flatten(), minlength=len(tiles) * LEVELS)
    counts = counts.reshape(-1, LEVELS)
    limit = max(1, int(clip_limit * tile * tile / LEVELS))
    excess = (counts - limit).clamp(min=0).sum(1, keepdim=True)
    rest = excess % LEVELS
    step = (LEVELS // rest.clamp(min=1)).clamp(min=1)
    level = torch.arange(LEVELS, device=levels.device)
    takes_rest = (level % step == 0) & (level // step < rest)
    counts = counts.clamp(max=limit) + excess // LEVELS + takes_rest
    curve = counts.cumsum(1).float() * ((LEVELS - 1) / (tile * tile))
    return curve.round().clamp(max=LEVELS - 1).flatten()


def _neighbours(size: int, *, grid: int, tile: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return the two nearest tiles of each pixel along one side, and the weight of the second."""
    position = torch.arange(size, device=device, dtype=torch.float32) / tile - 0.5
    before = position.floor()
    weight = position - before
    return before.clamp(min=0).long(), (before + 1).clamp(max=grid - 1).long(), weight


def clahe(levels_BHW: Tensor, *, grid: int, clip_limit: float) -> Tensor:
    """Equalise local contrast with a limit (CLAHE), as OpenCV's ``createCLAHE`` does on 8-bit images.

    The image is cut into ``grid x grid`` tiles. The tone curve of a tile comes from its histogram, clipped at
    ``clip_limit`` times the mean count. The new level of a pixel is interpolated between the curves of the
    four tiles around it. Levels are integers in 0..255, ``H == W``; the result is float32, rounded.
    """
    batch, size = levels_BHW.shape[:2]
    levels = levels_BHW.long()
    # OpenCV adds a mirrored margin at the far ends until the tiles divide the image.
    margin = -size % grid
    mirrored = functional.pad(levels[:, None].double(), (0, margin, 0, margin), mode="reflect")[:, 0].long()
    tile = (size + margin) // grid
    curves = _tile_curves(mirrored, grid=grid, tile=tile, clip_limit=clip_limit)
    near, far, weight = _neighbours(size, grid=grid, tile=tile, device=levels.device)
    first_tile = torch.arange(batch, device=levels.device)[:, None, None] * grid * grid

    def looked_up(rows: Tensor, columns: Tensor) -> Tensor:
        tile_index = first_tile + rows[:, None] * grid + columns
        return curves[tile_index * LEVELS + levels]

    upper = looked_up(near, near) * (1 - weight) + looked_up(near, far) * weight
    lower = looked_up(far, near) * (1 - weight) + looked_up(far, far) * weight
    return (upper * (1 - weight[:, None]) + lower * weight[:, None]).round()
