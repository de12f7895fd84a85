"""DFL-H128: the layout of Faceswap at twice the input size, with a shorter code.

::

    3x128x128 -4 convs-> 1024x8x8 -dense 512-> 512x8x8 -up-> 512x16x16
        -| decoder a or b: 512, 256, 128 -> 3x128x128

Figures: ``deepfakes/faceswap`` 183aee37, ``plugins/train/model/dfl_h128.py`` without its low-memory option;
107,716,102 parameters.
"""

from torch import nn

from dfdm_ray.generators.base import TwoDecoders
from dfdm_ray.generators.blocks import Bottleneck, Upscale, downscales, scaled, upscale_decoder


def _encoder(width: float) -> nn.Sequential:
    """Return the encoder from ``(B, 3, 128, 128)`` to ``(B, 512 * width, 16, 16)``."""
    top, half = scaled(1024, width), scaled(512, width)
    squeeze = Bottleneck(in_channels=top, in_cells=8, code=half, out_channels=half, out_cells=8)
    return nn.Sequential(*downscales((128, 256, 512, 1024), width=width), squeeze, Upscale(half, half))


class DflH128(TwoDecoders):
    """DFL-H128: 128 pixels in, 128 pixels out, a code of 512 numbers."""

    input_size = 128
    output_size = 128

    def __init__(self, *, width: float = 1.0) -> None:
        a, b = (upscale_decoder((512, 512, 256, 128), width=width) for _ in range(2))
        super().__init__(encoder=_encoder(width), decoder_a=a, decoder_b=b)
