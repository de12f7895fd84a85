import numpy as np
import pytest
from support.videos import detections

from dfdm_ray.faces.detector import Detections, Frame
from dfdm_ray.faces.looks import Look, face_look
from dfdm_ray.faces.tracks import FaceTrack, RunTrack, choose_subject, iou, join, link

Box = tuple[float, float, float, float]


def box(x: float, y: float, side: float = 20) -> Box:
    return (x, y, x + side, y + side)


SKIN = np.random.default_rng(0).normal(0, 12, (32, 32, 3))
NOWHERE = np.zeros((18, 32, 3), np.uint8)


def look(colour: tuple[int, int, int] = (180, 130, 110), picture: Frame = NOWHERE) -> Look:
    face = np.clip(SKIN + colour, 0, 255).astype(np.uint8)
    return Look(face_look(face, np.array([0, 0, 32, 32], np.float32)), picture)


def linked(detections: dict[int, Detections]) -> list[RunTrack]:
    """Link faces of one look."""
    return link(detections, {frame: [look()] * len(found) for frame, found in detections.items()})


def track(*boxes: Box, colour: tuple[int, int, int] = (180, 130, 110)) -> RunTrack:
    found = detections(boxes)
    return RunTrack(
        frames=np.arange(len(boxes)),
        boxes_xyxy=found.boxes_xyxy,
        landmarks=found.landmarks,
        scores=found.scores,
        look=look(colour),
    )


def test_overlap_is_shared_area_over_united_area() -> None:
    a = np.array([[0, 0, 10, 10]], np.float32)
    b = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30], [3, 3, 3, 3]], np.float32)
    np.testing.assert_allclose(iou(a, b), [[1.0, 1 / 3, 0.0, 0.0]], atol=1e-6)


def test_boxes_between_two_looks_are_on_a_straight_line() -> None:
    (found,) = linked({0: detections([box(0, 0)]), 4: detections([box(8, 4)])})
    assert found.frames.tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(found.boxes_xyxy[:, 0], [0, 2, 4, 6, 8])
    np.testing.assert_allclose(found.landmarks[2, 0], [4, 2])


def test_two_faces_that_pass_each_other_stay_two_faces() -> None:
    looks = {t: detections([box(4.0 * t, 0), box(60 - 4.0 * t, 6)]) for t in range(16)}
    found = linked(looks)
    assert len(found) == 2
    assert sorted(one.boxes_xyxy[0, 0] for one in found) == [0, 60]
    assert sorted(one.boxes_xyxy[-1, 0] for one in found) == [0, 60]
    assert all(np.abs(np.diff(one.boxes_xyxy[:, 1])).max() == 0 for one in found)  # none changes its line


def test_a_face_that_comes_later_or_jumps_is_a_track_of_its_own() -> None:
    looks = {0: detections([box(0, 0)]), 1: detections([box(0, 0), box(90, 0)]), 2: detections([box(200, 0)])}
    assert [one.frames.tolist() for one in linked(looks)] == [[0, 1], [1], [2]]


def test_a_look_without_faces_ends_the_tracks() -> None:
    looks = {0: detections([box(0, 0)]), 1: detections([]), 2: detections([box(0, 0)])}
    assert [one.frames.tolist() for one in linked(looks)] == [[0], [2]]
    assert linked({0: detections([])}) == []


def test_faces_at_one_place_that_do_not_look_alike_are_two_tracks() -> None:
    """After a cut."""
    found = detections([box(0, 0)])
    pale, dark = look((230, 190, 170)), look((110, 60, 40))
    seen = link(dict.fromkeys(range(4), found), {0: [pale], 1: [pale], 2: [dark], 3: [dark]})
    assert [one.frames.tolist() for one in seen] == [[0, 1], [2, 3]]


def test_a_face_that_turns_slowly_into_another_is_two_tracks() -> None:
    """In a dissolve, each frame looks like the one before."""
    shades = np.linspace((230, 190, 170), (110, 60, 40), 9).astype(int)
    looks = {at: [look((r, g, b))] for at, (r, g, b) in enumerate(shades.tolist())}
    assert len(link(dict.fromkeys(range(9), detections([box(0, 0)])), looks)) > 1


JOINS = [
    # second run's box, faces after joining
    (box(10, 5), 1),  # moved by half a side
    (box(70, 0), 2),  # too far
    (box(0, 0, side=50), 2),  # too much larger
]


@pytest.mark.parametrize(("second", "faces"), JOINS)
def test_tracks_of_separate_runs_are_joined_by_place_and_size(second: Box, faces: int) -> None:
    found = join([[track(box(0, 0))], [track(second)]])
    assert len(found) == faces
    assert sum(face.num_frames for face in found) == 2


def test_tracks_of_separate_runs_that_do_not_look_alike_are_not_joined() -> None:
    assert len(join([[track(box(0, 0))], [track(box(0, 0), colour=(110, 60, 40))]])) == 2


def test_one_run_cannot_give_a_face_two_tracks() -> None:
    found = join([[track(box(0, 0))], [track(box(2, 0)), track(box(8, 0))]])
    assert sorted(len(face.parts) for face in found) == [1, 2]
    joined = next(face for face in found if len(face.parts) == 2)
    assert joined.parts[1].boxes_xyxy[0, 0] in (2, 8)


def face(*boxes: Box) -> FaceTrack:
    return FaceTrack(parts={0: track(*boxes)})


SUBJECTS = [
    # two faces in a frame of 100x200, which is the subject
    (face(*[box(40, 90)] * 9), face(*[box(40, 90)] * 3), 0),  # the longer
    (face(box(30, 40, 40)), face(box(40, 140, 20)), 0),  # the larger
    (face(box(0, 0)), face(box(90, 40)), 1),  # the more central
]


@pytest.mark.parametrize(("first", "second", "subject"), SUBJECTS)
def test_the_subject_is_the_longest_largest_most_central_face(
    first: FaceTrack, second: FaceTrack, subject: int
) -> None:
    faces = [first, second]
    assert choose_subject(faces, frame_size=(100, 200)) is faces[subject]
    assert choose_subject(faces[::-1], frame_size=(100, 200)) is faces[subject]


def test_without_a_face_there_is_no_subject() -> None:
    assert choose_subject([], frame_size=(10, 10)) is None
