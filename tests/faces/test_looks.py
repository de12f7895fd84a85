"""Looks of faces: what tells two people apart, and what does not."""

import numpy as np
import numpy.typing as npt
import pytest

from dfdm_ray.faces.looks import Look, alike_anywhere, face_look

BOX = np.array([10, 10, 50, 60], np.float32)
NOISE = np.random.default_rng(0).normal(0, 12, (70, 60, 3))
PALE, DARK = NOISE + np.array([170, 130, 110]), NOISE + np.array([110, 72, 60])


HERE, THERE = np.full((18, 32, 3), 50, np.uint8), np.full((18, 32, 3), 90, np.uint8)


def look(rgb: npt.NDArray[np.float64], picture: npt.NDArray[np.uint8] = HERE) -> Look:
    return Look(face_look(np.clip(rgb, 0, 255).astype(np.uint8), BOX), picture)


def test_a_look_is_shares_of_colours() -> None:
    assert look(PALE).colours.shape == (576,)
    assert look(PALE).colours.sum() == pytest.approx(1)


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
    assert alike_anywhere(look(PALE), look(same))


def test_other_colours_do_not_look_alike_unless_both_are_grey() -> None:
    assert not alike_anywhere(look(PALE), look(DARK))
    grey_pale, grey_dark = (face.mean(axis=2, keepdims=True).repeat(3, 2) for face in (PALE, DARK))
    assert alike_anywhere(look(grey_pale), look(grey_dark))
    assert not alike_anywhere(look(PALE), look(grey_pale))


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 0, 0), (0, 0, 255), (255, 255, 255)])
def test_extreme_colours_have_a_look(colour: tuple[int, int, int]) -> None:
    flat = np.full((70, 60, 3), colour, float)
    assert alike_anywhere(look(flat), look(flat))


def test_faces_of_one_colour_are_alike_in_one_place_only() -> None:
    sepia = PALE.mean(axis=2, keepdims=True) * np.array([1.1, 1.0, 0.8])
    for plain in (PALE.mean(axis=2, keepdims=True).repeat(3, 2), sepia):
        assert look(plain).is_plain
        assert alike_anywhere(look(plain), look(plain))
        assert not alike_anywhere(look(plain), look(plain, THERE))
    assert not look(PALE).is_plain
    assert alike_anywhere(look(PALE), look(PALE, THERE))
