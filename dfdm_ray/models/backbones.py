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


class _Block(nn.Module):
    """Residual block: a shortcut plus a branch of convolutions, with spatial attention if ``gate``."""

    expansion: int
    """Output channels divided by ``width``."""

    def __init__(self, channels_in: int, width: int, *, stride: int, gate: bool) -> None:
        super().__init__()
        self._add_branch(channels_in, width, stride)
        channels = width * self.expansion
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels_in != channels:
            self.downsample = nn.Sequential(_conv(channels_in, channels, 1, stride), nn.BatchNorm2d(channels))
        self.sa = SpatialAttention() if gate else None

    def _add_branch(self, channels_in: int, width: int, stride: int) -> None:
        raise NotImplementedError

    def branch(self, x_NCHW: Tensor) -> Tensor:
        """Return the output of the branch, a new tensor, before the gate and the sum."""
        raise NotImplementedError

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to ``(N, C', H', W')``."""
        out = self.branch(x_NCHW)
        if self.sa is not None:
            out = gated(out, self.sa(out))
        out += x_NCHW if self.downsample is None else self.downsample(x_NCHW)
        result: Tensor = self.relu(out)
        return result


class BasicBlock(_Block):
    """Two 3x3 convolutions."""

    expansion = 1

    def _add_branch(self, channels_in: int, width: int, stride: int) -> None:
        self.conv1, self.bn1 = _conv(channels_in, width, 3, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _conv(width, width, 3), nn.BatchNorm2d(width)

    def branch(self, x_NCHW: Tensor) -> Tensor:
        """Return the output of the branch, a new tensor, before the gate and the sum."""
        out = self.relu(self.bn1(self.conv1(x_NCHW)))
        result: Tensor = self.bn2(self.conv2(out))
        return result


class Bottleneck(_Block):
    """A 1x1, a 3x3 and a 1x1 convolution."""

    expansion = 4

    def _add_branch(self, channels_in: int, width: int, stride: int) -> None:
        channels = width * self.expansion
        self.conv1, self.bn1 = _conv(channels_in, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _conv(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = _conv(width, channels, 1), nn.BatchNorm2d(channels)

    def branch(self, x_NCHW: Tensor) -> Tensor:
        """Return the output of the branch, a new tensor, before the gate and the sum."""
        out = self.relu(self.bn1(self.conv1(x_NCHW)))
        out = self.relu(self.bn2(self.conv2(out)))
        result: Tensor = self.bn3(self.conv3(out))
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
        block = Bottleneck if backbone in BOTTLENECKS else BasicBlock
        self.conv1, self.bn1 = _conv(3, 64, 7, 2), nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        channels = 64
        for index, depth in enumerate(DEPTHS[backbone], start=1):
            width, layer = 32 * 2**index, nn.Sequential()
            for place in range(depth):
                stride = 2 if index > 1 and place == 0 else 1
                layer.append(block(channels, width, stride=stride, gate=spatial_attention))
                channels = width * block.expansion
            self.add_module(f"layer{index}", layer)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
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
