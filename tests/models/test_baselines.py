import io
from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import Tensor

from dfdm_ray.labels import GENERATORS, Baseline
from dfdm_ray.models.baselines import NUM_PATCHES, PATCH_PX, PatchNetwork, build_network
from dfdm_ray.models.checkpoint import load_checkpoint, random_model, save_checkpoint
from dfdm_ray.models.dma_sta import DmaSta, DmaStaConfig
from dfdm_ray.models.inference import fold_batch_norms
from dfdm_ray.models.preprocessing import Preprocessing

CONFIG = DmaStaConfig(num_frames=3)
both = pytest.mark.parametrize("backbone", get_args(Baseline))


def clips(number: int, size: int = 80) -> Tensor:
    return torch.randn(number, 3, 3, size, size)


def network(backbone: Baseline) -> PatchNetwork:
    return random_model(replace(CONFIG, backbone=backbone), seed=1).eval()  # type: ignore[return-value]


@both
def test_it_answers_as_dma_sta_does_and_comes_back_from_a_checkpoint(backbone: Baseline) -> None:
    model, x = network(backbone), clips(2)
    with torch.no_grad():
        answer = model(x)
    assert (answer.logits.shape, answer.temporal_attention.shape) == ((2, 5), (2, 3))
    assert answer.features.shape == (2, model.fc.in_features)
    file = io.BytesIO()
    save_checkpoint(file, model, classes=GENERATORS, preprocessing=Preprocessing(crop_size=80), note="")
    loaded = load_checkpoint(file.getvalue(), name="x").model
    with torch.no_grad():
        assert torch.equal(loaded(x).logits, answer.logits)
        torch.testing.assert_close(fold_batch_norms(model)(x).logits, answer.logits, atol=1e-4, rtol=1e-3)


def test_the_order_of_frames_matters_to_the_recurrent_network_alone() -> None:
    x = clips(1)
    with torch.no_grad():
        changed = {
            name: not torch.allclose(model(x).logits, model(x.flip(1)).logits, atol=1e-5)
            for name in get_args(Baseline)
            if (model := network(name))
        }
    assert changed == {"fame": True, "patches": False, "compact": False}


def test_the_weights_of_the_frames_of_a_clip_sum_to_one_in_the_recurrent_network() -> None:
    with torch.no_grad():
        weights = network("fame")(clips(2)).temporal_attention
    torch.testing.assert_close(weights.sum(1), torch.ones(2))
    assert (weights > 0).all()


def test_a_patch_network_answers_in_training_for_patches_of_each_clip_in_order() -> None:
    model = network("patches").train()
    x = torch.zeros(2, 3, 3, 80, 80)
    x[1] = 1
    patches = model._patches(x)
    assert patches.shape == (2 * NUM_PATCHES, 3, PATCH_PX, PATCH_PX)
    assert patches.mean((1, 2, 3)).tolist() == [0] * NUM_PATCHES + [1] * NUM_PATCHES
    assert model(x).logits.shape == (2 * NUM_PATCHES, 5)


def test_patches_are_drawn_anew_for_each_batch_and_again_alike_after_a_restart() -> None:
    model, x = network("patches").train(), clips(1)
    first, second = model._patches(x), model._patches(x)
    assert not torch.equal(first, second)
    restarted = network("patches").train()
    restarted.load_state_dict(model.state_dict())
    assert torch.equal(restarted._patches(x), model._patches(x))


def test_frames_smaller_than_a_patch_are_used_whole() -> None:
    assert network("patches").train()(clips(1, size=48)).logits.shape == (NUM_PATCHES, 5)


def test_other_backbones_are_trunks_of_dma_sta() -> None:
    with torch.device("meta"):
        assert isinstance(build_network(DmaStaConfig()), DmaSta)
    with pytest.raises(
        ValueError, match=r"backbone must be one of resnet10, .*fame, patches, compact, got 'vgg'"
    ):
        DmaStaConfig(backbone="vgg")  # type: ignore[arg-type]


def test_the_compact_network_sees_what_is_fine_at_half_the_side_alone() -> None:
    model = random_model(replace(CONFIG, backbone="compact", high_pass=True), seed=1).eval()
    x, ramp = clips(1), torch.linspace(-1, 1, 80).expand(1, 3, 3, 80, 80)
    checks = ((torch.arange(80)[:, None] + torch.arange(80)) % 2 * 2.0 - 1).expand(1, 3, 3, 80, 80)
    assert model.filtered(x).shape == (1, 3, 3, 40, 40)
    assert model.filtered(ramp)[..., 4:-4, 4:-4].abs().max() < 1e-5
    assert model.filtered(checks).abs().max() < 1e-5
    stripes = (torch.arange(80) // 2 % 2 * 2.0 - 1).expand(1, 3, 3, 80, 80)
    assert model.filtered(stripes)[..., 4:-4, 4:-4].abs().min() > 1.9
    with torch.no_grad():
        torch.testing.assert_close(model(x + ramp).logits, model(x).logits, atol=0.2, rtol=0)
