"""The two attentions of DMA-STA: where to look in a frame, and which frames of a clip to trust."""

from typing import cast

import torch
from torch import Tensor, nn


class SpatialAttention(nn.Module):
    """One gate in 0..1 for each place of a feature map, the same for all channels (CBAM's spatial half).

    State-dict key: ``conv1.weight``, shape ``(1, 2, kernel_size, kernel_size)``.
    """

    def __init__(self, kernel_size: int = 7) -> None:
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd and at least 1, got {kernel_size}")
        self.conv1 = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Map features ``(N, C, H, W)`` to their gate ``(N, 1, H, W)``, 0..1."""
        # Order as published: channel 0 of the convolution sees the mean, channel 1 the maximum.
        pooled_N2HW = torch.cat([x_NCHW.mean(dim=1, keepdim=True), x_NCHW.amax(dim=1, keepdim=True)], dim=1)
        return torch.sigmoid(self.conv1(pooled_N2HW))


class TemporalAttention(nn.Module):
    """One weight in 0..1 for each frame of a clip, from the frames' mean activations.

    State-dict keys: ``fc.0.weight`` ``(H, T)`` and ``fc.2.weight`` ``(T, H)``, with ``H = max(1, T // 2)``.
    A frame's place in the clip matters: the layers are built for exactly ``num_frames``.
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
        """Make all hidden units active at the start.

        Their inputs are means after a ReLU, never negative. PyTorch's signs at random leave all hidden units
        off, where no gradient comes through, for half of the seeds at T <= 3 and 1 in 32 at T = 10.
        """
        cast(Tensor, self.fc[0].weight).abs_()

    def forward(self, x_BTC: Tensor) -> Tensor:
        """Map frame features ``(B, T, C)`` to frame weights ``(B, T)``, 0..1; they do not sum to 1."""
        weight_BT: Tensor = self.fc(x_BTC.mean(dim=2))
        return weight_BT
