"""Lightweight: one convolution fewer than Faceswap, half its code, and a wider decoder.

::

    3x64x64 -3 convs-> 512x8x8 -dense 512-> 512x4x4 -up-> 256x8x8
        -| decoder a or b: 512, 256, 128 -> 3x64x64

Figures: ``deepfakes/faceswap`` 183aee37, ``plugins/train/model/lightweight.py``; 51,066,374 parameters.
"""

from torch import nn

from dfdm_ray.generators.base import TwoDecoders
from dfdm_ray.generators.blocks import Bottleneck, Upscale, downscales, scaled, upscale_decoder


def _encoder(width: float) -> nn.Sequential:
    """Return the encoder from ``(B, 3, 64, 64)`` to ``(B, 256 * width, 8, 8)``."""
    top = scaled(512, width)
    squeeze = Bottleneck(in_channels=top, in_cells=8, code=top, out_channels=top, out_cells=4)
    return nn.Sequential(*downscales((128, 256, 512), width=width), squeeze, Upscale(top, scaled(256, width)))


class Lightweight(TwoDecoders):
    """Lightweight: 64 pixels in, 64 pixels out, a code of 512 numbers."""

    input_size = 64
    output_size = 64

    def __init__(self, *, width: float = 1.0) -> None:
        a, b = (upscale_decoder((256, 512, 256, 128), width=width) for _ in range(2))
        super().__init__(encoder=_encoder(width), decoder_a=a, decoder_b=b)
