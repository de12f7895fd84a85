from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from dfdm_ray.labels import Backbone
from dfdm_ray.models.checkpoint import random_model
from dfdm_ray.models.dma_sta import DmaSta, DmaStaConfig, high_pass, normalize

pytestmark = pytest.mark.slow

SMALL = DmaStaConfig(backbone="resnet18", num_frames=3)


def scrambled(model: DmaSta) -> DmaSta:
    """Give every parameter and statistic a value of its own, so that no term of the formula is idle."""
    with torch.no_grad():
        for key, value in model.state_dict().items():
            if key.endswith("running_var") or ("bn" in key and key.endswith("weight")):
                value.uniform_(0.5, 1.5)
            elif key.endswith(("running_mean", "bias")):
                value.normal_(0, 0.1)
            elif key == "ta.fc.0.weight":
                value.uniform_(0.2, 1)  # features are not negative: no unit of the gate is dead
    return model


# The published network, written a second time from the paper's formula: one frame after the other.


def batch_norm(x: Tensor, state: dict[str, Tensor], key: str, *, training: bool) -> Tensor:
    mean, var = state[f"{key}.running_mean"], state[f"{key}.running_var"]
    return functional.batch_norm(
        x, mean, var, state[f"{key}.weight"], state[f"{key}.bias"], training, 0.1, 1e-5
    )


def block(x: Tensor, state: dict[str, Tensor], key: str, stride: int, *, training: bool) -> Tensor:
    num_convolutions = 3 if f"{key}.conv3.weight" in state else 2
    strided = 2 if num_convolutions == 3 else 1  # v1.5: the stride is on the 3x3 of a bottleneck
    out = x
    for i in range(1, num_convolutions + 1):
        kernel = state[f"{key}.conv{i}.weight"]
        out = functional.conv2d(
            out, kernel, stride=stride if i == strided else 1, padding=kernel.shape[-1] // 2
        )
        out = batch_norm(out, state, f"{key}.bn{i}", training=training)
        out = functional.relu(out) if i < num_convolutions else out
    pooled = torch.stack([out.mean(dim=1), out.max(dim=1).values], dim=1)
    out = out * torch.sigmoid(functional.conv2d(pooled, state[f"{key}.sa.conv1.weight"], padding=3))
    if f"{key}.downsample.0.weight" in state:
        x = functional.conv2d(x, state[f"{key}.downsample.0.weight"], stride=stride)
        x = batch_norm(x, state, f"{key}.downsample.1", training=training)
    return functional.relu(out + x)


def frame_feature(x: Tensor, state: dict[str, Tensor], depths: list[int], *, training: bool) -> Tensor:
    x = batch_norm(
        functional.conv2d(x, state["conv1.weight"], stride=2, padding=3), state, "bn1", training=training
    )
    x = functional.max_pool2d(functional.relu(x), 3, stride=2, padding=1)
    for layer, depth in enumerate(depths, start=1):
        for i in range(depth):
            stride = 2 if layer > 1 and i == 0 else 1
            x = block(x, state, f"layer{layer}.{i}", stride, training=training)
    return x.mean(dim=(2, 3))


def published(
    x_BTCHW: Tensor, state: dict[str, Tensor], depths: list[int], *, training: bool
) -> tuple[Tensor, Tensor]:
    frames = [frame_feature(x_BTCHW[:, t], state, depths, training=training) for t in range(x_BTCHW.shape[1])]
    mean_BT = torch.stack([frame.mean(dim=1) for frame in frames], dim=1)
    w_BT = torch.sigmoid(functional.relu(mean_BT @ state["ta.fc.0.weight"].T) @ state["ta.fc.2.weight"].T)
    clip = sum(w_BT[:, t, None] * frame for t, frame in enumerate(frames)) / w_BT.sum(dim=1, keepdim=True)
    return clip @ state["fc.weight"].T + state["fc.bias"], w_BT


def authors_keys_of_resnet50() -> set[str]:
    def norm(key: str) -> set[str]:
        names = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
        return {f"{key}.{name}" for name in names}

    keys = {"conv1.weight", "ta.fc.0.weight", "ta.fc.2.weight", "fc.weight", "fc.bias"} | norm("bn1")
    for layer, depth in ((1, 3), (2, 4), (3, 6), (4, 3)):
        for i in range(depth):
            at = f"layer{layer}.{i}"
            keys |= {f"{at}.conv{j}.weight" for j in (1, 2, 3)} | {f"{at}.sa.conv1.weight"}
            keys |= norm(f"{at}.bn1") | norm(f"{at}.bn2") | norm(f"{at}.bn3")
        keys |= {f"layer{layer}.0.downsample.0.weight"} | norm(f"layer{layer}.0.downsample.1")
    return keys


def test_the_default_is_the_published_network_by_keys_and_parameter_count() -> None:
    with torch.device("meta"):
        model = DmaSta(DmaStaConfig())
    assert set(model.state_dict()) == authors_keys_of_resnet50()
    assert sum(parameter.numel() for parameter in model.parameters()) == 23_519_945


@pytest.mark.parametrize(
    ("backbone", "depths"),
    [
        ("resnet18", [2, 2, 2, 2]),  # basic blocks
        ("resnet50", [3, 4, 6, 3]),  # bottlenecks, the published trunk
    ],
)
def test_in_eval_mode_it_is_the_published_formula(backbone: Any, depths: list[int]) -> None:
    model = scrambled(DmaSta(replace(SMALL, backbone=backbone))).eval()
    x = torch.randn(2, 3, 3, 48, 48)
    with torch.no_grad():
        output = model(x)
        logits, weights = published(x, model.state_dict(), depths, training=False)
    assert weights.std(dim=1).min() > 0.01  # or the weighting would go untested
    torch.testing.assert_close(output.temporal_attention, weights, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output.logits, logits, rtol=1e-4, atol=1e-4)


def test_per_frame_batch_norm_trains_as_the_published_code() -> None:
    model = scrambled(DmaSta(replace(SMALL, per_frame_batch_norm=True))).train()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    x = torch.randn(4, 3, 3, 64, 64)
    output = model(x)
    logits, weights = published(x, state, [2, 2, 2, 2], training=True)
    torch.testing.assert_close(output.temporal_attention, weights, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output.logits, logits, rtol=1e-3, atol=1e-4)
    for key, value in model.state_dict().items():
        if "running_" in key:
            torch.testing.assert_close(value, state[key], rtol=1e-4, atol=1e-5, msg=key)
    assert model.bn1.num_batches_tracked == 3  # once for each frame


def test_folding_frames_into_the_batch_differs_in_training_and_only_there() -> None:
    folded = scrambled(DmaSta(SMALL))
    looped = DmaSta(replace(SMALL, per_frame_batch_norm=True))
    looped.load_state_dict(folded.state_dict())
    x = torch.randn(2, 3, 3, 32, 32) + torch.arange(3).view(1, 3, 1, 1, 1)  # frames of unlike brightness
    with torch.no_grad():
        torch.testing.assert_close(folded.eval()(x).logits, looped.eval()(x).logits)
        assert not torch.allclose(folded.train()(x).logits, looped.train()(x).logits, atol=1e-3)
    assert folded.bn1.num_batches_tracked == 1


def test_uniform_temporal_weights_are_the_plain_mean() -> None:
    weighted = scrambled(DmaSta(SMALL)).eval()
    plain = DmaSta(replace(SMALL, temporal_attention=False)).eval()
    plain.load_state_dict({k: v for k, v in weighted.state_dict().items() if not k.startswith("ta.")})
    x = torch.randn(2, 3, 3, 32, 32)
    with torch.no_grad():
        assert not torch.allclose(weighted(x).logits, plain(x).logits, rtol=1e-4, atol=0)
        weighted.ta.fc[2].weight.zero_()  # sigmoid(0): one half for every frame
        torch.testing.assert_close(weighted(x).logits, plain(x).logits)
        features = torch.stack([plain.features(x[:, t]) for t in range(3)], dim=1)
        torch.testing.assert_close(plain(x).logits, plain.fc(features.mean(dim=1)))
        assert torch.equal(plain(x).temporal_attention, torch.ones(2, 3))


@pytest.mark.parametrize(
    ("switch", "absent"), [("spatial_attention", ".sa."), ("temporal_attention", "ta.fc.")]
)
def test_an_attention_that_is_off_leaves_no_keys(switch: str, absent: str) -> None:
    off_switch: dict[str, Any] = {switch: False}
    with torch.device("meta"):
        off = set(DmaSta(replace(SMALL, **off_switch)).state_dict())
        on = set(DmaSta(SMALL).state_dict())
    assert on - off == {key for key in on if absent in f".{key}"}
    assert on - off


def test_one_frame_makes_a_clip() -> None:
    model = DmaSta(replace(SMALL, num_frames=1)).eval()
    x = torch.randn(2, 1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model(x).logits, model.fc(model.features(x[:, 0])))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 4, 3, 32, 32), "clips of 3 frames, got 4"),
        ((1, 3, 1, 32, 32), r"\(B, T, 3, H, W\), got \(1, 3, 1, 32, 32\)"),  # grey
        ((1, 3, 32, 32, 3), r"got \(1, 3, 32, 32, 3\)"),  # channels last, not permuted
        ((3, 3, 32, 32), r"got \(3, 3, 32, 32\)"),  # no batch
    ],
)
def test_a_clip_of_another_shape_is_refused_with_both_numbers(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DmaSta(SMALL)(torch.zeros(shape))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"backbone": "vgg19"}, "backbone must be one of resnet10, .*, got 'vgg19'"),
        ({"num_frames": 0}, "num_frames must be a whole number of at least 1, got 0"),
        ({"num_frames": 2.0}, "got 2.0"),
        ({"num_classes": 1}, "num_classes must be a whole number of at least 2, got 1"),
        ({"num_classes": True}, "got True"),
        ({"spatial_attention": 1}, "spatial_attention must be True or False, got 1"),
        ({"temporal_attention": None}, "temporal_attention must be True or False, got None"),
        ({"per_frame_batch_norm": "yes"}, "got 'yes'"),
    ],
)
def test_a_wrong_config_is_refused_by_value(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DmaStaConfig(**wrong)


def test_bf16_is_close_to_fp32_and_its_logits_are_float32() -> None:
    model = scrambled(DmaSta(SMALL)).eval()
    x = torch.randn(2, 3, 3, 64, 64)
    with torch.no_grad():
        exact = model(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = model(x)
    assert rounded.logits.dtype == torch.float32
    assert not torch.equal(rounded.logits, exact.logits)
    # bf16 keeps 8 bits; 18 layers of it stay within a few per cent of the logits' scale.
    scale = exact.logits.abs().max().item()
    torch.testing.assert_close(rounded.logits, exact.logits, rtol=0, atol=0.05 * scale)
    torch.testing.assert_close(rounded.temporal_attention, exact.temporal_attention, rtol=0, atol=0.02)


def test_channels_last_gives_the_same_result() -> None:
    model = scrambled(DmaSta(SMALL)).eval()
    x = normalize(torch.randint(0, 256, (2, 3, 48, 48, 3), dtype=torch.uint8))
    with torch.no_grad():
        expected = model(x.contiguous())
        output = model.to(memory_format=torch.channels_last)(x)
    torch.testing.assert_close(output.logits, expected.logits, rtol=1e-4, atol=1e-4)


def test_the_high_pass_takes_away_what_is_flat_and_keeps_what_is_fine() -> None:
    ramp = torch.linspace(-1, 1, 32).expand(1, 2, 3, 32, 32)
    checkers = ((torch.arange(32)[:, None] + torch.arange(32)) % 2 * 2.0 - 1).expand(1, 2, 3, 32, 32)
    inner = (..., slice(2, -2), slice(2, -2))
    assert high_pass(torch.full((1, 2, 3, 32, 32), 0.7)).abs().max() < 1e-6
    assert high_pass(ramp)[inner].abs().max() < 1e-6
    torch.testing.assert_close(high_pass(checkers)[inner], checkers[inner] * 24 / 25)
    torch.testing.assert_close(high_pass(ramp + checkers)[inner], checkers[inner] * 24 / 25)


def test_a_network_with_a_high_pass_does_not_see_brightness() -> None:
    config = replace(SMALL, high_pass=True)
    x = torch.randn(1, SMALL.num_frames, 3, 32, 32)
    with torch.no_grad():
        for network, same in ((random_model(config, seed=0), True), (random_model(SMALL, seed=0), False)):
            network.eval()
            assert torch.allclose(network(x).logits, network(x + 0.5).logits, atol=1e-4) == same


@pytest.mark.parametrize("backbone", ["resnet10", "resnet50"])
def test_with_open_gates_it_starts_as_the_network_without_spatial_attention(backbone: Backbone) -> None:
    gated = random_model(DmaStaConfig(backbone=backbone, num_frames=2), seed=0)
    plain = random_model(DmaStaConfig(backbone=backbone, num_frames=2, spatial_attention=False), seed=0)
    shared = {name: value.clone() for name, value in gated.state_dict().items() if ".sa." not in name}
    plain.load_state_dict(shared)
    gated.open_gates()
    plain.open_gates()
    clips = torch.rand(3, 2, 3, 64, 64)
    plain.train()
    gated.train()
    torch.testing.assert_close(gated(clips).logits, plain(clips).logits, atol=1e-4, rtol=1e-4)
    gated(clips).logits.square().sum().backward()
    gates = [value.grad for name, value in gated.named_parameters() if ".sa." in name]
    assert gates
    assert all(gate is not None and gate.abs().sum() > 0 for gate in gates)
