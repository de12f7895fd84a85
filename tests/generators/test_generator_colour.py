"""Colour spaces and contrast, against OpenCV."""

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch

from dfdm_ray.generators.colour import clahe, lab_from_rgb, rgb_from_lab, shift_lab


def smooth_image(size: int) -> npt.NDArray[np.uint8]:
    """Grey blobs over most of the range, so that the tiles differ."""
    noise = np.random.default_rng(0).normal(size=(size, size)).astype(np.float32)
    blobs = cv2.GaussianBlur(noise, (0, 0), size / 20)
    return np.asarray(cv2.normalize(blobs, None, 20, 230, cv2.NORM_MINMAX), np.uint8)


def test_lab_is_opencvs_in_8_bit_scaling() -> None:
    rgb = torch.rand(1, 3, 32, 32)
    reference = cv2.cvtColor(rgb[0].permute(1, 2, 0).numpy(), cv2.COLOR_RGB2LAB)
    found = lab_from_rgb(rgb)[0].permute(1, 2, 0).numpy()
    # OpenCV interpolates in tables, hence the tolerance.
    difference = np.abs(found - (reference * (2.55, 1, 1) + (0, 128, 128)))
    assert difference.max() < 1
    assert difference.mean() < 0.2


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [
        ((1.0, 0.0, 0.0), (53.24, 80.09, 67.20)),
        ((0.0, 1.0, 0.0), (87.73, -86.18, 83.18)),
        ((0.0, 0.0, 1.0), (32.30, 79.19, -107.86)),
    ],
)
def test_the_primaries_have_their_textbook_lab(
    rgb: tuple[float, float, float], lab: tuple[float, float, float]
) -> None:
    lightness, a, b = lab_from_rgb(torch.tensor(rgb)[None, :, None, None]).flatten().tolist()
    assert (lightness / 2.55, a - 128, b - 128) == pytest.approx(lab, abs=0.05)


def test_black_white_and_grey_lie_where_lab_says() -> None:
    levels = torch.tensor([0.0, 1.0, 0.5])
    lab = lab_from_rgb(levels.expand(1, 3, 3)[:, :, None])[0, :, 0]
    torch.testing.assert_close(lab[0], torch.tensor([0, 255, 53.389 * 2.55]), atol=0.01, rtol=0)
    torch.testing.assert_close(lab[1:], torch.full((2, 3), 128.0), atol=0.01, rtol=0)


def test_lab_and_back_is_the_same_image() -> None:
    rgb = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(rgb_from_lab(lab_from_rgb(rgb)), rgb, atol=2e-5, rtol=0)


def test_a_shift_goes_its_share_of_the_way_to_the_end_of_the_range() -> None:
    lab = torch.full((1, 3, 1, 1), 100.0)
    moved = shift_lab(lab, torch.tensor([[0.2, -0.2, 0.0]]))
    assert moved.flatten().tolist() == pytest.approx([100 + 155 * 0.2, 80, 100])


@pytest.mark.parametrize("size", [96, 100])  # 100 is no multiple of 3, 6 and 7
@pytest.mark.parametrize("grid", [1, 3, 4, 6, 7])
def test_clahe_is_opencvs(size: int, grid: int) -> None:
    image = smooth_image(size)
    expected = cv2.createCLAHE(2.0, (grid, grid)).apply(image)
    found = clahe(torch.from_numpy(image)[None], grid=grid, clip_limit=2.0)[0].numpy()
    difference = np.abs(found - expected)
    # A level halfway between two may round to either.
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01


def test_clahe_treats_each_image_alone() -> None:
    images = torch.from_numpy(np.stack([smooth_image(48), 255 - smooth_image(48)]))
    both = clahe(images, grid=3, clip_limit=2.0)
    for index in range(2):
        assert torch.equal(both[index], clahe(images[index : index + 1], grid=3, clip_limit=2.0)[0])
