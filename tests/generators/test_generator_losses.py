"""The losses against slow, plain versions of themselves."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from dfdm_ray.generators.losses import dssim, face_loss, make_optimizer, training_loss
from dfdm_ray.jobs.generate.config import SwapTrainConfig

Image = npt.NDArray[np.float64]


def dssim_by_loops(a: Image, b: Image) -> float:
    """Mean DSSIM of two images ``(3, H, W)``, window by window."""
    values = []
    for top in range(0, a.shape[1] - 2, 3):
        for left in range(0, a.shape[2] - 2, 3):
            x = a[:, top : top + 3, left : left + 3].ravel()
            y = b[:, top : top + 3, left : left + 3].ravel()
            assert len(x) == 27
            covariance = ((x - x.mean()) * (y - y.mean())).mean()
            ssim = (2 * x.mean() * y.mean() + 1e-4) * (2 * covariance + 9e-4)
            ssim /= (x.mean() ** 2 + y.mean() ** 2 + 1e-4) * (x.var() + y.var() + 9e-4)
            values.append((1 - ssim) / 2)
    return float(np.mean(values))


def loss_by_loops(y: Image, x: Image, masks: Image) -> float:
    total = 0.0
    for mask, weight in zip(masks, (1, 3, 2), strict=True):
        total += weight * dssim_by_loops(y * mask, x * mask) + float(((y * mask - x * mask) ** 2).mean())
    return total


@pytest.mark.parametrize("size", [9, 10, 64])
def test_dssim_equals_the_loops(size: int) -> None:
    a, b = torch.rand(2, 3, 3, size, size)
    expected = np.mean(
        [dssim_by_loops(*pair) for pair in zip(a.double().numpy(), b.double().numpy(), strict=True)]
    )
    assert dssim(a, b).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("size", "blind"), [(64, 1), (128, 2)])
def test_the_last_rows_and_columns_lie_in_no_window(size: int, blind: int) -> None:
    a = torch.rand(1, 3, size, size)
    b = torch.rand(1, 3, size, size, requires_grad=True)
    dssim(a, b).backward()
    assert b.grad is not None
    moved = b.grad.abs().sum(dim=(0, 1))
    assert not moved[-blind:].any()
    assert not moved[:, -blind:].any()
    assert moved[: size - blind, : size - blind].all()


def test_dssim_is_not_upset_by_flat_windows() -> None:
    flat = torch.full((1, 3, 9, 9), 0.7, requires_grad=True)
    value = dssim(torch.full((1, 3, 9, 9), 0.7), flat)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-6)
    assert flat.grad is not None
    assert flat.grad.isfinite().all()


def test_the_face_loss_equals_the_loops() -> None:
    y, x, masks = torch.rand(3, 2, 3, 12, 12)
    expected = np.mean(
        [loss_by_loops(*(e.double().numpy() for e in row)) for row in zip(y, x, masks, strict=True)]
    )
    assert face_loss(y, x, masks).item() == pytest.approx(expected, rel=1e-5)
    assert training_loss(y, x, masks).item() == face_loss(y, x, masks).item()


def test_a_perfect_reconstruction_costs_nothing() -> None:
    y, masks = torch.rand(2, 2, 3, 64, 64)
    for kind in ("ssim", "mae"):
        assert training_loss(y, y.clone(), masks, kind=kind).item() == pytest.approx(0, abs=1e-6)


def test_what_the_masks_hide_costs_nothing() -> None:
    y, x = torch.rand(2, 1, 3, 12, 12)
    masks = torch.zeros(1, 3, 12, 12)
    masks[..., :6] = 1
    x[..., :6] = y[..., :6]
    assert face_loss(y, x, masks).item() == pytest.approx(0, abs=1e-6)


def test_the_older_loss_is_the_mean_absolute_error_without_masks() -> None:
    y, x = torch.rand(2, 1, 3, 12, 12)
    none = torch.zeros(1, 3, 12, 12)
    assert training_loss(y, x, none, kind="mae").item() == pytest.approx((y - x).abs().mean().item())


def test_masks_must_be_three() -> None:
    y = torch.rand(1, 3, 12, 12)
    for masks in (1, 6):
        with pytest.raises(ValueError, match="values to unpack"):
            face_loss(y, y, torch.ones(1, masks, 12, 12))


def test_the_optimiser_has_the_published_settings() -> None:
    optimizer = make_optimizer(nn.Linear(2, 2), lr=SwapTrainConfig().learning_rate)
    assert isinstance(optimizer, torch.optim.Adam)
    (group,) = optimizer.param_groups
    assert len(group["params"]) == 2
    assert (group["lr"], group["betas"], group["eps"], group["weight_decay"]) == (5e-5, (0.5, 0.99), 1e-7, 0)
