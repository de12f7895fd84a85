"""Faceswap, the "original" model of 2017: a shared encoder and a plain decoder for each identity.

::

    3x64x64 -4 convs-> 1024x4x4 -dense 1024-> 1024x4x4 -up-> 512x8x8
        -| decoder a or b: 256, 128, 64 -> 3x64x64

Figures: ``deepfakes/faceswap`` 183aee37, ``plugins/train/model/original.py``; 82,062,470 parameters.
"""

from torch import nn

from dfdm_ray.generators.base import TwoDecoders
from dfdm_ray.generators.blocks import Bottleneck, Upscale, downscales, scaled, upscale_decoder


def faceswap_encoder(width: float) -> nn.Sequential:
    """Return the encoder from ``(B, 3, 64, 64)`` to ``(B, 512 * width, 8, 8)``; Dfaker uses it too."""
    top = scaled(1024, width)
    squeeze = Bottleneck(in_channels=top, in_cells=4, code=top, out_channels=top, out_cells=4)
    return nn.Sequential(
        *downscales((128, 256, 512, 1024), width=width), squeeze, Upscale(top, scaled(512, width))
    )


class Faceswap(TwoDecoders):
    """Faceswap: 64 pixels in, 64 pixels out, a code of 1024 numbers."""

    input_size = 64
    output_size = 64

    def __init__(self, *, width: float = 1.0) -> None:
        a, b = (upscale_decoder((512, 256, 128, 64), width=width) for _ in range(2))
        super().__init__(encoder=faceswap_encoder(width), decoder_a=a, decoder_b=b)
