from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn.modules.module import Module

from dfdm_ray.models.dma_sta import DmaSta, DmaStaConfig

SMALL = DmaStaConfig(backbone="resnet18", num_frames=3)


@pytest.mark.parametrize("training", [False, True])
def test_spatial_maps_are_each_blocks_gate_and_leave_the_model_alone(training: bool) -> None:
    model = DmaSta(SMALL).train(training)
    model.bn1.eval()  # a frozen layer must stay frozen
    modes = [module.training for module in model.modules()]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    maps = model.spatial_attention_maps(torch.randn(2, 3, 3, 64, 64))
    assert [tuple(one.shape) for one in maps] == [
        (2, 3, 1, side, side) for side in (16, 16, 8, 8, 4, 4, 2, 2)
    ]
    assert all(one.min() >= 0 and one.max() <= 1 and one.std() > 0 for one in maps)
    assert not any(one.requires_grad for one in maps)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(hooks(module) for module in model.modules())


def hooks(module: Module) -> dict[int, Any]:
    return dict(module._forward_hooks)


def test_a_spatial_map_belongs_to_its_clip_and_frame() -> None:
    model = DmaSta(SMALL).eval()
    x = torch.randn(2, 3, 3, 32, 32)
    changed = x.clone()
    changed[1, 2] += 1
    for one, other in zip(
        model.spatial_attention_maps(x), model.spatial_attention_maps(changed), strict=True
    ):
        same = torch.isclose(one, other, atol=1e-5).flatten(2).all(dim=2)
        assert same.tolist() == [[True, True, True], [True, True, False]]


def test_a_wrong_clip_leaves_no_hook_behind() -> None:
    model = DmaSta(SMALL).train()
    with pytest.raises(ValueError, match="got 4"):
        model.spatial_attention_maps(torch.zeros(1, 4, 3, 32, 32))
    assert model.training
    assert not any(hooks(module) for module in model.modules())


def test_spatial_maps_of_a_model_without_spatial_attention_are_an_error() -> None:
    with pytest.raises(ValueError, match="spatial_attention=True"):
        DmaSta(replace(SMALL, spatial_attention=False)).spatial_attention_maps(torch.zeros(1, 3, 3, 32, 32))
