"""Cuts from one person to another at the same place, and faces that lie sideways or upside down."""

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
from support.videos import ScriptedDetector, VideoRecipe, steady_frame, write_video, x264

from dfdm_ray import assets
from dfdm_ray.clips.cut import ClipFacts, FaceClips, load_detector, prepare_clips
from dfdm_ray.clips.spec import ClipSpec, clip_spec
from dfdm_ray.config import CropConfig, FaceConfig, PlanConfig, Strategy
from dfdm_ray.faces.detector import Detections, Frame
from dfdm_ray.faces.looks import Look
from dfdm_ray.faces.tracks import RunTrack
from dfdm_ray.faces.turns import as_shown, find_turn, quarter_turns, turn_back

pytestmark = pytest.mark.slow

Pixels = npt.NDArray[np.uint8]
FACE = (50, 0, 90, 40)
SKIN = np.random.default_rng(0).normal(0, 12, (2, 10, 10, 3)).repeat(4, 1).repeat(4, 2)
PALE, DARK = (SKIN + np.array([[[[210, 160, 130]]], [[[120, 80, 70]]]])).astype(np.uint8)


def spec(strategy: Strategy = "keyframe_runs", *, frames: int = 10) -> ClipSpec:
    crop = CropConfig(size=64, margin=0.3)
    return clip_spec(PlanConfig(strategy=strategy), FaceConfig(), crop, num_frames=frames)


def people(path: Path, *starts: int) -> Path:
    """100 frames, key frames 25 apart: a pale person up to the first of ``starts``, then in turns."""

    def draw(number: int) -> Pixels:
        rgb = steady_frame(number)
        rgb[:40, 50:90] = (PALE, DARK)[sum(number >= start for start in starts) % 2]
        return rgb

    return write_video(path, VideoRecipe(num_frames=100, options=x264(sc_threshold="0")), draw=draw)


def cut(path: Path, wanted: ClipSpec) -> tuple[FaceClips, ClipFacts]:
    facts = ClipFacts()
    return prepare_clips(str(path), ScriptedDetector(lambda _: [FACE]), wanted, facts), facts


@pytest.mark.parametrize(
    ("strategy", "starts"),
    [
        ("keyframe_runs", (50,)),  # one person in each of the planned runs
        ("keyframe_runs", (27,)),  # a cut inside a run
        ("head", (4,)),  # a cut inside the only run
        ("uniform", (48,)),
        ("keyframe_runs", (26, 51, 76)),  # to and fro
    ],
)
def test_no_clip_holds_two_people(strategy: Strategy, starts: Sequence[int], tmp_path: Path) -> None:
    clips, facts = cut(people(tmp_path / "v.mp4", *starts), spec(strategy))
    shades = clips.crops[0][:, 20:44, 20:44].mean(axis=(1, 2, 3))
    assert np.ptp(shades) < 20
    assert facts.num_faces == 2


def test_one_person_is_one_subject_at_no_cost(tmp_path: Path) -> None:
    clips, facts = cut(people(tmp_path / "v.mp4"), spec())
    assert (facts.num_faces, clips.crops.shape[1]) == (1, 10)
    assert facts.num_frames_decoded <= 11


def frames_of(name: str, count: int) -> list[Pixels]:
    with av.open(str(assets.get(name))) as container:
        return [
            np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
            for _, frame in zip(range(count), container.decode(video=0), strict=False)
        ]


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_face_in_turned_pixels_is_cropped_upright(turns: int, tmp_path: Path) -> None:
    shown = frames_of("single_face.mp4", 10)
    lossless = {"crf": "0", "preset": "ultrafast", "bf": "0"}
    found = {}
    detector, _ = load_detector(FaceConfig())
    for angle in (0, turns):
        frames = [turn_back(frame, -angle) for frame in shown]
        recipe = VideoRecipe(
            num_frames=10,
            size=(frames[0].shape[1], frames[0].shape[0]),
            codec="libx264rgb",
            pix_fmt="rgb24",
            options=lossless,
        )
        path = write_video(tmp_path / f"{angle}.mkv", recipe, draw=lambda number, f=frames: f[number])
        found[angle] = prepare_clips(str(path), detector, spec("head"), ClipFacts())
    np.testing.assert_array_equal(found[turns].crops, found[0].crops)
    # boxes and landmarks are in the frame as it is shown
    height, width = shown[0].shape[:2]
    expected = as_shown(found[0].landmarks, turns, (height, width))
    np.testing.assert_allclose(found[turns].landmarks, expected, atol=0.01)
    left, top, right, bottom = found[turns].boxes_xyxy[0]
    inside = (found[turns].landmarks[0] > (left, top)) & (found[turns].landmarks[0] < (right, bottom))
    assert inside.all()


UPRIGHT = np.array([[10, 10], [30, 10], [20, 20], [12, 30], [28, 30]], np.float32)


@pytest.mark.parametrize("turns", range(4))
def test_landmarks_tell_the_quarter_turns(turns: int) -> None:
    assert quarter_turns(as_shown(UPRIGHT, turns, (100, 60))) == turns
    frame = np.zeros((100, 60, 3), np.uint8)
    frame[10, 30] = 255
    (row, column), *_ = np.argwhere(turn_back(frame, -turns).any(axis=2)).tolist()
    np.testing.assert_array_equal(
        np.floor(as_shown(np.array([30.5, 10.5], np.float32), turns, (100, 60))), [column, row]
    )


class Patches:
    """A detector whose scores and landmarks depend on the direction of the patch only."""

    name = "patches"

    def __init__(self, scores: Sequence[float], turns: Sequence[int]) -> None:
        self.answers = list(zip(scores, turns, strict=True))
        self.num_asked = 0

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        self.num_asked += len(frames)
        return [face(score, turns) for score, turns in self.answers]


def face(score: float, turns: int) -> Detections:
    box = np.array([[5, 5, 35, 35]], np.float32)
    points = as_shown(UPRIGHT, turns, (40, 40))[None]
    return Detections(boxes_xyxy=box, scores=np.array([score], np.float32), landmarks=points)


@pytest.mark.parametrize(
    ("score", "turns", "patches", "expected", "asked"),
    [
        # a sure, upright face costs nothing
        (0.999, 0, Patches([], []), 0, 0),
        # on its side
        (0.999, 1, Patches([0.99, 0.999, 0.99, 0.98], [1, 0, 3, 2]), 1, 4),
        # upside down with upright landmarks, which the other direction corrects
        (0.97, 0, Patches([0.97, 0.9, 0.999, 0.9], [0, 3, 0, 1]), 2, 4),
        # a doubtful face that is upright
        (0.9, 0, Patches([0.9, 0.8, 0.85, 0.8], [0, 3, 0, 1]), 0, 4),
        # nothing is upright: as it is
        (0.9, 1, Patches([0.9, 0.9, 0.9, 0.9], [1, 1, 1, 1]), 0, 4),
    ],
)
def test_scores_of_upright_landmarks_decide_the_turn(
    score: float, turns: int, patches: Patches, expected: int, asked: int
) -> None:
    one = face(score, turns)
    track = RunTrack(
        frames=np.array([0]),
        boxes_xyxy=one.boxes_xyxy,
        landmarks=one.landmarks,
        scores=one.scores,
        look=Look(np.ones(4, np.float32), np.zeros((18, 32, 3), np.uint8)),
    )
    assert find_turn(np.zeros((40, 40, 3), np.uint8), track, patches) == expected
    assert patches.num_asked == asked
