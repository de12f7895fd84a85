"""The template masks and the box mask."""

import numpy as np
import numpy.typing as npt
import pytest

from dfdm_ray.generators.masks import box_mask, face_outline_mfu, render_conversion_mask, render_masks

Mask = npt.NDArray[np.float32]


def at(
    mask: Mask, x_mfu: float, y_mfu: float, *, span: float, centre: tuple[float, float] = (0.5, 0.333)
) -> float:
    """Value of the mask at a place of the mean face."""
    size = len(mask)
    column = int((x_mfu - centre[0]) * size / span + size / 2)
    row = int((y_mfu - centre[1]) * size / span + size / 2)
    return float(mask[row, column])


def test_masks_are_floats_between_none_and_all() -> None:
    masks = render_masks(128, span_mfu=1.75)
    assert masks.shape == (3, 128, 128)
    assert masks.dtype == np.float32
    assert masks.min() == 0
    assert masks.max() == pytest.approx(1)
    assert masks.flags.c_contiguous


def test_a_frontal_face_is_symmetric() -> None:
    np.testing.assert_allclose(
        render_masks(128, span_mfu=2.0), render_masks(128, span_mfu=2.0)[..., ::-1], atol=0.02
    )


def test_the_outline_is_the_hull_of_jaw_and_raised_brows() -> None:
    outline = face_outline_mfu()
    np.testing.assert_allclose(outline.min(axis=0), (-0.112, -0.061), atol=1e-6)
    np.testing.assert_allclose(outline.max(axis=0), (1.112, 1.205), atol=1e-6)


def test_the_face_mask_agrees_with_the_published_ellipse() -> None:
    """Its substitute, centre (0.5, 0.52) and semi-axes 0.61 and 0.68, overlaps the hull by 0.92."""
    size, span = 256, 2.8
    centre = (0.5, 0.5)
    face = render_conversion_mask(size, span_mfu=span, centre=centre) > 0.5
    line = (np.arange(size) + 0.5 - size / 2) * span / size + 0.5
    ellipse = ((line[None] - 0.5) / 0.61) ** 2 + ((line[:, None] - 0.52) / 0.68) ** 2 < 1
    assert (face & ellipse).sum() / (face | ellipse).sum() == pytest.approx(0.92, abs=0.01)


def test_eyes_and_mouth_are_where_they_belong() -> None:
    span = 1.75
    face, eyes, mouth = render_masks(128, span_mfu=span)
    for x in (0.235365, 0.764635):
        assert at(eyes, x, 0.215990, span=span) > 0.95
        assert at(mouth, x, 0.215990, span=span) == 0
    assert at(mouth, 0.5, 0.82, span=span) > 0.99
    assert at(mouth, 0.5 - 0.24, 0.82, span=span) > 0.5
    assert at(eyes, 0.5, 0.82, span=span) == 0
    assert at(eyes, 0.5, 0.215990, span=span) == 0  # between the eyes
    assert at(face, 0.5, 0.5, span=span) == pytest.approx(1)
    assert at(face, 0.5, -0.2, span=span) == 0  # forehead


def test_zones_have_the_area_of_their_ellipses() -> None:
    size, span = 256, 2.0
    _, eyes, mouth = render_masks(size, span_mfu=span)
    px = (size / span) ** 2
    assert eyes.sum() == pytest.approx(2 * np.pi * 0.138 * 0.064 * px, rel=0.01)
    assert mouth.sum() == pytest.approx(np.pi * 0.267 * 0.122 * px, rel=0.01)


def test_a_mask_does_not_fade_where_the_crop_cuts_it() -> None:
    """At span 1.6 the chin lies below the crop."""
    face = render_masks(64, span_mfu=1.6)[0]
    assert face[-1, 32] == pytest.approx(1)


def test_a_moved_centre_moves_the_mask() -> None:
    moved = render_conversion_mask(64, span_mfu=1.6, centre=(0.5, 0.333 + 1.6 * 8 / 64))
    np.testing.assert_allclose(moved[:-8], render_conversion_mask(64, span_mfu=1.6)[8:], atol=0.02)


def test_masks_of_two_sizes_are_the_same_picture() -> None:
    large = render_masks(256, span_mfu=1.75).reshape(3, 64, 4, 64, 4).mean(axis=(2, 4))
    difference = np.abs(render_masks(64, span_mfu=1.75) - large)
    # OpenCV fills outlines too: an eighth of half a pixel.
    assert difference.max() < 0.12
    assert difference.mean() < 0.005


def test_the_conversion_mask_has_the_same_face_and_a_softer_edge() -> None:
    hard = render_masks(128, span_mfu=2.0)[0]
    soft = render_conversion_mask(128, span_mfu=2.0)
    np.testing.assert_allclose(soft[52:90, 40:88], hard[52:90, 40:88], atol=1e-5)
    between = ((soft > 0.05) & (soft < 0.95)).sum() / ((hard > 0.05) & (hard < 0.95)).sum()
    assert between > 1.5


@pytest.mark.parametrize(("size", "inset", "kernel"), [(64, 4, 7), (128, 7, 13)])
def test_the_box_mask_fades_over_its_kernel(size: int, inset: int, kernel: int) -> None:
    mask = box_mask(size)
    assert mask.shape == (size, size)
    line = mask[size // 2]
    reach = kernel // 2
    assert (line[: inset - reach] == 0).all()
    assert (np.diff(line[inset - reach - 1 : inset + reach + 1]) > 0).all()
    assert line[inset + reach : size - inset - reach] == pytest.approx(1)
    # OpenCV takes kernels up to 7 from a table that is near this, not equal to it.
    sigma = 0.3 * ((kernel - 1) / 2 - 1) + 0.8
    weight = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    assert line[inset] == pytest.approx(weight[: reach + 1].sum() / weight.sum(), abs=5e-3)
    np.testing.assert_allclose(mask, mask.T, atol=1e-6)
    np.testing.assert_allclose(mask, mask[::-1, ::-1], atol=1e-6)
