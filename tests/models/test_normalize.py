import pytest
import torch
from torch import Tensor

from dfdm_ray.models.dma_sta import DFDM_MEAN, DFDM_STD, normalize


def test_normalize_is_the_authors_arithmetic_and_folds_to_channels_last() -> None:
    crops = torch.randint(0, 256, (2, 3, 8, 8, 3), dtype=torch.uint8)
    before = crops.clone()
    x = normalize(crops)
    for channel, (mean, std) in enumerate(zip(DFDM_MEAN, DFDM_STD, strict=True)):
        torch.testing.assert_close(x[:, :, channel], (crops[..., channel].float() / 255 - mean) / std)
    folded = x.flatten(0, 1)
    assert folded.is_contiguous(memory_format=torch.channels_last)
    assert folded.data_ptr() == x.data_ptr()  # no copy
    assert torch.equal(crops, before)
    white = normalize(torch.full((1, 1, 1, 1, 3), 255, dtype=torch.uint8), (0.0, 0.5, 1.0), (1.0, 0.5, 2.0))
    assert white.flatten().tolist() == [1.0, 1.0, 0.0]


@pytest.mark.parametrize(
    "crops",
    [
        torch.zeros(1, 2, 8, 8, 3),  # not bytes: scaling twice would go unseen
        torch.zeros(1, 2, 3, 8, 8, dtype=torch.uint8),  # channels first
        torch.zeros(2, 8, 8, 3, dtype=torch.uint8),  # no batch
    ],
)
def test_normalize_refuses_what_is_not_uint8_crops(crops: Tensor) -> None:
    with pytest.raises(ValueError, match="uint8"):
        normalize(crops)
