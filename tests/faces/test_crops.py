import numpy as np
import pytest

from dfdm_ray.faces.crops import crop_face, square_around


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
