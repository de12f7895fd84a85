"""DMA-STA, the network that attributes a clip to a generator.

It is the network of "Model Attribution of Face-swap Deepfake Videos" (ICIP 2022), after ``models/DMA_STA.py``
of ``shanface33/Deepfake_Model_Attribution``::

    (B, T, 3, S, S) --trunk, spatial attention--> (B, T, C) --temporal attention--> (B, C) --fc--> (B, K)

Shape suffixes: B clips, T frames, C channels, H and W pixels or cells, K classes, N = B * T.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from dfdm_ray.labels import GENERATORS, Backbone, Baseline
from dfdm_ray.models.attention import SpatialAttention, TemporalAttention
from dfdm_ray.models.backbones import BACKBONES, Block, ResNetTrunk

DFDM_MEAN: tuple[float, float, float] = (0.643, 0.466, 0.387)
"""RGB mean of DFDM's face crops in 0..1, from the authors' ``main.py``."""

DFDM_STD: tuple[float, float, float] = (0.259, 0.220, 0.203)
"""RGB standard deviation of DFDM's face crops in 0..1, from the authors' ``main.py``."""


def check_count(name: str, value: object, *, at_least: int) -> None:
    """Raise a ``ValueError`` unless ``value`` is a whole number of at least ``at_least``."""
    if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
        raise ValueError(f"{name} must be a whole number of at least {at_least}, got {value!r}")


@dataclass(frozen=True, kw_only=True)
class DmaStaConfig:
    """Shape of the network; the defaults are the published one."""

    backbone: Backbone | Baseline = "resnet50"
    """Trunk that maps a frame to a feature, or another network, which has no attention of DMA-STA."""
    num_frames: int = 10
    """Frames per clip (``T``), fixed by the size of the temporal attention."""
    num_classes: int = len(GENERATORS)
    """Number of generators (``K``)."""
    spatial_attention: bool = True
    """Gate each residual branch at each place. If off: a plain ResNet, without ``sa`` keys."""
    temporal_attention: bool = True
    """Weight the frames. If off: a plain mean over frames, without ``ta`` keys."""
    per_frame_batch_norm: bool = False
    """Compute batch statistics in training frame by frame, as the authors' code does, see :class:`DmaSta`."""
    high_pass: bool = False
    """Remove coarse structure from the frames, see :func:`high_pass`. Not in the paper."""

    def __post_init__(self) -> None:
        if self.backbone not in (known := (*BACKBONES, *get_args(Baseline))):
            raise ValueError(f"backbone must be one of {', '.join(known)}, got {self.backbone!r}")
        check_count("num_frames", self.num_frames, at_least=1)
        check_count("num_classes", self.num_classes, at_least=2)
        for name in ("spatial_attention", "temporal_attention", "per_frame_batch_norm", "high_pass"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be True or False, got {getattr(self, name)!r}")


class DmaStaOutput(NamedTuple):
    """Output of the network for each clip."""

    logits: Tensor
    """Shape ``(B, K)``, in class order."""
    temporal_attention: Tensor
    """Weight of each frame, shape ``(B, T)``, 0..1; all ones without temporal attention."""
    features: Tensor
    """Weighted mean of the frames' features, from which ``fc`` makes the logits, shape ``(B, C)``."""


class ClipNetwork(nn.Module):
    """What all classifiers of clips have in common: frames to features, a weighted mean of them, ``fc``."""

    config: DmaStaConfig
    fc: nn.Linear

    def open_gates(self) -> None:
        """Set initial weights that learn well; most networks have them already."""

    def filtered(self, x_BTCHW: Tensor) -> Tensor:
        """Return frames without coarse structure, for a network with ``high_pass``."""
        return high_pass(x_BTCHW)

    def features(self, x_NCHW: Tensor) -> Tensor:
        """Map frames ``(N, 3, H, W)`` to features ``(N, C)``."""
        raise NotImplementedError

    def frame_weights(self, f_BTC: Tensor) -> Tensor:
        """Return the weight of each frame, ``(B, T)``, above 0."""
        return f_BTC.new_ones(f_BTC.shape[:2])

    def forward(self, x_BTCHW: Tensor) -> DmaStaOutput:
        """Classify clips of normalised frames, float ``(B, T, 3, H, W)``.

        Raises:
            ValueError: If the frames are not RGB or not ``config.num_frames`` to a clip.
        """
        if x_BTCHW.ndim != 5 or x_BTCHW.shape[2] != 3:
            raise ValueError(f"clips must have shape (B, T, 3, H, W), got {tuple(x_BTCHW.shape)}")
        num_frames = self.config.num_frames
        if x_BTCHW.shape[1] != num_frames:
            raise ValueError(f"the model takes clips of {num_frames} frames, got {x_BTCHW.shape[1]}")
        if self.config.high_pass:
            x_BTCHW = self.filtered(x_BTCHW)
        if self.config.per_frame_batch_norm and self.training:
            f_BTC = torch.stack([self.features(x_BCHW) for x_BCHW in x_BTCHW.unbind(dim=1)], dim=1)
        else:
            f_BTC = self.features(x_BTCHW.flatten(0, 1)).reshape(*x_BTCHW.shape[:2], -1)
        with torch.autocast(device_type=f_BTC.device.type, enabled=False):
            return self._head(f_BTC.to(self.fc.weight.dtype))

    def _head(self, f_BTC: Tensor) -> DmaStaOutput:
        weight_BT = self.frame_weights(f_BTC)
        # A weighted mean, not a sum, keeps the scale of a frame feature whatever the weights are.
        # The sigmoid keeps the denominator above 0.
        clip_BC = (weight_BT.unsqueeze(2) * f_BTC).sum(dim=1) / weight_BT.sum(dim=1, keepdim=True)
        return DmaStaOutput(logits=self.fc(clip_BC), temporal_attention=weight_BT, features=clip_BC)


class DmaSta(ResNetTrunk, ClipNetwork):
    """Classifier of clips; state-dict keys are the authors': ``conv1, bn1, layer1..4, ta.fc.0, ta.fc.2, fc``.

    Two things differ from the authors' code, neither of them at inference:

    * The ``T`` frames of all clips pass the trunk as one batch of ``B * T``. The authors loop over
      frames: in training each batch norm computes its statistics from the ``B`` frames at one position in
      the clip and updates its running statistics ``T`` times a step. One batch is faster on a GPU, and its
      statistics come from ``T`` times more frames. ``per_frame_batch_norm`` selects the authors' way; with
      running statistics (eval mode) the two are the same function.
    * The head (temporal attention, weighted mean, ``fc``) runs without autocast: it costs nothing next to
      the trunk, and logits keep the precision of the parameters.
    """

    def __init__(self, config: DmaStaConfig) -> None:
        super().__init__(
            cast(Backbone, config.backbone),
            num_classes=config.num_classes,
            spatial_attention=config.spatial_attention,
        )
        self.config = config
        self.ta = TemporalAttention(config.num_frames) if config.temporal_attention else None

    @torch.no_grad()
    def open_gates(self) -> None:
        """Set initial weights with half-open gates and all temporal units active.

        The gates of a randomly initialised network have means from 0.02 to 0.95, by seed and block, because
        each sums maxima over channels at 49 places; many saturate, and a branch behind a gate near 0 hardly
        learns. Here each gate is one half and the batch norm before it is doubled, so that a branch
        contributes as much as in torchvision's network.
        """
        for block in self.modules():
            if isinstance(block, Block) and block.sa is not None:
                nn.init.zeros_(block.sa.conv1.weight)
                getattr(block, f"bn{block.num_convs}").weight.mul_(2)
        if self.ta is not None:
            self.ta.wake()

    def frame_weights(self, f_BTC: Tensor) -> Tensor:
        """Return the temporal attention, ``(B, T)``, 0..1."""
        return super().frame_weights(f_BTC) if self.ta is None else self.ta(f_BTC)

    def spatial_attention_maps(self, x_BTCHW: Tensor) -> list[Tensor]:
        """Return the gates of each residual block, ``(B, T, 1, h, w)``, 0..1, first block first.

        Runs in eval mode without gradients; modes, statistics and hooks do not change.

        Raises:
            ValueError: If the model has no spatial attention, or as in :meth:`forward`.
        """
        gates = [module for module in self.modules() if isinstance(module, SpatialAttention)]
        if not gates:
            raise ValueError("spatial_attention_maps needs a model with spatial_attention=True")
        maps: list[Tensor] = []

        def keep(_module: nn.Module, _args: Any, map_N1HW: Tensor) -> None:
            maps.append(map_N1HW.reshape(*x_BTCHW.shape[:2], *map_N1HW.shape[1:]))

        modes = {module: module.training for module in self.modules()}
        hooks = [gate.register_forward_hook(keep) for gate in gates]
        try:
            with torch.no_grad():
                self.eval().forward(x_BTCHW)
        finally:
            for hook in hooks:
                hook.remove()
            for module, training in modes.items():
                module.training = training
        return maps


HIGH_PASS_PX = 5
"""Side of the neighbourhood whose mean :func:`high_pass` subtracts."""


def high_pass(x_BTCHW: Tensor) -> Tensor:
    """Return each pixel's difference from the mean of its 5x5 neighbourhood, same shape; edges are mirrored.

    Traces of a generator are fine (output grid, upsampling pattern, seam). Identity and lighting are coarse
    and far stronger; without this filter a network must first learn to ignore them.
    """
    x_NCHW = x_BTCHW.flatten(0, 1)
    margin = HIGH_PASS_PX // 2
    padded = functional.pad(x_NCHW, (margin,) * 4, mode="reflect")
    return (x_NCHW - functional.avg_pool2d(padded, HIGH_PASS_PX, stride=1)).reshape(x_BTCHW.shape)


def normalize(crops_u8: Tensor, mean: Sequence[float] = DFDM_MEAN, std: Sequence[float] = DFDM_STD) -> Tensor:
    """Scale RGB crops to 0..1, subtract ``mean`` and divide by ``std``.

    The result is float32 ``(B, T, 3, S, S)`` on the device of the crops. The pixels keep their order in
    memory, so reshaping it to ``(B * T, 3, S, S)`` costs nothing and gives ``torch.channels_last``.

    Raises:
        ValueError: If ``crops_u8`` is not uint8 ``(B, T, S, S, 3)``.
    """
    if crops_u8.dtype != torch.uint8 or crops_u8.ndim != 5 or crops_u8.shape[-1] != 3:
        raise ValueError(f"crops must be uint8 (B, T, S, S, 3), got {crops_u8.dtype} {tuple(crops_u8.shape)}")
    x = crops_u8.to(torch.float32).div_(255)
    x.sub_(torch.tensor(mean, device=x.device)).div_(torch.tensor(std, device=x.device))
    return x.permute(0, 1, 4, 2, 3)
