"""A real face and a swapped one in one video: two faces, two verdicts, and the row has the swapped one's."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from support.videos import VideoRecipe, write_video

from dfdm_ray import assets
from dfdm_ray.clips.child import CutVideos, row_of
from dfdm_ray.clips.spec import ClipSpec, clip_spec
from dfdm_ray.config import CropConfig, FaceConfig, PlanConfig
from dfdm_ray.io.lending import Files
from dfdm_ray.jobs.evaluate.cases import check_predictions
from dfdm_ray.jobs.score.attribute_clips import AttributeClips
from dfdm_ray.jobs.score.summary import several_faces
from dfdm_ray.models.checkpoint import Preprocessing, load_checkpoint, random_model, save_checkpoint
from dfdm_ray.models.dma_sta import DmaStaConfig
from dfdm_ray.models.inference import ClipScorer
from dfdm_ray.models.reference import fit_reference
from dfdm_ray.schemas import CLIPS, MANIFEST, PREDICTIONS, of_schema

pytestmark = pytest.mark.slow

Pixels = npt.NDArray[np.uint8]
FRAMES, SIZE, SIDE = 4, 64, 240
CLASSES = ("faceswap", "real")
PEOPLE = ("carphone_pristine.mp4", "single_face.mp4")


def spec(most: int = 4) -> ClipSpec:
    return clip_spec(PlanConfig(), FaceConfig(), CropConfig(size=SIZE), num_frames=FRAMES, most_faces=most)


@cache
def pictures(name: str, *, swapped: bool) -> tuple[Pixels, ...]:
    """Return ten frames, 240 pixels high and wide; a swapped face is coarse, as a small network draws it."""
    found = []
    with av.open(str(assets.get(name))) as container:
        for _, frame in zip(range(10), container.decode(video=0), strict=False):
            rgb = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
            left = (rgb.shape[1] - rgb.shape[0]) // 2
            square = cv2.resize(
                rgb[:, left : left + rgb.shape[0]], (SIDE, SIDE), interpolation=cv2.INTER_AREA
            )
            if swapped:
                coarse = cv2.resize(square[40:210, 60:180], (20, 28), interpolation=cv2.INTER_AREA)
                square[40:210, 60:180] = cv2.resize(coarse, (120, 170), interpolation=cv2.INTER_NEAREST)
            found.append(square.astype(np.uint8))
    return tuple(found)


def video(path: Path, *faces: tuple[str, bool]) -> Path:
    """Write a video with these people beside each other, from the left to the right."""
    parts = [pictures(name, swapped=swapped) for name, swapped in faces]
    recipe = VideoRecipe(num_frames=10, size=(SIDE * len(parts), SIDE))
    return write_video(path, recipe, draw=lambda number: np.hstack([part[number] for part in parts]))


def clips_of(path: Path, most: int = 4) -> dict[str, Any]:
    weights = assets.get("retinaface-mobilenet0.25.onnx").read_bytes()
    work = CutVideos(faces=FaceConfig(), spec=spec(most), weights=weights)
    work.start()
    answer = b"".join(work.answer(Files(work.files(str(path)))))
    row = row_of(answer, spec().shape, most_faces=most)
    ids = {**dict.fromkeys(MANIFEST.names), "video_id": path.name, "uri": str(path), "size_bytes": 1}
    return {**ids, **row, "detector": "d", "prepared_by": "p"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random trunk with a head and a reference set fitted on 40 clips of each class."""
    folder = tmp_path_factory.mktemp("side_by_side")
    model = random_model(DmaStaConfig(backbone="resnet10", num_frames=FRAMES, num_classes=2), seed=0)
    parts: dict[str, Any] = {"classes": CLASSES, "preprocessing": Preprocessing(crop_size=SIZE), "note": ""}
    save_checkpoint(folder / "start.pt", model, **parts)
    scorer = ClipScorer(load_checkpoint((folder / "start.pt").read_bytes(), name="start"), device="cpu")
    rng, features, labels = np.random.default_rng(0), [], []
    for label, swapped in enumerate((True, False)):
        for name in PEOPLE:
            row = clips_of(video(folder / f"{name}{swapped}.mp4", (name, swapped)))
            crops = np.frombuffer(row["crops"], np.uint8).reshape(1, FRAMES, SIZE, SIZE, 3)
            noise = rng.normal(0, 12, (20, 1, 1, 1, 3)) + rng.normal(0, 3, (20, *crops.shape[1:]))
            features.append(scorer.score((crops + noise).clip(0, 255).astype(np.uint8)).features)
            labels += [label] * 20
    known, wanted = np.concatenate(features), np.array(labels)
    means = np.stack([known[wanted == label].mean(axis=0) for label in (0, 1)])
    axis = (means[1] - means[0]) / np.square(means[1] - means[0]).sum()
    head, border = 8 * np.outer([-1, 1], axis), 8 * np.array([1, -1]) * (means.mean(axis=0) @ axis)
    with torch.no_grad():
        model.fc.weight.copy_(torch.from_numpy(head))
        model.fc.bias.copy_(torch.from_numpy(border))
    reference = fit_reference(
        name="side by side",
        classes=CLASSES,
        features=known,
        logits=known @ head.T + border,
        labels=labels,
        networks=[f"{label} {at % 4}" for at, label in enumerate(labels)],
        directions=["a<b"] * len(labels),
        video_ids=[str(at) for at in range(len(labels))],
    )
    reference = replace(reference, threshold=1e9)  # the set is too small to tell what is like it
    save_checkpoint(folder / "bare.pt", model, **parts)
    save_checkpoint(folder / "model.pt", model, **parts, reference=reference)
    return folder / "model.pt"


def attributed(checkpoint: Path, *rows: dict[str, Any], features: bool = False) -> pa.Table:
    content = checkpoint.read_bytes()
    stage = AttributeClips(
        checkpoint=content,
        name="m",
        shape=spec().shape,
        device="cpu",
        precision="fp32",
        compile=False,
        features=features,
    )
    return stage(pa.Table.from_pylist(list(rows), schema=CLIPS))


REAL, SWAPPED = (PEOPLE[1], False), (PEOPLE[0], True)  # the real face is larger


@pytest.mark.parametrize("faces", [(REAL, SWAPPED), (SWAPPED, REAL)])
def test_a_real_and_a_swapped_face_have_their_verdicts_and_the_row_has_the_swapped_ones(
    faces: tuple[tuple[str, bool], ...], checkpoint: Path, tmp_path: Path
) -> None:
    path = video(tmp_path / "v.mp4", *faces)
    (row,) = attributed(checkpoint, clips_of(path), features=True).to_pylist()
    assert (row["num_faces"], len(row["faces"])) == (2, 2)
    by_place = sorted(row["faces"], key=lambda face: face["boxes_xyxy"][0][0])
    expected = [("attributed", "faceswap") if swapped else ("real", "real") for _, swapped in faces]
    assert [(face["verdict"], face["generator"]) for face in by_place] == expected
    deciding = row["faces"][row["deciding_face"]]
    assert deciding == {name: row[name] for name in deciding}
    assert (row["verdict"], row["generator"], row["prediction_set"]) == (
        "attributed",
        "faceswap",
        ["faceswap"],
    )
    assert (row["boxes_xyxy"][0][0] > SIDE) == (faces[1] == SWAPPED)
    (alone,) = attributed(checkpoint, clips_of(video(tmp_path / "s.mp4", SWAPPED)), features=True).to_pylist()
    assert np.corrcoef(row["features"], alone["features"])[0, 1] > 0.9


def test_without_a_reference_set_or_with_one_face_asked_for_the_subject_decides(
    checkpoint: Path, tmp_path: Path
) -> None:
    path = video(tmp_path / "v.mp4", REAL, SWAPPED)
    both, subject = clips_of(path), clips_of(path, most=1)
    assert (len(both["faces"]), len(subject["faces"])) == (2, 1)
    assert both["faces"][0] == subject["faces"][0]
    bare, one = attributed(checkpoint.with_name("bare.pt"), both, subject).to_pylist()
    assert {row["verdict"] for row in (bare, one)} == {"inconclusive"}
    assert bare["deciding_face"] == 0
    np.testing.assert_allclose(bare["logits"], one["logits"], rtol=1e-4, atol=1e-5)
    assert bare["boxes_xyxy"] == one["boxes_xyxy"] == subject["boxes_xyxy"]


def test_a_batch_has_the_answers_of_its_videos_and_rejects_in_place(checkpoint: Path, tmp_path: Path) -> None:
    both = clips_of(video(tmp_path / "v.mp4", REAL, SWAPPED))
    real, swapped = (clips_of(video(tmp_path / f"{one}.mp4", one)) for one in (REAL, SWAPPED))
    gone = clips_of(tmp_path / "gone.mp4")
    rows = attributed(checkpoint, real, both, gone, swapped)
    assert rows["verdict"].to_pylist() == ["real", "attributed", None, "attributed"]
    assert [len(faces) for faces in rows["faces"].to_pylist()] == [1, 2, 0, 1]
    assert rows["deciding_face"].to_pylist()[::2] == [0, None]
    assert min(row["seconds_model"] for row in rows.to_pylist() if row["faces"]) > 0
    pq.write_table(rows, tmp_path / "part.parquet")
    again = of_schema(pq.read_table(tmp_path / "part.parquet"), PREDICTIONS)
    assert again.to_pylist() == rows.to_pylist()
    line = "1 video has several attributed faces; the least innocent decides, in 1 not the most prominent"
    assert several_faces(rows) == line
    assert several_faces(rows.take([0, 2, 3])) is None


def test_predictions_of_earlier_versions_are_read(checkpoint: Path, tmp_path: Path) -> None:
    rows = attributed(checkpoint, clips_of(video(tmp_path / "v.mp4", REAL)))
    old = rows.drop_columns(["faces", "deciding_face"])
    assert of_schema(old, PREDICTIONS)["faces"].to_pylist() == [None]
    assert check_predictions(old, origin="old")["verdict"].to_pylist() == ["real"]
    assert several_faces(of_schema(old, PREDICTIONS)) is None
