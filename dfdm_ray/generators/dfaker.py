"""Dfaker: the encoder of Faceswap, and decoders with residual blocks that draw at twice the input size.

::

    3x64x64 -encoder of Faceswap-> 512x8x8 -| decoder a or b: 512 + residual, 256 + residual,
                                            |                 128 + residual, 64 -> 3x128x128

Figures: ``deepfakes/faceswap`` 183aee37, ``plugins/train/model/dfaker.py`` at its default output of 128
pixels; 113,330,822 parameters.
"""

from torch import nn

from dfdm_ray.generators.base import TwoDecoders
from dfdm_ray.generators.blocks import DFAKER_SLOPE, Out, Residual, Upscale, scaled
from dfdm_ray.generators.faceswap import faceswap_encoder


def _decoder(width: float) -> nn.Sequential:
    """Return a decoder from ``(B, 512 * width, 8, 8)`` to ``(B, 3, 128, 128)``."""
    layers: list[nn.Module] = []
    channels = scaled(512, width)
    for size in (512, 256, 128):
        layers += [Upscale(channels, scaled(size, width), slope=DFAKER_SLOPE), Residual(scaled(size, width))]
        channels = scaled(size, width)
    last = scaled(64, width)
    # The last upscale has the common slope and no residual block.
    return nn.Sequential(*layers, Upscale(channels, last), Out(last))


class Dfaker(TwoDecoders):
    """Dfaker: 64 pixels in, 128 pixels out, a code of 1024 numbers."""

    input_size = 64
    output_size = 128

    def __init__(self, *, width: float = 1.0) -> None:
        super().__init__(
            encoder=faceswap_encoder(width), decoder_a=_decoder(width), decoder_b=_decoder(width)
        )
