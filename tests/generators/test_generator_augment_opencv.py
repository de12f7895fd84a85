from dataclasses import replace

import numpy as np
import pytest
import torch

from dfdm_ray.generators.augment import STILL, AugmentConfig, training_pairs
from dfdm_ray.generators.augment_opencv import training_pairs_opencv

SIDE = 96


def smooth_faces(count: int) -> torch.Tensor:
    coarse = torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(3))
    return torch.nn.functional.interpolate(coarse, size=SIDE, mode="bicubic").clamp(0, 1).mul(255).byte()


@pytest.mark.parametrize("output_size", [64, 128])
@pytest.mark.parametrize(
    "config",
    [
        pytest.param(STILL, id="still"),
        pytest.param(replace(STILL, warp_fraction=5 / 336), id="warp"),
        pytest.param(replace(AugmentConfig(), clahe_probability=0, lightness=0, colour=0), id="moved"),
        pytest.param(replace(STILL, lightness=0.3, colour=0.08), id="colour"),
        pytest.param(AugmentConfig(), id="all"),
    ],
)
def test_the_samples_are_those_of_the_batched_path_up_to_rounding(
    config: AugmentConfig, output_size: int
) -> None:
    faces = smooth_faces(6)
    masks = smooth_faces(1)[0]
    batched = training_pairs(
        faces, masks.expand(6, -1, -1, -1), config, 64, output_size, torch.Generator().manual_seed(1)
    )
    single = training_pairs_opencv(
        np.ascontiguousarray(faces.permute(0, 2, 3, 1).numpy()),
        np.ascontiguousarray(masks.permute(1, 2, 0).numpy()),
        config,
        64,
        output_size,
        torch.Generator().manual_seed(1),
    )
    for one, other in zip(single, batched, strict=True):
        assert one.shape == other.shape
        assert one.dtype == torch.float32
        difference = (one - other).abs() * 255
        assert difference.mean() < 1.0
        assert difference.quantile(0.99) < 6  # saturated colours lose more in 8-bit LAB


def test_the_faces_are_not_changed() -> None:
    faces = np.ascontiguousarray(smooth_faces(2).permute(0, 2, 3, 1).numpy())
    kept = faces.copy()
    masks = np.zeros((SIDE, SIDE, 3), np.uint8)
    training_pairs_opencv(faces, masks, AugmentConfig(), 64, 64, torch.Generator().manual_seed(1))
    assert np.array_equal(faces, kept)
