"""Loss and optimiser of the autoencoders.

Figures: ``deepfakes/faceswap`` 183aee37, ``lib/model/losses_tf.py`` and ``plugins/train/_config.py``. The
loss is that of August 2020 and later; ``mae`` is the older one.

Shape suffixes: B samples, C channels, H and W pixels, M masks (face, eyes, mouth).
"""

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


def _blocks(image_BCHW: Tensor) -> Tensor:
    """Return whole 3x3 windows of all channels, shape ``(B, 9 * C, H // 3, W // 3)``, float32."""
    height, width = (side - side % BLOCK_PX for side in image_BCHW.shape[2:])
    return functional.pixel_unshuffle(image_BCHW[..., :height, :width].float(), BLOCK_PX)


def dssim(target_BCHW: Tensor, image_BCHW: Tensor) -> Tensor:
    """Return the structural dissimilarity ``(1 - SSIM) / 2`` of two batches of images, a scalar in 0..1.

    The windows are 3x3 pixels without overlap. The mean, variance and covariance of a window are over its 27
    values, all colours together. There is no padding: the last row and column of 64 pixels, and the last
    two of 128, are in no window.
    """
    target, image = _blocks(target_BCHW), _blocks(image_BCHW)
    mean_t, mean_i = target.mean(1), image.mean(1)
    # Deviations first: in flat windows mean(x^2) - mean(x)^2 would be lost to rounding.
    target, image = target - mean_t[:, None], image - mean_i[:, None]
    variances = target.square().mean(1) + image.square().mean(1)
    covariance = (target * image).mean(1)
    luminance = (2 * mean_t * mean_i + C1) / (mean_t.square() + mean_i.square() + C1)
    structure = (2 * covariance + C2) / (variances + C2)
    return ((1 - luminance * structure) / 2).mean()


def face_loss(target_BCHW: Tensor, image_BCHW: Tensor, masks_BMHW: Tensor) -> Tensor:
    """Return the training loss of one side's faces, a scalar.

    ``DSSIM + MSE`` under the face mask, ``3 DSSIM + MSE`` under the eye mask and ``2 DSSIM + MSE`` under the
    mouth mask. A mask multiplies both images; the means are over all pixels, masked or not. The masks are
    face, eyes and mouth in this order; all values are in 0..1.
    """
    face, eyes, mouth = masks_BMHW[:, :, None].unbind(1)
    total = target_BCHW.new_zeros(())
    for mask_B1HW, weight in ((face, 1.0), (eyes, EYE_WEIGHT), (mouth, MOUTH_WEIGHT)):
        target, image = target_BCHW * mask_B1HW, image_BCHW * mask_B1HW
        total = total + weight * dssim(target, image) + (target - image).square().mean()
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
