"""The layers of the autoencoders: padding, order, initial values."""

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from dfdm_ray.generators.blocks import (
    Bottleneck,
    GlorotLinear,
    HeConv2d,
    Out,
    Residual,
    SameConv5Stride2,
    Upscale,
    scaled,
)


def same_convolution(
    image: npt.NDArray[np.float64], kernel: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """TensorFlow's documented rule for one channel, stride 2, pixel by pixel."""
    size, taps = len(image), len(kernel)
    cells = math.ceil(size / 2)
    before = max((cells - 1) * 2 + taps - size, 0) // 2
    out = np.zeros((cells, cells))
    for row in range(cells):
        for column in range(cells):
            for y in range(taps):
                for x in range(taps):
                    from_y, from_x = 2 * row + y - before, 2 * column + x - before
                    if 0 <= from_y < size and 0 <= from_x < size:
                        out[row, column] += image[from_y, from_x] * kernel[y, x]
    return out


@pytest.mark.parametrize("size", [8, 7, 2, 1])
def test_the_strided_convolution_pads_as_tensorflow_does(size: int) -> None:
    block = SameConv5Stride2(1, 1).double()
    image = torch.randn(1, 1, size, size, dtype=torch.float64)
    with torch.no_grad():
        found = block(image)[0, 0].numpy()
    linear = same_convolution(image[0, 0].numpy(), block.conv.weight[0, 0].detach().numpy())
    np.testing.assert_allclose(found, np.where(linear >= 0, linear, 0.1 * linear), atol=1e-12)


def test_the_strided_convolution_looks_one_pixel_back_and_three_ahead() -> None:
    """By hand: cell i sees pixels 2i - 1 to 2i + 3, so only a kernel's tap 1 falls on pixel 2i."""
    block = SameConv5Stride2(1, 1)
    with torch.no_grad():
        block.conv.weight.zero_()
        block.conv.weight[0, 0, 1, 1] = 1
        image = torch.arange(64.0).reshape(1, 1, 8, 8)
        assert torch.equal(block(image), image[..., ::2, ::2])


def test_activating_before_the_shuffle_is_activating_after_it() -> None:
    block = Upscale(4, 3, slope=0.2)
    x = torch.randn(2, 4, 5, 5)
    after = nn.functional.leaky_relu(block.shuffle(block.conv(x)), 0.2)
    assert torch.equal(block(x), after)
    assert block(x).shape == (2, 3, 10, 10)


def test_the_residual_block_adds_its_input_before_the_last_activation() -> None:
    block = Residual(3)
    x = torch.randn(2, 3, 6, 6)
    branch = block.second(nn.functional.leaky_relu(block.first(x), 0.2))
    torch.testing.assert_close(block(x), nn.functional.leaky_relu(x + branch, 0.2))


def test_the_bottleneck_is_linear() -> None:
    block = Bottleneck(in_channels=2, in_cells=4, code=3, out_channels=5, out_cells=2)
    x, y = torch.randn(2, 1, 2, 4, 4)
    bias = block(torch.zeros(1, 2, 4, 4))
    assert bias.shape == (1, 5, 2, 2)
    torch.testing.assert_close(block(x + y) + bias, block(x) + block(y))


def test_the_output_is_an_image() -> None:
    image = Out(4)(100 * torch.randn(2, 4, 6, 6))
    assert image.shape == (2, 3, 6, 6)
    assert image.min() >= 0
    assert image.max() <= 1


@pytest.mark.parametrize(
    ("weight", "limit"),
    [
        (HeConv2d(32, 64, 5).weight, math.sqrt(6 / (25 * 32))),  # He: fan in
        (GlorotLinear(300, 500).weight, math.sqrt(6 / 800)),  # Glorot: fan in + fan out
        (Residual(64).second.weight, math.sqrt(3 * 0.2 / (9 * 64))),  # variance 0.2 / fan in
    ],
    ids=["he", "glorot", "residual"],
)
def test_uniform_initial_values_fill_their_range(weight: torch.Tensor, limit: float) -> None:
    weight = weight.detach()
    assert weight.abs().max() <= limit
    assert weight.abs().max() > 0.99 * limit
    assert weight.std().item() == pytest.approx(limit / math.sqrt(3), rel=0.03)
    assert abs(weight.mean()) < 0.03 * limit


def test_the_first_residual_convolution_starts_normal() -> None:
    weight = Residual(64).first.weight.detach()
    assert weight.std().item() == pytest.approx(0.02, rel=0.03)
    assert weight.abs().max() > 3 * 0.02
    share_within_one_sigma = (weight.abs() < 0.02).float().mean()
    assert share_within_one_sigma.item() == pytest.approx(0.683, abs=0.01)


def test_all_biases_start_at_zero() -> None:
    blocks = nn.ModuleList([SameConv5Stride2(3, 4), Upscale(4, 4), Residual(4), Out(4), GlorotLinear(4, 4)])
    biases = [value for name, value in blocks.named_parameters() if name.endswith("bias")]
    assert len(biases) == 6
    assert all(not bias.any() for bias in biases)


@pytest.mark.parametrize(
    ("size", "width", "expected"), [(1024, 1.0, 1024), (128, 0.25, 32), (64, 0.001, 1), (64, 1.5, 96)]
)
def test_a_width_scales_and_leaves_at_least_one(size: int, width: float, expected: int) -> None:
    assert scaled(size, width) == expected
