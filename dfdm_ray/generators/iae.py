"""IAE: a shared encoder and decoder, with an intermediate part for each identity between them.

::

                                 +-> intermediate of the side -> 512x4x4 -+
    3x64x64 -4 convs-> 1024x4x4 -|                                        |-> 1024x4x4 -> decoder -> 3x64x64
                                 +-> intermediate "both" ------> 512x4x4 -+

Figures: ``deepfakes/faceswap`` 183aee37, ``plugins/train/model/iae.py``; 117,816,003 parameters.
"""

import torch
from torch import Tensor, nn

from dfdm_ray.generators.base import SIDES, Side, SwapAutoencoder
from dfdm_ray.generators.blocks import Bottleneck, Upscale, downscales, scaled, upscale_decoder


class Iae(SwapAutoencoder):
    """IAE: 64 pixels in, 64 pixels out, two codes of 1024 numbers, one of them shared.

    Keys: ``encoder``, ``own.a``, ``own.b``, ``both``, ``decoder``.
    """

    input_size = 64
    output_size = 64

    def __init__(self, *, width: float = 1.0) -> None:
        super().__init__()
        top, half = scaled(1024, width), scaled(512, width)

        def intermediate() -> Bottleneck:
            return Bottleneck(in_channels=top, in_cells=4, code=top, out_channels=half, out_cells=4)

        self.encoder = nn.Sequential(*downscales((128, 256, 512, 1024), width=width))
        self.own = nn.ModuleDict({side: intermediate() for side in SIDES})
        self.both = intermediate()
        # Two intermediates give 2 * half channels, which rounding may make different from 1024 * width.
        rest = upscale_decoder((512, 256, 128, 64), width=width)
        self.decoder = nn.Sequential(Upscale(2 * half, half), *rest)

    def forward(self, faces_BCHW: Tensor, side: Side) -> Tensor:
        """Encode, join the intermediates of ``side`` and of both in this order of channels, and decode."""
        features = self.encoder(faces_BCHW)
        joined = torch.cat([self.own[side](features), self.both(features)], dim=1)
        out: Tensor = self.decoder(joined)
        return out
