import cv2
import numpy as np
import pytest

from dfdm_ray.faces.alignment import MEAN_FACE_MFU, crop_matrix
from dfdm_ray.faces.crops import GRID_PX_PER_MFU, crop_aligned, crop_face, square_around


def boxes(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


@pytest.mark.parametrize(
    ("margin", "expected"),
    [
        (0.0, (30, 20, 60)),  # 40 x 60 box: its longer side, same centre
        (0.5, (15, 5, 90)),
    ],
)
def test_the_square_is_the_longer_side_and_its_margin(margin: float, expected: tuple[int, int, int]) -> None:
    assert square_around(boxes(40, 20, 80, 80), margin=margin) == expected


def frame() -> np.ndarray:
    rows, columns = np.mgrid[0:100, 0:120]
    return np.stack([rows, columns, rows + columns], axis=2).astype(np.uint8)


def test_a_crop_at_its_own_size_is_the_pixels() -> None:
    crop = crop_face(frame(), boxes(30, 20, 70, 60), size=40, margin=0.0)
    np.testing.assert_array_equal(crop, frame()[20:60, 30:70])


def test_shrinking_averages_areas() -> None:
    crop = crop_face(frame(), boxes(20, 20, 60, 60), size=10, margin=0.0)
    means = frame()[20:60, 20:60].reshape(10, 4, 10, 4, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(crop, means, atol=0.51)


@pytest.mark.parametrize(
    ("box", "inside"),
    [
        (boxes(-10, 30, 30, 70), (slice(30, 70), slice(0, 30), slice(None), slice(10, 40))),  # left
        (boxes(100, 30, 140, 70), (slice(30, 70), slice(100, 120), slice(None), slice(0, 20))),  # right
        (boxes(30, -10, 70, 30), (slice(0, 30), slice(30, 70), slice(10, 40), slice(None))),  # top
        (boxes(30, 80, 70, 120), (slice(80, 100), slice(30, 70), slice(0, 20), slice(None))),  # bottom
    ],
)
def test_past_an_edge_the_edge_is_repeated(
    box: np.ndarray, inside: tuple[slice, slice, slice, slice]
) -> None:
    crop = crop_face(frame(), box, size=40, margin=0.0)
    rows, columns, crop_rows, crop_columns = inside
    np.testing.assert_array_equal(crop[crop_rows, crop_columns], frame()[rows, columns])
    left, top = round(float(box[0])), round(float(box[1]))
    clipped = frame()[np.clip(np.arange(top, top + 40), 0, 99)][
        :, np.clip(np.arange(left, left + 40), 0, 119)
    ]
    np.testing.assert_array_equal(crop, clipped)


def test_a_face_larger_than_the_frame_still_gives_a_square() -> None:
    assert crop_face(frame(), boxes(-50, -50, 200, 200), size=64, margin=0.3).shape == (64, 64, 3)
    assert crop_face(frame(), boxes(5, 5, 5, 5), size=64, margin=0.3).shape == (64, 64, 3)


def landmarks_at(px_per_mfu: float, *, shift: tuple[float, float]) -> np.ndarray:
    """The mean face, upright; the centre of its crop is at whole pixels for a whole shift."""
    centre = np.array([0.5, 0.325])
    return ((MEAN_FACE_MFU - centre) * px_per_mfu + shift).astype(np.float32)


def smooth_frame(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[0:height, 0:width]
    waves = [np.sin(rows / 9) * 60, np.cos(columns / 11) * 60, np.sin((rows + columns) / 13) * 60]
    return (np.stack(waves, axis=2) + 128).round().astype(np.uint8)


def test_an_upright_face_of_the_size_of_the_grid_is_cut_out_unchanged() -> None:
    frame = smooth_frame(300, 400)
    crop = crop_aligned(frame, landmarks_at(GRID_PX_PER_MFU, shift=(200, 150)), size=64)
    difference = crop.astype(int) - frame[150 - 32 : 150 + 32, 200 - 32 : 200 + 32]
    assert np.abs(difference).max() <= 1  # OpenCV rounds places to 1/32 of a pixel


def test_a_face_that_lies_on_its_side_is_turned() -> None:
    frame = smooth_frame(300, 400)
    landmarks = landmarks_at(GRID_PX_PER_MFU, shift=(200, 150))
    upright = crop_aligned(frame, landmarks, size=64)
    on_its_side = np.stack([300 - landmarks[:, 1], landmarks[:, 0]], axis=1)
    turned = crop_aligned(np.ascontiguousarray(np.rot90(frame, -1)), on_its_side, size=64)
    assert np.abs(turned.astype(int) - upright).max() <= 2


def test_a_pixel_that_a_generator_drew_is_a_square_of_four_by_four() -> None:
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    landmarks = landmarks_at(250.0, shift=(310.7, 287.3))  # a face in a frame, larger than the grid
    to_frame = cv2.invertAffineTransform(crop_matrix(landmarks, size=64, span_mfu=1.6))
    rows, columns = np.mgrid[0:600, 0:640] + 0.5
    there = np.linalg.solve(to_frame[:, :2], np.stack([columns.ravel(), rows.ravel()]) - to_frame[:, 2:])
    at = np.clip(there, 0, 63.999).astype(int)
    frame = drawn[at[1], at[0]].reshape(600, 640, 3)
    crop = crop_aligned(frame, landmarks, size=176)
    inner = drawn[10:54, 10:54]
    middles = crop.reshape(44, 4, 44, 4, 3)[:, 1:3, :, 1:3].mean(axis=(1, 3))
    assert np.abs(middles - inner).mean() < 8  # of 256; 85 for unrelated noise


def test_shrinking_an_aligned_face_averages_areas() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1200, 1200, 3), dtype=np.uint8)
    crop = crop_aligned(noise, landmarks_at(4 * GRID_PX_PER_MFU, shift=(600, 600)), size=64)
    areas = noise[600 - 128 : 600 + 128, 600 - 128 : 600 + 128].reshape(64, 4, 64, 4, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(crop, areas, atol=1.5)
