"""Cuts in runs of frames, from thumbnails."""

import numpy as np
import numpy.typing as npt
import pytest

from dfdm_ray.faces.cuts import change, cuts, elsewhere, thumbnail

RNG = np.random.default_rng(0)


def shade(grey: int) -> npt.NDArray[np.uint8]:
    return np.full((18, 32, 3), grey, np.uint8)


@pytest.mark.parametrize(
    ("greys", "found"),
    [
        ([100, 101, 102, 103, 104], []),
        ([100, 101, 111, 112, 112], [2]),  # sudden, as between two people in one studio
        ([100, 105, 115, 120, 125], []),  # fast, but the whole run is
        ([100, 130, 130, 131, 132], [1]),
        ([100, 130, 100, 130, 132], [1, 2, 3]),  # large
        ([100, 130], [1]),
        ([100, 110], []),  # one change has nothing to be compared with
        ([100], []),
    ],
)
def test_a_cut_is_a_sudden_or_a_large_change(greys: list[int], found: list[int]) -> None:
    assert cuts([shade(grey) for grey in greys], np.arange(len(greys)) / 25) == found


def test_frames_far_apart_in_time_may_differ() -> None:
    pictures = [shade(100), shade(150), shade(200)]
    assert cuts(pictures, np.array([0.0, 0.5, 0.54])) == [2]


@pytest.mark.parametrize("size", [(9, 16), (96, 160), (1080, 1920)])
def test_a_thumbnail_has_the_colours_of_the_frame_in_their_places(size: tuple[int, int]) -> None:
    frame = np.zeros((*size, 3), np.uint8)
    frame[:, size[1] // 2 :] = (200, 100, 0)
    small = thumbnail(frame)
    assert small.shape == (18, 32, 3)
    assert small[:, :15].max() == 0
    assert (small[:, 17:] == (200, 100, 0)).all()


def test_noise_is_no_change_and_another_place_is() -> None:
    noisy = [np.clip(100 + RNG.normal(0, 20, (360, 640, 3)), 0, 255).astype(np.uint8) for _ in range(2)]
    assert change(*map(thumbnail, noisy)) < 4
    assert not elsewhere(*map(thumbnail, noisy))
    assert elsewhere(shade(100), shade(130))
