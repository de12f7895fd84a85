"""The five autoencoders: sizes, sharing, the swap."""

from collections.abc import Iterable

import pytest
import torch
from torch import Tensor, nn

from dfdm_ray.generators import build_generator
from dfdm_ray.generators.base import SIDES, Side, SwapAutoencoder
from dfdm_ray.generators.blocks import Bottleneck, Out, Residual, SameConv5Stride2, Upscale
from dfdm_ray.generators.iae import Iae
from dfdm_ray.labels import Generator

# Parameters at width 1: all, shared, one side's own.
PARAMETERS = {
    Generator.FACESWAP: (82_062_470, 69_662_976, 6_199_747),
    Generator.LIGHTWEIGHT: (51_066_374, 29_806_336, 10_630_019),
    Generator.IAE: (117_816_003, 17_214_720 + 25_175_040 + 25_076_163, 25_175_040),
    Generator.DFAKER: (113_330_822, 69_662_976, 21_833_923),
    Generator.DFL_H128: (107_716_102, 77_018_880, 15_348_611),
}
# Millions of parameters at width 0.25.
QUARTER_WIDTH_M = {
    Generator.FACESWAP: 5.137,
    Generator.LIGHTWEIGHT: 3.200,
    Generator.IAE: 7.372,
    Generator.DFAKER: 7.093,
    Generator.DFL_H128: 6.746,
}

_ORIGINAL_ENCODER = [(128, 32), (256, 16), (512, 8), (1024, 4), (1024, 4), (512, 8)]
# Channels and side after each block, in the order of running; two equal rows at Dfaker are upscale, residual.
SHAPES = {
    Generator.FACESWAP: [*_ORIGINAL_ENCODER, (256, 16), (128, 32), (64, 64), (3, 64)],
    Generator.LIGHTWEIGHT: [
        *[(128, 32), (256, 16), (512, 8), (512, 4), (256, 8)],
        *[(512, 16), (256, 32), (128, 64), (3, 64)],
    ],
    Generator.IAE: [
        *[(128, 32), (256, 16), (512, 8), (1024, 4), (512, 4), (512, 4)],
        *[(512, 8), (256, 16), (128, 32), (64, 64), (3, 64)],
    ],
    Generator.DFAKER: [
        *_ORIGINAL_ENCODER,
        *[(512, 16), (512, 16), (256, 32), (256, 32), (128, 64), (128, 64), (64, 128), (3, 128)],
    ],
    Generator.DFL_H128: [
        *[(128, 64), (256, 32), (512, 16), (1024, 8), (512, 8), (512, 16)],
        *[(512, 32), (256, 64), (128, 128), (3, 128)],
    ],
}
CODES = {
    Generator.FACESWAP: [1024],
    Generator.LIGHTWEIGHT: [512],
    Generator.IAE: [1024, 1024, 1024],
    Generator.DFAKER: [1024],
    Generator.DFL_H128: [512],
}
BLOCKS = (SameConv5Stride2, Bottleneck, Upscale, Residual, Out)
each_generator = pytest.mark.parametrize("name", list(Generator))


def count(parameters: Iterable[nn.Parameter]) -> int:
    return sum(value.numel() for value in parameters)


def shared(model: SwapAutoencoder) -> list[nn.Parameter]:
    return [value for name, value in model.named_parameters() if not name.startswith("own.")]


def without_memory(name: Generator, width: float = 1.0) -> SwapAutoencoder:
    with torch.device("meta"):
        return build_generator(name, width=width)


def small(name: Generator, seed: int = 0) -> SwapAutoencoder:
    return build_generator(name, width=0.05, seed=seed)


def faces(model: SwapAutoencoder, batch: int = 2) -> Tensor:
    return torch.rand(batch, 3, model.input_size, model.input_size)


@each_generator
def test_parameters_are_as_many_as_published(name: Generator) -> None:
    model = without_memory(name)
    total, common, own = PARAMETERS[name]
    assert count(model.parameters()) == total == common + 2 * own
    assert count(shared(model)) == common
    assert [count(model.own[side].parameters()) for side in SIDES] == [own, own]
    assert count(without_memory(name, 0.25).parameters()) / 1e6 == pytest.approx(
        QUARTER_WIDTH_M[name], abs=6e-4
    )


@each_generator
def test_every_block_has_the_published_shape(name: Generator) -> None:
    model = without_memory(name)
    seen: list[tuple[int, int]] = []

    def note(module: nn.Module, inputs: object, out: Tensor) -> None:
        assert out.shape[2] == out.shape[3]
        seen.append((out.shape[1], out.shape[2]))

    for module in model.modules():
        if isinstance(module, BLOCKS):
            module.register_forward_hook(note)
    size = model.input_size
    out = model(torch.empty(5, 3, size, size, device="meta"), "a")
    assert seen == SHAPES[name]
    assert out.shape == (5, 3, model.output_size, model.output_size)
    codes = [module.squeeze.out_features for module in model.modules() if isinstance(module, Bottleneck)]
    assert codes == CODES[name]


def test_only_dfaker_has_steeper_slopes_and_only_before_its_residual_blocks() -> None:
    def slopes(name: Generator) -> list[float]:
        model = without_memory(name)
        return [m.activation.negative_slope for m in model.modules() if isinstance(m, Upscale)]

    assert slopes(Generator.DFAKER) == [0.1, *2 * [0.2, 0.2, 0.2, 0.1]]
    for name in set(Generator) - {Generator.DFAKER}:
        assert set(slopes(name)) == {0.1}


@each_generator
@pytest.mark.parametrize("width", [0.05, 0.125, 1 / 3])
def test_any_width_runs_and_draws_images(name: Generator, width: float) -> None:
    with torch.device("meta"):
        model = build_generator(name, width=width)
        out = model(faces(model), "b")
    assert out.shape == (2, 3, model.output_size, model.output_size)


@each_generator
@pytest.mark.parametrize("side", SIDES)
def test_a_sides_loss_reaches_what_is_shared_and_its_own_but_not_the_others(
    name: Generator, side: Side
) -> None:
    model = small(name)
    model(faces(model), side).square().mean().backward()
    other: Side = "b" if side == "a" else "a"
    assert all(value.grad is not None for value in shared(model))
    assert all(value.grad is not None for value in model.own[side].parameters())
    assert all(value.grad is None for value in model.own[other].parameters())


@each_generator
def test_the_swap_runs_through_the_other_sides_part(name: Generator) -> None:
    model = small(name)
    x = faces(model)
    with torch.no_grad():
        of_a, of_b = model(x, "a"), model(x, "b")
        assert not torch.allclose(of_a, of_b)
        for value in model.own["b"].parameters():
            value.add_(0.1)
        assert torch.equal(model(x, "a"), of_a)
        assert not torch.allclose(model(x, "b"), of_b)


@pytest.mark.parametrize("name", sorted(set(Generator) - {Generator.IAE}))
def test_four_of_them_are_one_encoder_and_two_decoders(name: Generator) -> None:
    model = small(name)
    assert {key.split(".")[0] for key in model.state_dict()} == {"encoder", "own"}
    x = faces(model)
    assert torch.equal(model(x, "b"), model.own["b"](model.encoder(x)))


def test_iae_joins_its_own_intermediate_and_the_common_one_in_this_order() -> None:
    model = small(Generator.IAE)
    assert isinstance(model, Iae)
    x = faces(model)
    features = model.encoder(x)
    joined = torch.cat([model.own["b"](features), model.both(features)], dim=1)
    assert torch.equal(model(x, "b"), model.decoder(joined))


@each_generator
def test_memory_format_changes_nothing_and_lasts_to_the_output(name: Generator) -> None:
    model = small(name)
    x = faces(model)
    expected = model(x, "a")
    # The layout of a tensor with few channels is ambiguous, hence the check of one wide map.
    maps: list[Tensor] = []
    last = next(module for module in reversed(list(model.modules())) if isinstance(module, Upscale))
    for module in model.modules():
        if isinstance(module, Bottleneck):
            module.register_forward_hook(lambda module, inputs, out: maps.append(out))
    last.register_forward_hook(lambda module, inputs, out: maps.append(out))
    model = model.to(memory_format=torch.channels_last)
    found = model(x.contiguous(memory_format=torch.channels_last), "b")
    assert all(entry.is_contiguous(memory_format=torch.channels_last) for entry in maps)
    torch.testing.assert_close(model(x, "a"), expected, rtol=1e-4, atol=1e-5)
    assert found.shape == expected.shape


@each_generator
def test_a_seed_fixes_the_weights_and_leaves_other_chance_alone(name: Generator) -> None:
    before = torch.get_rng_state()
    first, again, other = (
        small(name, 3).state_dict(),
        small(name, 3).state_dict(),
        small(name, 4).state_dict(),
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)
    a, b = (next(iter(build_generator(name, width=0.05).parameters())) for _ in range(2))
    assert not torch.equal(a, b)  # without a seed each is new


def test_the_two_sides_start_different() -> None:
    model = small(Generator.DFAKER)
    a, b = (next(iter(model.own[side].parameters())) for side in SIDES)
    assert not torch.equal(a, b)


def test_faces_of_a_wrong_size_and_unknown_sides_are_refused() -> None:
    model = small(Generator.FACESWAP)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        model(torch.zeros(1, 3, 128, 128), "a")
    with pytest.raises(KeyError, match="c"):
        model(torch.zeros(1, 3, 64, 64), "c")
