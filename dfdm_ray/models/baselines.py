"""Networks to compare DMA-STA with, written after their descriptions.

``fame``, after FAME (Ahmad, Peng, Chang; Expert Systems with Applications 292:128571, 2025), which has no
public code: features of each frame from a truncated VGG19, a bidirectional LSTM over the frames, attention
that weights its outputs, ``fc``. The trunk is the first 26 of 52 layers of VGG19 with batch norms, as in the
abstract of the same authors' CapST (doi 10.1145/3715138). The size of the LSTM is our choice.

``patches``, after the idea of DNA-Det (arXiv 2202.13843): a small network of stride 16 that is trained on
random patches, each with a loss of its own, so that it sees no whole face. It answers for whole frames.

``compact``, of this project: a residual network on crops of half their side, which on the grid of the
generators (``--crop.align generator``) is two pixels for each that a generator of 64 pixels draws. It keeps
that resolution in its first layer, where ResNets already have a quarter of it, and a step on crops of 176
pixels takes a seventh of the arithmetic of ResNet-10.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from dfdm_ray.models.backbones import Block
from dfdm_ray.models.dma_sta import ClipNetwork, DmaSta, DmaStaConfig, DmaStaOutput, high_pass

_VGG19 = (64, 64, 0, 128, 128, 0, 256, 256, 256, 256)
"""Output channels of the 3x3 convolutions of VGG19 up to layer 26; 0 is a pooling."""
_HIDDEN = 128
"""Units of the LSTM in each direction."""
_PATCH_CHANNELS = (32, 32, 64, 64, 128, 128, 256, 256)
"""Output channels of the 3x3 convolutions of the patch network; every second has a stride of 2."""
PATCH_PX, NUM_PATCHES = 64, 16
"""Side of a patch and patches of a clip in training, both from DNA-Det."""
_COMPACT_CHANNELS = (16, 32, 64, 96)
"""Channels of the first layer and of the blocks of the compact network; each block has a stride of 2."""
_BLUR_PX = 4
"""Half the side of its blur, pixels."""
_FINE_GAIN = 2.0
"""Factor on what the blur leaves, whose standard deviation is about 0.1."""


def build_network(config: DmaStaConfig) -> ClipNetwork:
    """Return the network of ``config`` with random weights."""
    networks: Mapping[str, Callable[[DmaStaConfig], ClipNetwork]]
    networks = {"fame": Fame, "patches": PatchNetwork, "compact": Compact}
    return networks.get(config.backbone, DmaSta)(config)


def _conv(channels_in: int, channels: int, *, stride: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
    if not conv.weight.is_meta:
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return [conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]


class Fame(ClipNetwork):
    """A recurrent network over the features of frames."""

    def __init__(self, config: DmaStaConfig) -> None:
        super().__init__()
        self.config = config
        layers: list[nn.Module] = []
        before = 3
        for channels in _VGG19:
            layers += _conv(before, channels) if channels else [nn.MaxPool2d(2)]
            before = channels or before
        self.trunk = nn.Sequential(*layers)
        self.lstm = nn.LSTM(before, _HIDDEN, batch_first=True, bidirectional=True)
        self.attention = nn.Linear(2 * _HIDDEN, 1)
        self.fc = nn.Linear(2 * _HIDDEN, config.num_classes)

    def features(self, x_NCHW: Tensor) -> Tensor:
        """Map frames ``(N, 3, H, W)`` to features ``(N, 256)``."""
        x: Tensor = self.trunk(x_NCHW)
        return x.mean(dim=(2, 3))

    def frame_weights(self, f_BTC: Tensor) -> Tensor:
        """Return the attention to each frame, ``(B, T)``; the weights of a clip sum to 1."""
        scores: Tensor = self.attention(torch.tanh(f_BTC))
        return scores.squeeze(2).softmax(dim=1)

    def _head(self, f_BTC: Tensor) -> DmaStaOutput:
        return super()._head(self.lstm(f_BTC)[0])


class PatchNetwork(ClipNetwork):
    """A network with a receptive field of at most a patch.

    In training, the outputs are those of :data:`NUM_PATCHES` random patches of each clip, one clip after the
    other.
    """

    drawn: Tensor
    """Batches so far, from which the places of patches follow; a training that continues draws the same."""

    def __init__(self, config: DmaStaConfig) -> None:
        super().__init__()
        self.config = config
        layers: list[nn.Module] = []
        for at, channels in enumerate(_PATCH_CHANNELS):
            layers += _conv(_PATCH_CHANNELS[at - 1] if at else 3, channels, stride=1 + at % 2)
        self.trunk = nn.Sequential(*layers)
        self.fc = nn.Linear(_PATCH_CHANNELS[-1], config.num_classes)
        self.register_buffer("drawn", torch.zeros((), dtype=torch.int64))

    def features(self, x_NCHW: Tensor) -> Tensor:
        """Map frames or patches ``(N, 3, H, W)`` to features ``(N, 256)``."""
        x: Tensor = self.trunk(x_NCHW)
        return x.mean(dim=(2, 3))

    def forward(self, x_BTCHW: Tensor) -> DmaStaOutput:
        """Classify clips as :meth:`ClipNetwork.forward` does; in training, patches of them."""
        if not self.training:
            return super().forward(x_BTCHW)
        x = high_pass(x_BTCHW) if self.config.high_pass else x_BTCHW
        f_BTC = self.features(self._patches(x)).unsqueeze(1)
        with torch.autocast(device_type=f_BTC.device.type, enabled=False):
            return self._head(f_BTC.to(self.fc.weight.dtype))

    def _patches(self, x_BTCHW: Tensor) -> Tensor:
        """Return random patches, ``(B * NUM_PATCHES, 3, PATCH_PX, PATCH_PX)``; smaller frames as they are."""
        side = min(PATCH_PX, *x_BTCHW.shape[3:])
        clips, frames, _, height, width = x_BTCHW.shape
        random = torch.Generator().manual_seed(int(self.drawn))
        self.drawn += 1
        limits = (frames, height - side + 1, width - side + 1)
        places = [torch.randint(limit, (clips, NUM_PATCHES), generator=random).tolist() for limit in limits]
        return torch.stack(
            [
                x_BTCHW[clip, frame, :, top : top + side, left : left + side]
                for clip, of_clip in enumerate(zip(*places, strict=True))
                for frame, top, left in zip(*of_clip, strict=True)
            ]
        )


class Compact(ClipNetwork):
    """A residual network that keeps the resolution on which generators draw."""

    def __init__(self, config: DmaStaConfig) -> None:
        super().__init__()
        self.config = config
        first, *rest = _COMPACT_CHANNELS
        self.stem = nn.Sequential(*_conv(3, first))
        sizes = pairwise((first, *rest))
        self.blocks = nn.Sequential(
            *(Block(before, after, bottleneck=False, stride=2, gate=False) for before, after in sizes)
        )
        self.fc = nn.Linear(rest[-1], config.num_classes)

    def filtered(self, x_BTCHW: Tensor) -> Tensor:
        """Return the frames at half their side, without what a Gaussian of two pixels keeps."""
        x = functional.avg_pool2d(x_BTCHW.flatten(0, 1), 2)
        offsets = torch.arange(-_BLUR_PX, _BLUR_PX + 1, device=x.device, dtype=x.dtype)
        line = torch.exp(-((offsets / 2) ** 2) / 2)
        kernel = (line[:, None] * line / line.sum() ** 2).expand(3, 1, -1, -1)
        padded = functional.pad(x, (_BLUR_PX,) * 4, mode="replicate")
        fine = (x - functional.conv2d(padded, kernel, groups=3)) * _FINE_GAIN
        return fine.clamp(-3, 3).reshape(*x_BTCHW.shape[:2], *fine.shape[1:])

    def features(self, x_NCHW: Tensor) -> Tensor:
        """Map frames ``(N, 3, H, W)`` to features ``(N, 96)``."""
        x: Tensor = self.blocks(self.stem(x_NCHW))
        return x.mean(dim=(2, 3))
