"""ResNet trunks with spatial attention in every residual block, under torchvision's key names.

Only the gate is ours; layers, strides and initialisation are torchvision's. Strides sit on the 3x3
convolution of a bottleneck there, as in ``models/DMA_STA.py`` of ``shanface33/Deepfake_Model_Attribution``.
"""

from typing import Any, get_args

import torch
from torch import Tensor
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from dfdm_ray.models.attention import SpatialAttention
from dfdm_ray.models.names import Backbone

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
"""Trunks of three-convolution blocks (their blocks have a ``conv3``); the others have two."""


def gated(x_NCHW: Tensor, gate_N1HW: Tensor) -> Tensor:
    """Return the product, in the memory of ``x_NCHW`` where no gradient needs that."""
    return x_NCHW * gate_N1HW if x_NCHW.requires_grad else x_NCHW.mul_(gate_N1HW)


class GatedBasicBlock(BasicBlock):  # type: ignore[misc]  # torchvision is untyped
    """torchvision's basic block whose residual branch is gated after ``bn2``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sa = SpatialAttention()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to ``(N, C', H', W')``."""
        out: Tensor = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out = gated(out, self.sa(out))
        out += x if self.downsample is None else self.downsample(x)
        result: Tensor = self.relu(out)
        return result


class GatedBottleneck(Bottleneck):  # type: ignore[misc]  # torchvision is untyped
    """torchvision's bottleneck whose residual branch is gated after ``bn3``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sa = SpatialAttention()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to ``(N, C', H', W')``."""
        out: Tensor = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out = gated(out, self.sa(out))
        out += x if self.downsample is None else self.downsample(x)
        result: Tensor = self.relu(out)
        return result


def _block_class(backbone: Backbone, *, spatial_attention: bool) -> type[Any]:
    if backbone in BOTTLENECKS:
        return GatedBottleneck if spatial_attention else Bottleneck
    return GatedBasicBlock if spatial_attention else BasicBlock


class ResNetTrunk(ResNet):  # type: ignore[misc]  # torchvision is untyped
    """torchvision's ResNet with spatial attention, or exactly torchvision's without.

    State-dict keys are torchvision's (``conv1``, ``bn1``, ``layer1.0.conv1`` .. ``fc``) plus one
    ``layerL.B.sa.conv1.weight`` for each block. Convolutions, the gates' too, start as normal with
    variance ``2 / (k * k * out_channels)``, batch norms as 1 and 0: torchvision's rule and the authors'.
    """

    def __init__(self, backbone: Backbone, *, num_classes: int, spatial_attention: bool) -> None:
        block = _block_class(backbone, spatial_attention=spatial_attention)
        super().__init__(block, list(DEPTHS[backbone]), num_classes=num_classes)

    def features(self, x_NCHW: Tensor) -> Tensor:
        """Map frames ``(N, 3, H, W)`` to features ``(N, C)``: 512 for the basic trunks, else 2048."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x_NCHW))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return torch.flatten(self.avgpool(x), 1)
