import math

import pytest
import torch
import torchvision
from torchvision.models.resnet import BasicBlock, ResNet

from dfdm_ray.labels import Backbone
from dfdm_ray.models.backbones import BACKBONES, ResNetTrunk


def on_meta(backbone: Backbone, *, spatial_attention: bool) -> ResNetTrunk:
    with torch.device("meta"):
        return ResNetTrunk(backbone, num_classes=5, spatial_attention=spatial_attention)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_trunk_is_torchvisions_plus_one_gate_for_each_block(backbone: Backbone) -> None:
    with torch.device("meta"):
        if backbone == "resnet10":
            plain = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=5).state_dict()
        else:
            plain = getattr(torchvision.models, backbone)(num_classes=5).state_dict()
    ours = on_meta(backbone, spatial_attention=True).state_dict()
    assert {k: v.shape for k, v in ours.items() if ".sa." not in k} == {k: v.shape for k, v in plain.items()}
    gates = {key for key in ours if ".sa." in key}
    blocks = {".".join(key.split(".")[:2]) for key in plain if key.startswith("layer")}
    assert gates == {f"{block}.sa.conv1.weight" for block in blocks}
    assert {ours[key].shape for key in gates} == {(1, 2, 7, 7)}


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
def test_without_spatial_attention_the_trunk_is_torchvisions_own_function(backbone: Backbone) -> None:
    plain = getattr(torchvision.models, backbone)(num_classes=5).eval()
    trunk = ResNetTrunk(backbone, num_classes=5, spatial_attention=False).eval()
    trunk.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(trunk.fc(trunk.features(x)), plain(x))


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
def test_an_open_gate_leaves_the_plain_network(backbone: Backbone) -> None:
    gated = ResNetTrunk(backbone, num_classes=5, spatial_attention=True).eval()
    plain = ResNetTrunk(backbone, num_classes=5, spatial_attention=False).eval()
    plain.load_state_dict({k: v for k, v in gated.state_dict().items() if ".sa." not in k})
    last = "conv3" if backbone == "resnet50" else "conv2"
    with torch.no_grad():
        for key, value in gated.named_parameters():
            if ".sa." in key:
                value.zero_()  # sigmoid(0): every gate is one half
        for key, value in plain.named_parameters():
            if f".{last.replace('conv', 'bn')}." in key:
                value.mul_(0.5)  # so half of what the last batch norm lets out
        x = torch.randn(2, 3, 32, 32)
        torch.testing.assert_close(gated.features(x), plain.features(x))


def test_convolutions_start_with_the_published_variance() -> None:
    trunk = ResNetTrunk("resnet18", num_classes=5, spatial_attention=True)
    for key in ("conv1.weight", "layer3.0.conv2.weight", "layer2.1.sa.conv1.weight"):
        weight = trunk.get_parameter(key)
        expected = math.sqrt(2 / (weight.shape[2] * weight.shape[3] * weight.shape[0]))
        # The gate has 98 weights: 7 % is one standard error of its spread.
        assert weight.std().item() == pytest.approx(expected, rel=0.35 if ".sa." in key else 0.05)
    assert torch.equal(trunk.get_parameter("layer1.0.bn2.weight"), torch.ones(64))
    assert torch.equal(trunk.get_parameter("layer1.0.bn2.bias"), torch.zeros(64))
