"""Putting a face back into its frame."""

import numpy as np
import numpy.typing as npt
import pytest

from dfdm_ray.faces.alignment import (
    MEAN_FACE_MFU,
    align_face,
    apply_matrix,
    between_pixel_centres,
    crop_matrix,
    spans,
)
from dfdm_ray.generators.blend import match_mean_colour, paste_face
from dfdm_ray.generators.masks import box_mask, render_conversion_mask

SIZE = 64


def smooth_frame(height: int = 120, width: int = 160) -> npt.NDArray[np.uint8]:
    """Slow waves of colour, which survive being sampled twice."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 17), np.cos(y / 13), np.sin((x + y) / 23)]
    return np.asarray(np.round(128 + 90 * np.stack(waves, axis=-1)), np.uint8)


def matrix_for(
    scale: float, centre: tuple[float, float] = (80, 60), angle: float = 0.2, size: int = SIZE
) -> npt.NDArray[np.float64]:
    """A crop of ``size`` pixels around ``centre`` that enlarges the frame ``scale`` times."""
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.column_stack([turn, size / 2 - turn @ np.array(centre)])


def ones() -> npt.NDArray[np.float32]:
    return np.ones((SIZE, SIZE), np.float32)


def crop_of(frame: npt.NDArray[np.uint8], matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    return align_face(frame, matrix, SIZE).astype(np.float32) / 255


@pytest.mark.parametrize("scale", [0.6, 1.0, 1.7])
@pytest.mark.parametrize("angle", [0, 0.2])
@pytest.mark.parametrize("centre", [(80, 60), (5, 110)])  # (5, 110): half outside the frame
def test_the_same_face_leaves_the_frame_as_it_was(
    scale: float, angle: float, centre: tuple[float, float]
) -> None:
    frame = smooth_frame()
    matrix = matrix_for(scale, centre, angle)
    pasted = paste_face(frame, crop_of(frame, matrix), matrix, ones())
    assert np.abs(pasted.astype(int) - frame).max() <= 2


def test_whole_pixel_crops_come_back_exactly() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (100, 120, 3), dtype=np.uint8)
    matrix = np.array([[1, 0, -20], [0, 1, -10]], dtype=np.float64)
    np.testing.assert_array_equal(paste_face(frame, crop_of(frame, matrix), matrix, ones()), frame)


def test_nothing_outside_the_crop_changes() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    matrix = matrix_for(1.2)
    other = np.random.default_rng(1).random((SIZE, SIZE, 3), dtype=np.float32)
    pasted = paste_face(frame, other, matrix, ones())
    y, x = np.mgrid[:120, :160] + 0.5
    place = apply_matrix(matrix, np.stack([x.ravel(), y.ravel()], 1)).reshape(120, 160, 2)
    inside = ((place > 0) & (place < SIZE)).all(axis=-1)
    np.testing.assert_array_equal(pasted[~inside], frame[~inside])
    assert (pasted[inside] != frame[inside]).any(axis=-1).mean() > 0.7


def test_a_crop_outside_the_frame_changes_nothing() -> None:
    frame = smooth_frame()
    np.testing.assert_array_equal(
        paste_face(frame, np.zeros((SIZE, SIZE, 3), np.float32), matrix_for(1, (500, 500)), ones()), frame
    )


def test_the_frame_given_is_not_changed() -> None:
    frame = smooth_frame()
    kept = frame.copy()
    paste_face(frame, np.zeros((SIZE, SIZE, 3), np.float32), matrix_for(1), ones())
    np.testing.assert_array_equal(frame, kept)


def test_alpha_is_the_smaller_of_box_and_face_mask() -> None:
    """A whole-pixel crop: alpha can be read off, for colour is matched where the face mask is 0 (nowhere)."""
    frame = np.zeros((SIZE, SIZE, 3), np.uint8)
    frame[::2, ::2] = 200  # mean 50
    face = np.zeros((SIZE, SIZE, 3), np.float32)
    mask = np.full((SIZE, SIZE), 0.6, np.float32)
    identity = np.array([[1, 0, 0], [0, 1, 0]], dtype=np.float64)
    pasted = paste_face(frame, face, identity, mask)
    alpha = np.minimum(box_mask(SIZE), mask)[..., None]
    np.testing.assert_allclose(pasted, alpha * 50 + (1 - alpha) * frame, atol=0.51)


def test_colour_transfer_makes_the_means_under_the_mask_equal() -> None:
    rng = np.random.default_rng(0)
    swapped = 0.4 + 0.1 * rng.random((SIZE, SIZE, 3), dtype=np.float32)
    original = 0.5 + 0.1 * rng.random((SIZE, SIZE, 3), dtype=np.float32)
    original[..., 1] -= 0.3
    mask = rng.random((SIZE, SIZE), dtype=np.float32)
    original[mask == 0] = 0
    moved = match_mean_colour(swapped, original, mask)
    assert moved.dtype == np.float32

    def means(image: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        return np.einsum("yx,yxc->c", mask.astype(float), image.astype(float)) / mask.sum()

    np.testing.assert_allclose(means(moved), means(original), atol=1e-5)
    np.testing.assert_allclose(
        moved - swapped, np.broadcast_to((moved - swapped)[0, 0], moved.shape), atol=1e-6
    )


def test_colour_transfer_clips_and_survives_an_empty_mask() -> None:
    dark, bright = np.full((4, 4, 3), 0.1, np.float32), np.full((4, 4, 3), 0.9, np.float32)
    dark[0, 0] = 0.9
    assert match_mean_colour(dark, bright, np.ones((4, 4), np.float32)).max() == 1
    np.testing.assert_array_equal(match_mean_colour(dark, bright, np.zeros((4, 4), np.float32)), dark)


def test_a_uniform_tint_is_undone_by_the_paste() -> None:
    frame = smooth_frame()
    matrix = matrix_for(1.0, angle=0)
    tinted = crop_of(frame, matrix) + np.array([0.03, -0.02, 0.05], np.float32)
    assert np.abs(paste_face(frame, tinted, matrix, ones()).astype(int) - frame).max() <= 2


def test_the_matrix_of_the_output_is_a_multiple_of_the_inputs() -> None:
    """A network that doubles the size, as Dfaker does: the face must not move by part of a pixel."""
    frame = smooth_frame()
    landmarks = apply_matrix(np.array([[50.0, 0, 55], [0, 50.0, 35]]), MEAN_FACE_MFU)
    span = spans(0.875, faithful=True)
    matrix = crop_matrix(landmarks, size=SIZE, span_mfu=span.convert_mfu)
    drawn = align_face(frame, matrix * 2, 2 * SIZE).astype(np.float32) / 255
    mask = render_conversion_mask(2 * SIZE, span_mfu=span.train_mfu)
    assert np.abs(paste_face(frame, drawn, 2 * matrix, mask).astype(int) - frame).max() <= 2


def test_a_bright_face_moves_no_further_than_its_crop() -> None:
    """Where a single bright pixel of the crop lands, against the matrix."""
    frame = np.full((120, 160, 3), 100, np.uint8)
    matrix = matrix_for(0.5)
    face = np.full((SIZE, SIZE, 3), 100 / 255, np.float32)
    face[40, 24] = 1
    pasted = paste_face(frame, face, matrix, ones())[..., 0].astype(float)
    light = np.clip(pasted - 110, 0, None)
    y, x = np.mgrid[:120, :160]
    found = np.array([(light * x).sum(), (light * y).sum()]) / light.sum()
    expected = between_pixel_centres(matrix)[:, :2] @ found + between_pixel_centres(matrix)[:, 2]
    np.testing.assert_allclose(expected, (24, 40), atol=0.1)
