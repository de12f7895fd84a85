from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from dfdm_ray.video.frames import FrameBatch, square_size, upright


def stored() -> np.ndarray:
    """Three rows, four columns, no two pixels alike."""
    return np.arange(36, dtype=np.uint8).reshape(3, 4, 3)


def shown_by_the_standard(rgb: np.ndarray, a: int, b: int, c: int, d: int) -> np.ndarray:
    """Move each pixel as ISO/IEC 14496-12 says: ``x' = a x + c y``, ``y' = b x + d y``."""
    rows, columns = np.mgrid[0 : rgb.shape[0], 0 : rgb.shape[1]]
    x, y = a * columns + c * rows, b * columns + d * rows
    x, y = x - x.min(), y - y.min()
    shown = np.zeros((y.max() + 1, x.max() + 1, 3), np.uint8)
    shown[y, x] = rgb
    return shown


TURNS = [  # all eight ways to lay a rectangle on another
    *((a, 0, 0, d) for a, d in product((1, -1), repeat=2)),
    *((0, b, c, 0) for b, c in product((1, -1), repeat=2)),
]


@pytest.mark.parametrize(("a", "b", "c", "d"), TURNS)
def test_a_frame_is_turned_and_mirrored_as_its_matrix_says(a: int, b: int, c: int, d: int) -> None:
    matrix = np.array([[a << 16, b << 16, 0], [c << 16, d << 16, 0], [0, 0, 1 << 30]], np.int32)
    shown = upright(stored(), matrix)
    np.testing.assert_array_equal(shown, shown_by_the_standard(stored(), a, b, c, d))
    assert shown.flags.c_contiguous


def test_without_a_matrix_a_frame_is_as_stored() -> None:
    np.testing.assert_array_equal(upright(stored(), None), stored())


def test_an_angle_between_quarter_turns_is_rounded() -> None:
    degrees = np.radians(100)
    a, b = (round(65536 * float(value)) for value in (np.cos(degrees), np.sin(degrees)))
    matrix = np.array([[a, b, 0], [-b, a, 0], [0, 0, 1 << 30]], np.int32)
    np.testing.assert_array_equal(upright(stored(), matrix), np.rot90(stored(), k=-1))


@pytest.mark.parametrize(
    ("stored", "ratio", "shown"),
    [
        ((720, 576), Fraction(16, 15), (768, 576)),  # PAL, 4:3
        ((720, 480), Fraction(8, 9), (720, 540)),  # NTSC, 4:3: the lower side grows
        ((1440, 1080), Fraction(4, 3), (1920, 1080)),  # HDV
        ((352, 576), Fraction(32, 11), (1024, 576)),  # half the width, 16:9
        ((640, 360), None, (640, 360)),  # unknown
        ((640, 360), Fraction(1), (640, 360)),
        ((1918, 1080), Fraction(960, 959), (1918, 1080)),  # rounded by a muxer
        ((640, 360), Fraction(5), (640, 360)),  # nonsense, both ways
        ((640, 360), Fraction(1, 5), (640, 360)),
    ],
)
def test_pixels_become_square_and_none_is_lost(
    stored: tuple[int, int], ratio: Fraction | None, shown: tuple[int, int]
) -> None:
    assert square_size(*stored, ratio) == shown


@pytest.mark.parametrize(
    ("rgb", "pts_s", "says"),
    [
        (np.zeros((2, 4, 4), np.uint8), np.zeros(2), "uint8 (T, H, W, 3)"),  # no colours
        (np.zeros((2, 4, 4, 4), np.uint8), np.zeros(2), "uint8 (T, H, W, 3)"),  # four of them
        (np.zeros((2, 4, 4, 3), np.float32), np.zeros(2), "got float32"),
        (np.zeros((2, 4, 4, 3), np.uint8), np.zeros(3), "shape (2,), got (3,)"),
    ],
)
def test_a_batch_of_another_shape_is_a_bug(rgb: np.ndarray, pts_s: np.ndarray, says: str) -> None:
    with pytest.raises(ValueError, match="must") as error:
        FrameBatch(rgb=rgb, pts_s=pts_s)
    assert says in str(error.value)
    assert len(FrameBatch(rgb=np.zeros((2, 4, 4, 3), np.uint8), pts_s=np.zeros(2))) == 2
