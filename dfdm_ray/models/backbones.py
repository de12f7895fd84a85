"""ResNet trunks with spatial attention in every residual block, under torchvision's key names.

Layers, their order and their initialisation are those of ``torchvision/models/resnet.py`` (tests compare
them); only the gate is added. In a bottleneck the 3x3 convolution has the stride, as there and in
``models/DMA_STA.py`` of ``shanface33/Deepfake_Model_Attribution``. The code does not import torchvision,
because the import costs every model worker 1.9 seconds of CPU time.
"""

from typing import cast, get_args

import torch
from torch import Tensor, nn

from dfdm_ray.labels import Backbone
from dfdm_ray.models.attention import SpatialAttention

BACKBONES: tuple[Backbone, ...] = get_args(Backbone)

DEPTHS: dict[Backbone, tuple[int, int, int, int]] = {
    "resnet10": (1, 1, 1, 1),
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
}
"""Residual blocks in ``layer1`` .. ``layer4``."""

BOTTLENECKS: frozenset[Backbone] = frozenset({"resnet50", "resnet101"})
"""Trunks with three convolutions in each block (keys ``conv3``); the others have two."""


def gated(x_NCHW: Tensor, gate_N1HW: Tensor) -> Tensor:
    """Return the product, in place in ``x_NCHW`` unless a gradient needs it."""
    return x_NCHW * gate_N1HW if x_NCHW.requires_grad else x_NCHW.mul_(gate_N1HW)


def _conv(channels_in: int, channels: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels, size, stride, padding=size // 2, bias=False)


class Block(nn.Module):
    """Residual block: a shortcut plus a branch of convolutions, with spatial attention if ``gate``.

    The branch has two 3x3 convolutions; that of a bottleneck has a 1x1, a 3x3 and a 1x1 convolution, the
    first two with a quarter of the output channels.
    """

    def __init__(self, channels_in: int, channels: int, *, bottleneck: bool, stride: int, gate: bool) -> None:
        super().__init__()
        if bottleneck:
            width = channels // 4
            convs = [_conv(channels_in, width, 1), _conv(width, width, 3, stride), _conv(width, channels, 1)]
        else:
            convs = [_conv(channels_in, channels, 3, stride), _conv(channels, channels, 3)]
        self.num_convs = len(convs)
        for number, conv in enumerate(convs, start=1):
            self.add_module(f"conv{number}", conv)
            self.add_module(f"bn{number}", nn.BatchNorm2d(conv.out_channels))
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels_in != channels:
            self.downsample = nn.Sequential(_conv(channels_in, channels, 1, stride), nn.BatchNorm2d(channels))
        self.sa = SpatialAttention() if gate else None

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to ``(N, C', H', W')``."""
        out = x_NCHW
        for number in range(1, self.num_convs + 1):
            out = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(out))
            if number < self.num_convs:
                out = self.relu(out)
        if self.sa is not None:
            out = gated(out, self.sa(out))
        out += x_NCHW if self.downsample is None else self.downsample(x_NCHW)
        result: Tensor = self.relu(out)
        return result


class ResNetTrunk(nn.Module):
    """torchvision's ResNet, with or without spatial attention.

    State-dict keys are torchvision's (``conv1``, ``bn1``, ``layer1.0.conv1`` .. ``fc``) plus one
    ``layerL.B.sa.conv1.weight`` for each block. Initial weights of all convolutions, gates included, are
    normal with variance ``2 / (k * k * out_channels)``, those of batch norms 1 and 0: the rule of
    torchvision and of the authors.
    """

    def __init__(self, backbone: Backbone, *, num_classes: int, spatial_attention: bool) -> None:
        super().__init__()
        bottleneck = backbone in BOTTLENECKS
        self.conv1, self.bn1 = _conv(3, 64, 7, 2), nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        before = 64
        for index, depth in enumerate(DEPTHS[backbone], start=1):
            channels, layer = 32 * 2**index * (4 if bottleneck else 1), nn.Sequential()
            for place in range(depth):
                stride = 2 if index > 1 and place == 0 else 1
                layer.append(
                    Block(before, channels, bottleneck=bottleneck, stride=stride, gate=spatial_attention)
                )
                before = channels
            self.add_module(f"layer{index}", layer)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(before, num_classes)
        for module in self.modules():
            # Tensors on "meta" have no content, and filling them would import torch._dynamo.
            if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def features(self, x_NCHW: Tensor) -> Tensor:
        """Map frames ``(N, 3, H, W)`` to features ``(N, C)``: 512 for the basic trunks, else 2048."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x_NCHW))))
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = cast(nn.Module, layer)(x)
        return torch.flatten(self.avgpool(x), 1)
