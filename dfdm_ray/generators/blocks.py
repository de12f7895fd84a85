"""The layers of the five autoencoders, with their initial values.

Figures: ``deepfakes/faceswap`` 183aee37, ``lib/model/nn_blocks.py`` and the defaults of Keras: He-uniform
convolutions, Glorot-uniform dense layers, zero biases. There is neither normalisation nor dropout, so the
networks compute the same in training and in evaluation mode.

Shape suffixes: B samples, C channels, H and W pixels or cells.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

LEAKY_SLOPE = 0.1
"""Slope of every LeakyReLU except Dfaker's."""

DFAKER_SLOPE = 0.2
"""Slope in Dfaker's residual blocks and in the upscales before them."""


def scaled(size: int, width: float) -> int:
    """Return a number of channels or of dense outputs times ``width``, rounded, at least 1."""
    return max(1, round(size * width))


class HeConv2d(nn.Conv2d):
    """A convolution, initially He-uniform, ``limit = sqrt(6 / fan_in)``, with a zero bias."""

    def reset_parameters(self) -> None:
        """Draw the initial values from torch's global generator."""
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class GlorotLinear(nn.Linear):
    """A dense layer, initially Glorot-uniform, ``limit = sqrt(6 / (fan_in + fan_out))``, with a zero bias."""

    def reset_parameters(self) -> None:
        """Draw the initial values from torch's global generator."""
        nn.init.xavier_uniform_(self.weight)
        nn.init.zeros_(self.bias)


class SameConv5Stride2(nn.Module):
    """5x5 convolution of stride 2 with TensorFlow's "same" zero padding, then LeakyReLU 0.1.

    TensorFlow pads so that the output has ``ceil(size / 2)`` cells and puts the odd pixel at the far end: an
    even size gets 1 before and 2 after. PyTorch's symmetric ``padding=2`` would be one pixel out of phase.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = HeConv2d(in_channels, out_channels, kernel_size=5, stride=2)
        self.activation = nn.LeakyReLU(LEAKY_SLOPE, inplace=True)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map ``(B, in, H, W)`` to ``(B, out, ceil(H / 2), ceil(W / 2))``."""
        height, width = x_BCHW.shape[-2:]
        top, left = 1 + height % 2, 1 + width % 2
        padded: Tensor = functional.pad(x_BCHW, (left, 2, top, 2))
        out: Tensor = self.activation(self.conv(padded))
        return out


class Upscale(nn.Module):
    """3x3 convolution to four times the channels, LeakyReLU, pixel shuffle: twice the height and width.

    Dfaker activates after the shuffle, which is the same function: both act on single values.
    """

    def __init__(self, in_channels: int, out_channels: int, *, slope: float = LEAKY_SLOPE) -> None:
        super().__init__()
        self.conv = HeConv2d(in_channels, 4 * out_channels, kernel_size=3, padding=1)
        self.activation = nn.LeakyReLU(slope, inplace=True)
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map ``(B, in, H, W)`` to ``(B, out, 2H, 2W)``."""
        out: Tensor = self.shuffle(self.activation(self.conv(x_BCHW)))
        return out


class Residual(nn.Module):
    """Dfaker's residual block: two 3x3 convolutions around a skip from the (activated) input.

    The skip takes the activated input, as in faceswap since 2021-03 (``8f499a44``).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = HeConv2d(channels, channels, kernel_size=3, padding=1)
        self.second = HeConv2d(channels, channels, kernel_size=3, padding=1)
        self.activation = nn.LeakyReLU(DFAKER_SLOPE, inplace=True)
        nn.init.normal_(self.first.weight, std=0.02)
        # Variance scaling, uniform, fan-in, scale 0.2: the branch starts small beside the skip.
        limit = math.sqrt(3 * 0.2 / (9 * channels))
        nn.init.uniform_(self.second.weight, -limit, limit)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` to the same shape."""
        branch: Tensor = self.second(self.activation(self.first(x_BCHW)))
        out: Tensor = self.activation(branch + x_BCHW)
        return out


class Out(nn.Module):
    """5x5 convolution to the three image channels, then sigmoid."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.conv = HeConv2d(in_channels, 3, kernel_size=5, padding=2)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map ``(B, in, H, W)`` to an image ``(B, 3, H, W)``, 0..1."""
        return torch.sigmoid(self.conv(x_BCHW))


class Bottleneck(nn.Module):
    """Two dense layers without activation: a linear squeeze of a feature map through a short code.

    A map is flattened in the order (H, W, C), as in TensorFlow. For tensors in ``channels_last`` memory
    format this costs no copy, and the output has that format.
    """

    def __init__(
        self, *, in_channels: int, in_cells: int, code: int, out_channels: int, out_cells: int
    ) -> None:
        super().__init__()
        self.squeeze = GlorotLinear(in_channels * in_cells**2, code)
        self.expand = GlorotLinear(code, out_channels * out_cells**2)
        self.out_shape = (out_cells, out_cells, out_channels)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map ``(B, in_channels, in_cells, in_cells)`` to ``(B, out_channels, out_cells, out_cells)``."""
        flat = x_BCHW.permute(0, 2, 3, 1).flatten(1)
        expanded: Tensor = self.expand(self.squeeze(flat))
        map_BHWC = expanded.reshape(-1, *self.out_shape)
        return map_BHWC.permute(0, 3, 1, 2)


def downscales(channels: Sequence[int], *, width: float) -> list[nn.Module]:
    """Return one :class:`SameConv5Stride2` per entry, the first on an RGB image; sizes times ``width``."""
    sizes = [3, *(scaled(size, width) for size in channels)]
    return [SameConv5Stride2(before, after) for before, after in pairwise(sizes)]


def upscale_decoder(channels: Sequence[int], *, width: float) -> nn.Sequential:
    """Return the plain decoder: an :class:`Upscale` between neighbouring ``channels``, then :class:`Out`."""
    sizes = [scaled(size, width) for size in channels]
    upscales = [Upscale(before, after) for before, after in pairwise(sizes)]
    return nn.Sequential(*upscales, Out(sizes[-1]))
