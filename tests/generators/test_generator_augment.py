"""Training samples: what input and target share, and what chance may do."""

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from dfdm_ray.generators.augment import (
    STILL,
    AugmentConfig,
    area_resize,
    augment_colour,
    crop_side_px,
    draw_affine,
    training_pairs,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def smooth_faces(batch: int = 2, size: int = 96) -> Tensor:
    """Colour blobs, smooth enough to be sampled in more than one way."""
    return functional.interpolate(torch.rand(batch, 3, 6, 6), size=size, mode="bicubic").clamp(0, 1)


def no_masks(faces: Tensor) -> Tensor:
    return faces[:, :0]


def coordinates(size: int, batch: int = 1) -> Tensor:
    """An image whose red is x, green y and blue 0, in 0..1 at pixel centres."""
    line = (torch.arange(size) + 0.5) / size
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x, y, torch.zeros_like(x)])[None].repeat(batch, 1, 1, 1)


@pytest.mark.parametrize("coverage", [0.875, 0.6875, 1.0])
@pytest.mark.parametrize("input_size", [64, 128])
def test_without_chance_the_input_is_the_plain_central_crop(coverage: float, input_size: int) -> None:
    faces = torch.rand(2, 3, 192, 192)
    config = replace(STILL, coverage=coverage)
    inputs, targets, _ = training_pairs(faces, no_masks(faces), config, input_size, 64, seeded())
    side = crop_side_px(192, coverage)
    start = (192 - side) // 2
    crop = faces[..., start : start + side, start : start + side]
    plain = functional.interpolate(crop, size=input_size, mode="bilinear", align_corners=False)
    torch.testing.assert_close(inputs, plain, atol=1e-4, rtol=0)
    torch.testing.assert_close(targets, area_resize(crop, 64), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("size", "coverage", "side"), [(384, 0.875, 336), (384, 0.6875, 264), (100, 0.875, 86), (10, 0.8, 8)]
)
def test_the_crop_is_rounded_down_to_even(size: int, coverage: float, side: int) -> None:
    assert crop_side_px(size, coverage) == side


@pytest.mark.parametrize("size", [13, 40, 64, 96])
def test_area_resize_is_opencvs(size: int) -> None:
    image = torch.rand(1, 3, 96, 96)
    expected = cv2.resize(image[0].permute(1, 2, 0).numpy(), (size, size), interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(area_resize(image, size)[0].permute(1, 2, 0).numpy(), expected, atol=1e-6)


def test_area_resize_enlarges_bilinearly() -> None:
    image = torch.rand(1, 3, 8, 8)
    expected = functional.interpolate(image, size=12, mode="bilinear", align_corners=False)
    assert torch.equal(area_resize(image, 12), expected)


def test_only_the_input_is_warped() -> None:
    faces = smooth_faces()
    still = training_pairs(faces, faces[:, :1], STILL, 64, 64, seeded())
    warped = training_pairs(faces, faces[:, :1], replace(STILL, warp_fraction=0.02), 64, 64, seeded())
    assert not torch.allclose(still[0], warped[0], atol=0.02)
    assert torch.equal(still[1], warped[1])
    assert torch.equal(still[2], warped[2])


def test_input_and_target_share_colour_move_and_flip() -> None:
    """Without the warp they are one picture, sampled in two ways."""
    faces = smooth_faces(batch=8)
    inputs, targets, _ = training_pairs(
        faces, no_masks(faces), replace(AugmentConfig(), warp_fraction=0), 64, 64, seeded()
    )
    assert (inputs - targets).abs().mean() < 0.003
    still = training_pairs(faces, no_masks(faces), STILL, 64, 64, seeded())
    assert (targets - still[1]).abs().mean() > 0.03


def test_masks_move_with_the_target_and_keep_their_values() -> None:
    faces = coordinates(96, batch=8)
    config = replace(AugmentConfig(), clahe_probability=0, lightness=0, colour=0)
    _, targets, masks = training_pairs(faces, faces[:, :2], config, 64, 128, seeded())
    assert masks.shape == (8, 2, 128, 128)
    torch.testing.assert_close(masks, targets[:, :2])


def test_a_flip_mirrors_input_target_and_masks_exactly() -> None:
    faces = torch.rand(3, 3, 96, 96)
    plain = training_pairs(faces, faces[:, :1], STILL, 64, 64, seeded())
    mirrored = training_pairs(faces, faces[:, :1], replace(STILL, flip_probability=1), 64, 64, seeded())
    for before, after in zip(plain, mirrored, strict=True):
        torch.testing.assert_close(after, before.flip(3), atol=1e-4, rtol=0)


def test_half_of_many_are_flipped() -> None:
    affine = draw_affine(2000, replace(STILL, flip_probability=0.5), seeded())
    assert (affine[:, 0, 0] == -1).float().mean().item() == pytest.approx(0.5, abs=0.04)


def test_rotation_zoom_and_shift_fill_their_ranges_and_stay_inside() -> None:
    affine = draw_affine(4000, replace(AugmentConfig(), flip_probability=0), seeded())
    turn, back = affine[:, :, :2], affine[:, :, 2:]
    zoom = 1 / torch.linalg.det(turn).sqrt()
    degrees = torch.rad2deg(torch.atan2(turn[:, 0, 1], turn[:, 0, 0]))
    shift = -torch.linalg.solve(turn, back)[..., 0] / 2  # shares of the side
    for values, limit in ((zoom - 1, 0.05), (degrees, 10), (shift[:, 0], 0.05), (shift[:, 1], 0.05)):
        assert values.abs().max() <= limit * 1.001
        assert values.min() < -0.98 * limit
        assert values.max() > 0.98 * limit
        assert values.std().item() == pytest.approx(limit / math.sqrt(3), rel=0.05)


def test_the_affine_is_opencvs_rotation_about_the_centre_then_a_shift() -> None:
    affine = draw_affine(1, replace(AugmentConfig(), flip_probability=0), seeded(5))
    turn = affine[0, :, :2].double()
    angle = math.degrees(math.atan2(-turn[0, 1], turn[0, 0]))
    zoom = 1 / math.sqrt(torch.linalg.det(turn))
    shift = -torch.linalg.solve(turn, affine[0, :, 2].double()).numpy() * 96 / 2
    matrix = cv2.getRotationMatrix2D((47.5, 47.5), angle, zoom)
    matrix[:, 2] += shift
    image = smooth_faces(1)
    expected = cv2.warpAffine(
        image[0].permute(1, 2, 0).numpy(), matrix, (96, 96), borderMode=cv2.BORDER_REPLICATE
    )
    grid = functional.affine_grid(affine, [1, 3, 96, 96], align_corners=False)
    found = functional.grid_sample(image, grid, padding_mode="border", align_corners=False)
    # OpenCV rounds places to 1/32 pixel.
    np.testing.assert_allclose(found[0].permute(1, 2, 0).numpy(), expected, atol=0.01)


def test_the_warp_is_as_strong_as_the_source_says() -> None:
    """5 pixels at each node of a 336-pixel crop are 3.3 after interpolation."""
    faces = coordinates(384, batch=64)
    config = replace(STILL, warp_fraction=AugmentConfig().warp_fraction)
    inputs, _, _ = training_pairs(faces, no_masks(faces), config, 64, 64, seeded())
    plain, _, _ = training_pairs(faces, no_masks(faces), STILL, 64, 64, seeded())
    moved_px = (inputs - plain)[:, :2] * 384
    assert moved_px.square().mean().sqrt().item() == pytest.approx(3.33, rel=0.05)
    assert AugmentConfig().warp_fraction == pytest.approx(0.0149, abs=5e-5)


def test_the_warp_bends_smoothly() -> None:
    faces = coordinates(384, batch=8)
    config = replace(STILL, warp_fraction=0.0149)
    inputs, _, _ = training_pairs(faces, no_masks(faces), config, 64, 64, seeded())
    steps = inputs[:, 0].diff(dim=2) * 384 / 5.25
    assert steps.mean().item() == pytest.approx(1, abs=0.02)
    assert (steps > 0.5).all()


def test_colour_changes_stay_in_range_and_differ_from_face_to_face() -> None:
    faces = smooth_faces(1).repeat(16, 1, 1, 1)
    changed = augment_colour(faces, AugmentConfig(), seeded())
    assert changed.min() >= 0
    assert changed.max() <= 1
    means = changed.mean(dim=(2, 3))
    assert len(means.unique(dim=0)) == 16


def test_lightness_is_shifted_up_and_down() -> None:
    grey = torch.full((200, 3, 8, 8), 0.5)
    config = replace(STILL, lightness=0.30)
    level = augment_colour(grey, config, seeded()).mean(dim=(2, 3))
    assert (level.max(dim=1).values - level.min(dim=1).values).max() < 1e-4  # grey stays grey
    # L 136.1 of 255 moves to 95.3 .. 171.8, in sRGB 0.346 .. 0.643.
    assert level.min().item() == pytest.approx(0.346, abs=0.005)
    assert level.max().item() == pytest.approx(0.643, abs=0.005)


def test_contrast_is_equalised_in_some() -> None:
    faces = smooth_faces(1).repeat(64, 1, 1, 1) * 0.2 + 0.4
    changed = augment_colour(faces, replace(STILL, clahe_probability=0.5), seeded())
    contrast = changed.std(dim=(1, 2, 3))
    untouched = (contrast - faces[0].std()).abs() < 1e-3
    assert 0.3 < untouched.float().mean() < 0.7
    assert contrast[~untouched].min() > faces[0].std()


def test_the_same_seed_draws_the_same_samples() -> None:
    faces = smooth_faces(4)
    first, again, other = (
        training_pairs(faces, faces[:, :1], AugmentConfig(), 64, 128, seeded(seed)) for seed in (1, 1, 2)
    )
    for a, b, c in zip(first, again, other, strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)


def test_bytes_and_floats_are_the_same_faces_and_are_not_changed() -> None:
    faces = torch.randint(0, 256, (2, 3, 96, 96), dtype=torch.uint8)
    kept = faces.clone()
    from_bytes = training_pairs(faces, faces[:, :1], AugmentConfig(), 64, 64, seeded())
    floats = faces.float() / 255
    from_floats = training_pairs(floats, floats[:, :1], AugmentConfig(), 64, 64, seeded())
    for a, b in zip(from_bytes, from_floats, strict=True):
        assert torch.equal(a, b)
        assert a.dtype == torch.float32
        assert a.min() >= 0
        assert a.max() <= 1
    assert torch.equal(faces, kept)


def test_float_faces_are_not_changed_either() -> None:
    faces = smooth_faces()
    kept = faces.clone()
    training_pairs(faces, faces[:, :1], replace(AugmentConfig(), clahe_probability=1), 64, 64, seeded())
    assert torch.equal(faces, kept)


@pytest.mark.gpu
def test_a_gpu_draws_the_same_samples_from_a_cpu_generator() -> None:
    faces = smooth_faces(4)
    config = replace(AugmentConfig(), clahe_probability=0)  # it rounds to levels, which may tip over
    here = training_pairs(faces, faces[:, :1], config, 64, 128, seeded())
    there = training_pairs(faces.cuda(), faces[:, :1].cuda(), config, 64, 128, seeded())
    for a, b in zip(here, there, strict=True):
        assert b.is_cuda
        torch.testing.assert_close(b.cpu(), a, atol=1e-3, rtol=0)
