"""Looks of faces: what tells two people apart, and what does not."""

import numpy as np
import numpy.typing as npt
import pytest

from dfdm_ray.faces.looks import alike, face_look

BOX = np.array([10, 10, 50, 60], np.float32)
NOISE = np.random.default_rng(0).normal(0, 12, (70, 60, 3))
PALE, DARK = NOISE + np.array([170, 130, 110]), NOISE + np.array([110, 72, 60])


def look(rgb: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    return face_look(np.clip(rgb, 0, 255).astype(np.uint8), BOX)


def test_a_look_is_shares_of_colours() -> None:
    assert look(PALE).shape == (576,)
    assert look(PALE).sum() == pytest.approx(1)


@pytest.mark.parametrize(
    "same",
    [
        PALE[:, ::-1],  # mirrored
        PALE * 0.6,  # darker
        PALE * 1.2,  # brighter
        PALE.repeat(2, 0).repeat(2, 1)[:70, :60],  # nearer
    ],
)
def test_one_face_in_other_places_and_exposures_looks_alike(same: npt.NDArray[np.float64]) -> None:
    assert alike(look(PALE), look(same))


def test_other_colours_do_not_look_alike_unless_both_are_grey() -> None:
    assert not alike(look(PALE), look(DARK))
    grey_pale, grey_dark = (face.mean(axis=2, keepdims=True).repeat(3, 2) for face in (PALE, DARK))
    assert alike(look(grey_pale), look(grey_dark))
    assert not alike(look(PALE), look(grey_pale))


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 0, 0), (0, 0, 255), (255, 255, 255)])
def test_extreme_colours_have_a_look(colour: tuple[int, int, int]) -> None:
    flat = np.full((70, 60, 3), colour, float)
    assert alike(look(flat), look(flat))
