"""The two attentions of DMA-STA: over places in a frame, and over the frames of a clip."""

from typing import cast

import torch
from torch import Tensor, nn


class SpatialAttention(nn.Module):
    """One gate in 0..1 for each place of a feature map, the same for all channels (CBAM's spatial half).

    State-dict key: ``conv1.weight``, shape ``(1, 2, 7, 7)``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Map features ``(N, C, H, W)`` to their gate ``(N, 1, H, W)``, 0..1."""
        # Order as published: channel 0 of the convolution sees the mean, channel 1 the maximum.
        pooled_N2HW = torch.cat([x_NCHW.mean(dim=1, keepdim=True), x_NCHW.amax(dim=1, keepdim=True)], dim=1)
        return torch.sigmoid(self.conv1(pooled_N2HW))


class TemporalAttention(nn.Module):
    """One weight in 0..1 for each frame of a clip, from the frames' mean activations.

    State-dict keys: ``fc.0.weight`` ``(H, T)`` and ``fc.2.weight`` ``(T, H)``, with ``H = max(1, T // 2)``.
    The weights depend on the position of a frame, so clips must have exactly ``num_frames`` frames.
    """

    def __init__(self, num_frames: int) -> None:
        super().__init__()
        if num_frames < 1:
            raise ValueError(f"num_frames must be at least 1, got {num_frames}")
        hidden = max(1, num_frames // 2)
        self.fc = nn.Sequential(
            nn.Linear(num_frames, hidden, bias=False),
            nn.ReLU(),
            nn.Linear(hidden, num_frames, bias=False),
            nn.Sigmoid(),
        )

    @torch.no_grad()
    def wake(self) -> None:
        """Make the initial weights of the hidden units positive, so that all units are active.

        Their inputs, means after a ReLU, are never negative. With PyTorch's random signs all hidden units
        are inactive, and get no gradient, for half of the seeds at T <= 3 and 1 in 32 at T = 10.
        """
        cast(Tensor, self.fc[0].weight).abs_()

    def forward(self, x_BTC: Tensor) -> Tensor:
        """Map frame features ``(B, T, C)`` to frame weights ``(B, T)``, 0..1; they do not sum to 1."""
        weight_BT: Tensor = self.fc(x_BTC.mean(dim=2))
        return weight_BT
