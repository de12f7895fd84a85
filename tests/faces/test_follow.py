"""Faces that are followed by their picture instead of detected again."""

from itertools import islice

import av
import numpy as np
import pytest
from support.videos import ScriptedDetector, detections, numbered_frame

from dfdm_ray import assets
from dfdm_ray.clips.cut import load_detector
from dfdm_ray.config import FaceConfig
from dfdm_ray.faces.detector import Frame
from dfdm_ray.faces.follow import followed
from dfdm_ray.faces.tracks import find_tracks, iou
from dfdm_ray.video.frames import FrameBatch

TEXTURE = np.random.default_rng(0).integers(0, 256, (30, 30, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
BOX = (120.0, 80.0, 300.0, 260.0)


def frame(x: int, y: int) -> Frame:
    """Return a picture of a face that has moved by ``x`` and ``y`` pixels."""
    picture = np.full((400, 500, 3), 90, np.uint8)
    picture[60 + y : 300 + y, 100 + x : 340 + x] = TEXTURE
    return picture


@pytest.mark.parametrize("moved", [(0, 0), (3, -4), (-7, 2), (10, 10), (-15, 0)])
def test_a_face_is_followed_to_half_a_pixel(moved: tuple[int, int]) -> None:
    faces = detections([BOX])
    found = followed(frame(0, 0), frame(*moved), faces)
    assert found is not None
    np.testing.assert_allclose(found.boxes_xyxy - faces.boxes_xyxy, [[*moved, *moved]], atol=0.5)
    np.testing.assert_allclose(found.landmarks - faces.landmarks, np.tile(moved, (1, 5, 1)), atol=0.5)
    np.testing.assert_array_equal(found.scores, faces.scores)


@pytest.mark.parametrize(
    "after",
    [
        frame(40, 0),  # too far
        frame(0, 0)[:, ::-1],  # another picture at the same place
        np.full((400, 500, 3), 90, np.uint8),  # gone
        frame(0, 0)[:300],  # another recording
    ],
)
def test_a_face_that_is_not_found_for_sure_is_not_followed(after: Frame) -> None:
    assert followed(frame(0, 0), np.ascontiguousarray(after), detections([BOX])) is None


def test_a_flat_picture_is_everywhere_and_hence_not_followed() -> None:
    flat = np.full((400, 500, 3), 90, np.uint8)
    assert followed(flat, flat, detections([BOX])) is None


@pytest.mark.parametrize(
    "box", [(-30.0, -20.0, 150.0, 160.0), (400.0, 300.0, 530.0, 430.0), (10.0, 10.0, 14.0, 14.0)]
)
def test_boxes_that_cross_the_edge_or_are_tiny_do_no_harm(box: tuple[float, float, float, float]) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (400, 500, 3)).astype(np.uint8)
    found = followed(noise, noise, detections([box]))
    if found is not None:
        np.testing.assert_allclose(found.boxes_xyxy, [box], atol=0.5)


def moving(number: int) -> Frame:
    picture = numbered_frame(number, size=(320, 192))
    picture[10:70, 100 + number : 160 + number] = TEXTURE[:60, :60]
    return picture


def test_in_a_run_of_five_frames_a_face_is_detected_once() -> None:
    detector = ScriptedDetector(lambda number: [(100 + number, 10, 160 + number, 70)])
    batch = FrameBatch(rgb=np.stack([moving(number) for number in range(5)]), pts_s=np.arange(5) / 25)
    (track,) = find_tracks(batch, detector, every=5)
    assert detector.asked == [0]
    np.testing.assert_allclose(track.boxes_xyxy[:, 0], [100, 101, 102, 103, 104], atol=0.6)


def test_a_longer_run_is_detected_anew_between_faces_that_were_followed() -> None:
    detector = ScriptedDetector(lambda number: [(100 + number, 10, 160 + number, 70)])
    batch = FrameBatch(rgb=np.stack([moving(number) for number in range(8)]), pts_s=np.arange(8) / 25)
    (track,) = find_tracks(batch, detector, every=2)
    assert detector.asked == [0, 4, 7]
    np.testing.assert_allclose(track.boxes_xyxy[:, 0], 100 + np.arange(8), atol=0.6)


def test_a_real_face_is_followed_as_well_as_it_is_detected() -> None:
    detector, _ = load_detector(FaceConfig())
    with av.open(str(assets.get("single_face.mp4"))) as container:
        frames = [one.to_ndarray(format="rgb24") for one in islice(container.decode(video=0), 5)]
    (before,), (after,) = detector.detect(frames[:1]), detector.detect(frames[4:])
    found = followed(frames[0], frames[4], before)
    assert found is not None
    assert iou(found.boxes_xyxy, after.boxes_xyxy).max() > 0.9
