import pytest
import torch
from torch.nn import functional

from dfdm_ray.models.attention import SpatialAttention, TemporalAttention


def test_the_spatial_gate_sees_the_mean_first_and_the_maximum_second() -> None:
    attention = SpatialAttention()
    x = torch.randn(2, 6, 9, 8)
    with torch.no_grad():
        attention.conv1.weight.zero_()
        attention.conv1.weight[0, :, 3, 3] = torch.tensor([2.0, -0.5])  # the centre: no neighbours
    expected = torch.sigmoid(2.0 * x.mean(dim=1) - 0.5 * x.max(dim=1).values)
    torch.testing.assert_close(attention(x), expected.unsqueeze(1))


def test_the_spatial_gate_keeps_the_resolution_and_has_one_channel() -> None:
    gate = SpatialAttention()(torch.randn(2, 4, 5, 6))
    assert gate.shape == (2, 1, 5, 6)
    assert gate.min() >= 0
    assert gate.max() <= 1


@pytest.mark.parametrize(
    ("num_frames", "hidden"),
    [
        (10, 5),  # published
        (7, 3),
        (1, 1),  # half of one frame would be no unit at all
    ],
)
def test_temporal_weights_come_from_the_mean_over_channels(num_frames: int, hidden: int) -> None:
    attention = TemporalAttention(num_frames)
    weights = attention.state_dict()
    assert {key: tuple(value.shape) for key, value in weights.items()} == {
        "fc.0.weight": (hidden, num_frames),
        "fc.2.weight": (num_frames, hidden),
    }
    x_BTC = torch.randn(3, num_frames, 8)
    squeezed = functional.relu(x_BTC.mean(dim=2) @ weights["fc.0.weight"].T)
    torch.testing.assert_close(attention(x_BTC), torch.sigmoid(squeezed @ weights["fc.2.weight"].T))


def test_a_clip_without_frames_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        TemporalAttention(0)
