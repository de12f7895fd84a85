"""Loss and optimiser of the autoencoders.

Figures: ``deepfakes/faceswap`` 183aee37, ``lib/model/losses_tf.py`` and ``plugins/train/_config.py``. The
loss is that of August 2020 and later; ``mae`` is the older one.

Shape suffixes: B samples, C channels, H and W pixels, L values of a line of pixels (W * C), M masks (face,
eyes, mouth).
"""

import functools
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

BLOCK_PX = 3
"""Side and stride of the windows of :func:`dssim`."""

C1 = 0.01**2
C2 = 0.03**2
"""Constants of SSIM for values in 0..1."""

EYE_WEIGHT = 3.0
MOUTH_WEIGHT = 2.0
"""Weights of DSSIM under the eye and the mouth mask; the squared errors there have weight 1."""


def _lines(image_BCHW: Tensor) -> Tensor:
    """Return images as lines of pixels, shape ``(B, H, W * C)``: no copy for ``channels_last``; float32."""
    return image_BCHW.permute(0, 2, 3, 1).flatten(2).float()


@functools.cache
@torch.inference_mode(False)
def _pooling(side: int, depth: int, device: torch.device) -> Tensor:
    """Return the matrix that sums whole blocks of 3 pixels of ``depth`` values each, ``(side // 3, ...)``."""
    blocks = torch.eye(side // BLOCK_PX, device=device).repeat_interleave(BLOCK_PX * depth, 1)
    return functional.pad(blocks, (0, side % BLOCK_PX * depth))


def _dssim(target_BHL: Tensor, image_BHL: Tensor, squares_BHL: Tensor, products_BHL: Tensor) -> Tensor:
    """Return :func:`dssim` of images in lines, their squares added, and their products."""
    _, height, length = image_BHL.shape
    device = image_BHL.device
    rows, columns = _pooling(height, 1, device), _pooling(length // 3, 3, device).T
    mean_t, mean_i, squares, products = (
        rows @ values @ columns / (3 * BLOCK_PX**2)
        for values in (target_BHL, image_BHL, squares_BHL, products_BHL)
    )
    variances = squares - mean_t.square() - mean_i.square()
    covariance = products - mean_t * mean_i
    luminance = (2 * mean_t * mean_i + C1) / (mean_t.square() + mean_i.square() + C1)
    structure = (2 * covariance + C2) / (variances + C2)
    return ((1 - luminance * structure) / 2).mean()


def dssim(target_BCHW: Tensor, image_BCHW: Tensor) -> Tensor:
    """Return the structural dissimilarity ``(1 - SSIM) / 2`` of two batches of RGB images, a scalar in 0..1.

    The windows are 3x3 pixels without overlap. The mean, variance and covariance of a window are over its 27
    values, all colours together. There is no padding: the last row and column of 64 pixels, and the last
    two of 128, are in no window. The rounding error of a variance, about 1e-7, is small beside ``C2``.
    """
    target, image = _lines(target_BCHW), _lines(image_BCHW)
    return _dssim(target, image, target.square() + image.square(), target * image)


def face_loss(target_BCHW: Tensor, image_BCHW: Tensor, masks_BMHW: Tensor) -> Tensor:
    """Return the training loss of one side's RGB faces, a scalar.

    ``DSSIM + MSE`` under the face mask, ``3 DSSIM + MSE`` under the eye mask and ``2 DSSIM + MSE`` under the
    mouth mask. A mask multiplies both images; the means are over all pixels, masked or not. The masks are
    face, eyes and mouth in this order; all values are in 0..1.
    """
    target, image = _lines(target_BCHW), _lines(image_BCHW)
    face, eyes, mouth = (_lines(mask[:, None].expand(-1, 3, -1, -1)) for mask in masks_BMHW.unbind(1))
    squares, products = target.square() + image.square(), target * image
    weights = [mask.square() for mask in (face, eyes, mouth)]
    total = ((target - image).square() * (weights[0] + weights[1] + weights[2])).mean()
    factors = (1.0, EYE_WEIGHT, MOUTH_WEIGHT)
    for mask, weight, factor in zip((face, eyes, mouth), weights, factors, strict=True):
        total = total + factor * _dssim(target * mask, image * mask, squares * weight, products * weight)
    return total


def training_loss(
    target_BCHW: Tensor, image_BCHW: Tensor, masks_BMHW: Tensor, *, kind: Literal["ssim", "mae"] = "ssim"
) -> Tensor:
    """Return :func:`face_loss`, or for ``mae`` the mean absolute error without masks."""
    if kind == "mae":
        return (target_BCHW - image_BCHW).abs().mean()
    return face_loss(target_BCHW, image_BCHW, masks_BMHW)


def make_optimizer(model: nn.Module, *, lr: float) -> torch.optim.Adam:
    """Return Adam over all parameters with the constants of faceswap, whose learning rate is 5e-5.

    Keras adds epsilon to the root of the second moment before its bias correction, PyTorch after it. The
    epsilon of PyTorch therefore has a tenth of the effect at step 1, and the same after some hundred steps.
    """
    return torch.optim.Adam(model.parameters(), lr=lr, betas=(0.5, 0.99), eps=1e-7, fused=True)
