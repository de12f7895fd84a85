"""Every autoencoder learns: thirty steps on two patterns that look a little like faces."""

import numpy as np
import pytest
import torch

from dfdm_ray.generators import build_generator
from dfdm_ray.generators.augment import AugmentConfig, training_pairs
from dfdm_ray.generators.base import SIDES
from dfdm_ray.generators.losses import make_optimizer, training_loss
from dfdm_ray.generators.masks import render_masks
from dfdm_ray.labels import Generator

pytestmark = pytest.mark.slow

SIDE_PX = 64
STEPS = 30


def pattern(skin: tuple[float, float, float], hair: float) -> torch.Tensor:
    """A blob of skin with two dark eyes and a red mouth on a flat ground, shape ``(1, 3, 64, 64)``."""
    face, eyes, mouth = torch.from_numpy(render_masks(SIDE_PX, span_mfu=2.0))[:, None]
    image = face * torch.tensor(skin)[:, None, None] + (1 - face) * hair
    image = image * (1 - 0.8 * eyes)
    return (image * (1 - mouth) + mouth * torch.tensor((0.7, 0.2, 0.2))[:, None, None])[None]


@pytest.mark.parametrize("name", list(Generator))
def test_the_loss_falls_for_both_sides(name: Generator) -> None:
    model = build_generator(name, width=0.125, seed=0)
    optimizer = make_optimizer(model, lr=5e-4)
    looks = {"a": pattern((0.9, 0.7, 0.6), 0.2), "b": pattern((0.5, 0.35, 0.3), 0.8)}
    masks = torch.from_numpy(render_masks(SIDE_PX, span_mfu=2.0))[None].repeat(2, 1, 1, 1)
    generator = torch.Generator().manual_seed(0)
    losses: dict[str, list[float]] = {"a": [], "b": []}
    for _ in range(STEPS):
        total = torch.zeros(())
        for side in SIDES:
            faces = looks[side].repeat(2, 1, 1, 1)
            inputs, targets, target_masks = training_pairs(
                faces, masks, AugmentConfig(), model.input_size, model.output_size, generator
            )
            loss = training_loss(targets, model(inputs, side), target_masks)
            losses[side].append(loss.item())
            total = total + loss
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    for side in SIDES:
        assert np.mean(losses[side][-5:]) < 0.8 * np.mean(losses[side][:5]), losses[side]
