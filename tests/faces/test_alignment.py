"""Crops from landmarks."""

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from dfdm_ray.errors import UserError
from dfdm_ray.faces.alignment import (
    MEAN_FACE_MFU,
    align_face,
    apply_matrix,
    between_pixel_centres,
    crop_centre_mfu,
    crop_matrix,
    fit_similarity,
    matrix_scale,
    smooth_landmarks,
    spans,
)

Points = npt.NDArray[np.float64]


def similarity(angle_degrees: float, scale: float, shift: tuple[float, float]) -> Points:
    angle = np.deg2rad(angle_degrees)
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[c, -s, shift[0]], [s, c, shift[1]]])


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        # eyes, nose, mouth of a 64-pixel crop of a frontal face
        (1.60, [(21.41, 27.32), (42.59, 27.32), (32, 39.30), (22.56, 49.89), (41.44, 49.89)]),
        (1.75, [(22.32, 27.72), (41.68, 27.72), (32, 38.68), (23.37, 48.36), (40.63, 48.36)]),
    ],
)
@pytest.mark.parametrize("size", [64, 128])
def test_a_frontal_face_lands_on_the_template(
    span: float, expected: list[tuple[float, float]], size: int
) -> None:
    frame = apply_matrix(similarity(12, 150, (300, 80)), MEAN_FACE_MFU)
    matrix = crop_matrix(frame, size=size, span_mfu=span)
    higher = (
        0,
        (0.333 - 0.325) / span,
    )  # than the frontal centre is the centre of this pose, share of a side
    np.testing.assert_allclose(
        apply_matrix(matrix, frame), (np.array(expected) / 64 + higher) * size, atol=0.012 * size / 64
    )


@pytest.mark.parametrize("angle", [-170, -20, 0, 45, 90])
@pytest.mark.parametrize("scale", [0.1, 1, 250])
def test_a_known_similarity_is_found_again(angle: float, scale: float) -> None:
    known = similarity(angle, scale, (-40, 17))
    points = np.random.default_rng(0).normal(size=(5, 2))
    np.testing.assert_allclose(
        fit_similarity(points, apply_matrix(known, points)), known, atol=1e-9 * scale + 1e-9
    )


def test_the_fit_is_umeyamas_and_never_mirrors() -> None:
    """Against the singular value decomposition of the paper, on points that no similarity maps."""
    rng = np.random.default_rng(1)
    for _ in range(20):
        source, target = rng.normal(size=(2, 5, 2))
        centred_s, centred_t = source - source.mean(0), target - target.mean(0)
        u, singular, v = np.linalg.svd(centred_t.T @ centred_s / 5)
        sign = np.array([1, np.sign(np.linalg.det(u) * np.linalg.det(v))])
        rotation = u @ np.diag(sign) @ v
        scale = (singular * sign).sum() / centred_s.var(axis=0).sum()
        found = fit_similarity(source, target)
        np.testing.assert_allclose(found[:, :2], scale * rotation, atol=1e-9)
        np.testing.assert_allclose(apply_matrix(found, source).mean(0), target.mean(0), atol=1e-9)
        assert np.linalg.det(found[:, :2]) >= 0


@pytest.mark.parametrize("points", [np.zeros((5, 2)), np.full((5, 2), np.nan)])
def test_points_without_extent_are_refused(points: Points) -> None:
    with pytest.raises(ValueError, match="no similarity fits"):
        crop_matrix(points, size=64, span_mfu=1.6)


def test_landmarks_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"landmarks must have shape \(5, 2\)"):
        crop_matrix(np.zeros((68, 2)), size=64, span_mfu=1.6)


def test_a_matrix_for_another_size_is_a_multiple() -> None:
    frame = apply_matrix(similarity(5, 90, (100, 50)), MEAN_FACE_MFU).astype(np.float32)
    small, large = (crop_matrix(frame, size=size, span_mfu=1.6) for size in (64, 128))
    np.testing.assert_allclose(large, 2 * small)
    assert matrix_scale(small) == pytest.approx(64 / 1.6 / 90, rel=1e-5)


def test_the_centre_follows_the_nose() -> None:
    assert crop_centre_mfu(MEAN_FACE_MFU) == pytest.approx((0.5, 0.325), abs=1e-5)
    turned = MEAN_FACE_MFU.copy()
    turned[2] += (0.10, 0.05)
    fitted = apply_matrix(fit_similarity(turned, MEAN_FACE_MFU), turned)
    aside = fitted[2, 0] - (fitted[:2, 0].mean() + fitted[3:, 0].mean()) / 2
    expected = (0.5 - 0.33 * aside, 0.325 - 0.40 * (fitted[2, 1] - 0.515625))
    assert crop_centre_mfu(turned) == pytest.approx(expected)
    assert aside == pytest.approx(0.10, abs=0.02)
    moved = apply_matrix(similarity(30, 80, (5, 9)), turned)
    assert crop_centre_mfu(moved) == pytest.approx(expected)


def test_the_centre_lies_in_the_middle_of_the_crop() -> None:
    turned = MEAN_FACE_MFU + np.array([(0, 0), (0, 0), (0.1, 0), (0, 0), (0, 0)])
    matrix = crop_matrix(turned, size=64, span_mfu=1.6)
    centre = np.array([crop_centre_mfu(turned)])
    mfu_to_frame = fit_similarity(apply_matrix(fit_similarity(turned, MEAN_FACE_MFU), turned), turned)
    np.testing.assert_allclose(
        apply_matrix(matrix, apply_matrix(mfu_to_frame, centre)), [(32, 32)], atol=1e-9
    )


@pytest.mark.parametrize(
    ("coverage", "train", "convert"), [(0.875, 1.75, 1.60), (0.6875, 1.375, 1.231), (1.0, 2.0, 2.0)]
)
def test_spans_are_those_of_the_table(coverage: float, train: float, convert: float) -> None:
    assert spans(coverage, faithful=True) == pytest.approx((train, convert), abs=5e-4)
    assert spans(coverage, faithful=False) == pytest.approx((train, train))


def test_whole_pixel_shifts_copy_pixels() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    crop = align_face(frame, similarity(0, 1, (-7, -5)), 16)
    np.testing.assert_array_equal(crop, frame[5:21, 7:23])


def test_doubling_puts_each_pixel_on_four() -> None:
    """The continuous convention: pixel 3 reaches from 3 to 4, so at twice the size from 6 to 8."""
    frame = np.zeros((16, 16, 3), np.uint8)
    frame[3, 3] = 240
    crop = align_face(frame, similarity(0, 2, (0, 0)), 32).astype(float)[..., 0]
    y, x = np.mgrid[:32, :32] + 0.5
    assert (crop * x).sum() / crop.sum() == pytest.approx(7, abs=0.02)
    assert (crop * y).sum() / crop.sum() == pytest.approx(7, abs=0.02)
    halved = cv2.warpAffine(crop, between_pixel_centres(similarity(0, 0.5, (0, 0))), (16, 16))
    assert halved.argmax() == 3 * 16 + 3


def test_past_the_frame_its_edge_is_repeated() -> None:
    frame = np.zeros((20, 20, 3), np.uint8)
    frame[:, 0] = 200
    crop = align_face(frame, similarity(0, 1, (10, 0)), 20)
    assert (crop[:, :10] == 200).all()


def test_no_smoothing_changes_nothing() -> None:
    track = np.random.default_rng(0).normal(size=(7, 5, 2))
    np.testing.assert_array_equal(smooth_landmarks(track, 0), track)


@pytest.mark.parametrize("frames", [0, 1, 2, 3, 30])
def test_steady_motion_is_kept_to_both_ends(frames: int) -> None:
    track = np.arange(frames)[:, None, None] * np.full((5, 2), 3.0) + np.arange(10).reshape(5, 2)
    np.testing.assert_allclose(smooth_landmarks(track, 2.0), track, atol=1e-9)


def test_jitter_shrinks_with_strength() -> None:
    noise = np.random.default_rng(0).normal(size=(400, 5, 2))
    jitter = [np.diff(smooth_landmarks(noise, strength), axis=0).std() for strength in (0, 0.5, 1, 3)]
    assert jitter == sorted(jitter, reverse=True)
    # An average with Gaussian weights of sigma s leaves 1 / (2 s sqrt(pi)) of the variance.
    left = smooth_landmarks(noise, 3)[20:-20].var()
    assert left == pytest.approx(1 / (2 * 3 * np.sqrt(np.pi)), rel=0.15)


def test_smoothing_refuses_nonsense() -> None:
    for strength in (-1, float("inf"), float("nan")):
        with pytest.raises(UserError, match="--smoothing must be at least 0 and finite"):
            smooth_landmarks(np.zeros((3, 5, 2)), strength)
