"""Training samples: one aligned face becomes a target and a warped input.

The order is that of faceswap: colour, then rotation, zoom and shift, then a flip. The middle of this image,
area averaged, is the target; the same middle, sampled through a randomly bent grid, is the input. Input and
target thus share everything but the bend, which the autoencoder learns to undo.

Figures: ``deepfakes/faceswap`` 183aee37, ``lib/training/augmentation.py``. There each step handles one image
and rounds to 8 bits; here a batch stays in floating point on its device.

Shape suffixes: B samples, M masks, H and W pixels.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from dfdm_ray.generators.colour import clahe, lab_from_rgb, rgb_from_lab, shift_lab
from dfdm_ray.generators.masks import render_masks

WARP_NODES = 5
"""Nodes along a side of the bending grid, from edge to edge of the crop."""

WARP_MARGIN = 1.25
"""The grid is drawn at this multiple of the input size and its middle is kept: the edge bends too."""

_EVEN_SPREAD, _LEAST_SPREAD = 0.2, 0.02
"""Standard deviation of the colours of even faces; what is added to that of a face, which may be 0."""


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Strength of the random changes to training samples; 0 turns a step off.

    The defaults are those of ``deepfakes/faceswap`` 183aee37.
    """

    coverage: float = 0.875
    """Share of the face image's side that the networks see; 0.6875 before August 2021."""
    clahe_probability: float = 0.5
    """Share of samples whose local contrast is equalised."""
    clahe_clip_limit: float = 2.0
    """Highest count of a level in a tile, relative to the mean count."""
    clahe_min_grid: int = 3
    clahe_max_grid: int = 7
    """Fewest and most tiles along a side; faceswap's numbers for 384 pixels, used here for any size."""
    lightness: float = 0.30
    """Largest shift of L of LAB towards white or black, as a share of the way."""
    colour: float = 0.08
    """Largest shift of a and b of LAB, likewise."""
    rotation_degrees: float = 10.0
    zoom_fraction: float = 0.05
    shift_fraction: float = 0.05
    """Largest rotation, zoom in or out, and shift (of the image's side) in x and in y."""
    flip_probability: float = 0.5
    """Share of samples that are mirrored."""
    warp_fraction: float = 5 / 336
    """Standard deviation of a warp node in x and in y, as a share of the crop's side (5 of 336 pixels)."""


STILL = AugmentConfig(
    clahe_probability=0,
    lightness=0,
    colour=0,
    rotation_degrees=0,
    zoom_fraction=0,
    shift_fraction=0,
    flip_probability=0,
    warp_fraction=0,
)
"""The central crop and the resize only, without random changes."""


def _uniform(shape: tuple[int, ...], limit: float, generator: torch.Generator) -> Tensor:
    return (torch.rand(shape, generator=generator, device=generator.device) * 2 - 1) * limit


def draw_colour(batch: int, config: AugmentConfig, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return the tiles along a side of each sample's equalisation, 0 for none, and the shifts of its LAB.

    Shapes ``(B,)`` and ``(B, 3)``; the shifts are for :func:`~dfdm_ray.generators.colour.shift_lab`.
    """
    chosen = torch.rand(batch, generator=generator, device=generator.device) < config.clahe_probability
    # Rounded, not floored: the two ends of the range get half the share of the others, as in faceswap.
    extent = config.clahe_max_grid - config.clahe_min_grid
    added = (torch.rand(batch, generator=generator, device=generator.device) * extent).round().long()
    limits = torch.tensor([config.lightness, config.colour, config.colour])
    amount_B3 = _uniform((batch, 3), 1.0, generator) * limits.to(generator.device)
    return (config.clahe_min_grid + added) * chosen, amount_B3


def changes_colour(config: AugmentConfig) -> bool:
    """Whether any step changes colours."""
    return not config.clahe_probability == config.lightness == config.colour == 0


def augment_colour(faces_B3HW: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Return RGB faces in 0..1, some with equalised contrast, all with shifted lightness and colour."""
    grids, amount_B3 = draw_colour(len(faces_B3HW), config, generator)
    if not changes_colour(config):
        return faces_B3HW
    lab_B3HW = lab_from_rgb(faces_B3HW)
    for grid in sorted(set(grids.tolist()) - {0}):
        where = (grids == grid).to(faces_B3HW.device)
        levels = lab_B3HW[where, 0].round().clamp(0, 255).to(torch.uint8)
        lab_B3HW[where, 0] = clahe(levels, grid=grid, clip_limit=config.clahe_clip_limit).to(lab_B3HW)
    return rgb_from_lab(shift_lab(lab_B3HW, amount_B3.to(lab_B3HW)))


def draw_affine(batch: int, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Return matrices ``(B, 2, 3)`` for ``affine_grid``, from positions in the new image to the old one.

    Rotation, zoom and flip are about the centre; coordinates run from -1 to 1 across the image.
    """
    angle = _uniform((batch,), math.radians(config.rotation_degrees), generator)
    zoom = 1 + _uniform((batch,), config.zoom_fraction, generator)
    shift_B2 = _uniform((batch, 2), 2 * config.shift_fraction, generator)
    flip = torch.rand(batch, generator=generator, device=generator.device) < config.flip_probability
    cosine, sine = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    turn_B22 = torch.stack([torch.stack([cosine, sine], 1), torch.stack([-sine, cosine], 1)], 1)
    # The image is turned and zoomed, then shifted; the way back begins with the shift.
    back_B2 = -(turn_B22 @ shift_B2[:, :, None])[:, :, 0]
    mirror_B2 = torch.stack([torch.where(flip, -1.0, 1.0), torch.ones_like(angle)], 1)
    return torch.cat([turn_B22 * mirror_B2[:, None], back_B2[:, :, None]], dim=2)


def draw_warp(batch: int, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Return the displacement of each node of the bending grid in x and y, ``(B, 2, 5, 5)``, crop sides."""
    shape = (batch, 2, WARP_NODES, WARP_NODES)
    return torch.randn(shape, generator=generator, device=generator.device) * config.warp_fraction


def _sample(image_BCHW: Tensor, grid_BHW2: Tensor) -> Tensor:
    """Sample bilinearly; positions outside the image take the nearest edge pixel."""
    return functional.grid_sample(
        image_BCHW, grid_BHW2, mode="bilinear", padding_mode="border", align_corners=False
    )


def crop_side_px(size: int, coverage: float) -> int:
    """Return the side of the central crop in a face image of ``size`` pixels, rounded down to even.

    The crop is centred exactly if ``size`` is even; otherwise it is half a pixel too far to the top left.
    """
    # The small term keeps 0.7 * 10 from being 6.999...
    return max(2, int(size * coverage + 1e-6) // 2 * 2)


def area_resize(image_BCHW: Tensor, size: int) -> Tensor:
    """Return square images at ``size`` pixels, each pixel the mean of its area (OpenCV's INTER_AREA).

    ``adaptive_avg_pool2d`` equals this for integer ratios only. Enlarging is bilinear.
    """
    side = image_BCHW.shape[-1]
    if side < size:
        return functional.interpolate(image_BCHW, size=size, mode="bilinear", align_corners=False)
    if side == size:
        return image_BCHW
    ratio = side / size
    start = torch.arange(size, dtype=torch.float64)[:, None] * ratio
    pixel = torch.arange(side, dtype=torch.float64)
    overlap = torch.minimum(start + ratio, pixel + 1) - torch.maximum(start, pixel)
    weight = (overlap.clamp(min=0) / ratio).to(image_BCHW)
    return weight @ image_BCHW @ weight.T


def warp_grid(noise_B2NN: Tensor, *, crop_fraction: float, offset_fraction: float, input_size: int) -> Tensor:
    """Return sampling positions of the inputs, shape ``(B, in, in, 2)``, -1..1 across the whole image.

    The crop's side and its left and top edge are shares of the image's side; the nodes are displaced by
    shares of the crop's side.
    """
    drawn = round(WARP_MARGIN * input_size)
    margin = (drawn - input_size) // 2
    bent = functional.interpolate(noise_B2NN, size=drawn, mode="bilinear", align_corners=False)
    bent = bent[..., margin : margin + input_size, margin : margin + input_size]
    centres = (torch.arange(input_size, device=noise_B2NN.device, dtype=noise_B2NN.dtype) + 0.5) / input_size
    rows, columns = torch.meshgrid(centres, centres, indexing="ij")
    places_B2HW = (torch.stack([columns, rows]) + bent) * crop_fraction + offset_fraction
    return (2 * places_B2HW - 1).permute(0, 2, 3, 1)


def input_mask(size: int, *, span_mfu: float) -> Tensor:
    """Return the face mask of an input of ``size`` pixels for :func:`even_faces`, shape ``(size, size)``."""
    return torch.from_numpy(render_masks(size, span_mfu=span_mfu)[0])


def even_faces(faces_BCHW: Tensor, mask_HW: Tensor) -> Tensor:
    """Return faces, 0..1, whose middles have the same mean and spread of each colour; grey outside a mask.

    Two people look alike to the encoder then, and what surrounds them does not tell them apart. faceswap does
    not do this: there, some ten thousand steps with random colours and turns have this effect.
    """
    quarter = faces_BCHW.shape[-1] // 4
    middle = faces_BCHW[..., quarter:-quarter, quarter:-quarter]
    spread, mean = torch.std_mean(middle, dim=(2, 3), keepdim=True)
    even = ((faces_BCHW - mean) / (spread + _LEAST_SPREAD) * _EVEN_SPREAD + 0.5).clamp(0, 1)
    return (even - 0.5) * mask_HW + 0.5


def _as_unit_floats(image: Tensor) -> Tensor:
    return image.float() / 255 if image.dtype == torch.uint8 else image.float()


@torch.no_grad()
def training_pairs(
    faces: Tensor,
    masks: Tensor,
    config: AugmentConfig,
    input_size: int,
    output_size: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw one training sample from each face.

    The input is sampled without averaging, as in faceswap, so it is aliased where the target is not. Without
    the warp it is the crop resized bilinearly.

    Args:
        faces: Aligned faces, RGB, shape ``(B, 3, S, S)``, uint8 or floats in 0..1.
        masks: Masks that move with the targets, ``(B, M, S, S)``, uint8 or floats in 0..1.
        generator: Source of all randomness. It may be on another device than the faces: a CPU generator gives
            the same samples for a GPU batch as for a CPU batch, up to rounding.

    Returns:
        Inputs ``(B, 3, in, in)``, targets ``(B, 3, out, out)`` and target masks ``(B, M, out, out)``,
        float32 in 0..1, on the device of ``faces``.
    """
    batch, device, side = len(faces), faces.device, faces.shape[-1]
    coloured = augment_colour(_as_unit_floats(faces), config, generator)
    affine = draw_affine(batch, config, generator).to(device)
    noise = draw_warp(batch, config, generator).to(device)
    image = torch.cat([coloured, _as_unit_floats(masks)], dim=1)
    moved = _sample(image, functional.affine_grid(affine, list(image.shape), align_corners=False))

    crop = crop_side_px(side, config.coverage)
    start = (side - crop) // 2
    target = area_resize(moved[..., start : start + crop, start : start + crop], output_size)
    grid = warp_grid(noise, crop_fraction=crop / side, offset_fraction=start / side, input_size=input_size)
    return _sample(moved[:, :3], grid), target[:, :3].clamp(0, 1), target[:, 3:].clamp(0, 1)
