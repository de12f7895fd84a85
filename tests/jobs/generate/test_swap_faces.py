import io
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest
from support.videos import ScriptedDetector, VideoRecipe, frame_number, write_video

from dfdm_ray.config import FaceConfig
from dfdm_ray.errors import RejectCode, VideoRejectedError
from dfdm_ray.faces.alignment import FACE_SPAN_MFU, Spans, align_face, crop_matrix
from dfdm_ray.generators import build_generator
from dfdm_ray.io.lending import Files
from dfdm_ray.jobs.generate.convert import SYNTHETIC, FaceSwapper, encode_scene
from dfdm_ray.jobs.generate.decoding import FindFaces, ReadScene, scene_of, take_faces
from dfdm_ray.jobs.generate.faces import Faces, Subject
from dfdm_ray.labels import Generator

Box = tuple[float, float, float, float]
FACE: Box = (50, 20, 90, 60)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("faces") / "v.mp4", VideoRecipe(num_frames=40))


def extract(video: Path, boxes: Sequence[Box], *, seen: range = range(1000)) -> tuple[Subject, Faces]:
    detector = ScriptedDetector(lambda number: boxes if number in seen else [])
    faces = io.BytesIO()
    work = FindFaces(FaceConfig(), b"", size_px=64, max_frames=30, smoothing=1.0)
    work._detector = detector
    found = take_faces(work.answer(Files([str(video)])), faces, size_px=64)
    faces.seek(0)
    return found, np.load(faces)


def test_every_frame_has_landmarks_a_time_and_an_aligned_face(video: Path) -> None:
    found, faces = extract(video, [FACE])
    assert found.landmarks.shape == (30, 5, 2)
    assert faces.shape == (30, 64, 64, 3)
    np.testing.assert_allclose(found.landmarks[:, 2], [[70, 40]] * 30, atol=1e-4)
    np.testing.assert_allclose(found.times_s, np.arange(30) / 25, atol=1e-3)
    with av.open(str(video)) as container:
        frame = next(container.decode(video=0)).to_ndarray(format="rgb24")
    matrix = crop_matrix(found.landmarks[0], size=64, span_mfu=FACE_SPAN_MFU)
    np.testing.assert_array_equal(faces[0], align_face(frame, matrix, 64))


def test_scenes_are_stretches_in_which_the_face_is_always_seen(video: Path) -> None:
    found, faces = extract(video, [FACE], seen=range(7, 26))
    assert found.scenes(9) == [range(7, 16), range(16, 25)]
    assert found.scenes(20) == []
    assert len(faces) == 19


REJECTS = [
    ([], RejectCode.NO_FACE),
    ([FACE, (100, 20, 140, 60)], RejectCode.SEVERAL_FACES),  # two people
    ([(10.0 * n, 20, 10.0 * n + 9, 29) for n in range(12)], RejectCode.SEVERAL_FACES),  # a crowd
]


@pytest.mark.parametrize(("boxes", "code"), REJECTS)
def test_a_video_that_is_not_one_persons_is_rejected(boxes: list[Box], code: RejectCode, video: Path) -> None:
    with pytest.raises(VideoRejectedError) as rejection:
        extract(video, boxes)
    assert rejection.value.code == code


def test_a_small_face_in_the_background_does_not_matter(video: Path) -> None:
    found, _ = extract(video, [(140, 5, 150, 15), FACE])
    np.testing.assert_allclose(found.landmarks[:, 2], [[70, 40]] * 30, atol=1e-4)


def decoded(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def test_a_scene_is_swapped_in_place_at_every_quality(video: Path, tmp_path: Path) -> None:
    found, _ = extract(video, [FACE])
    network = build_generator(Generator.LIGHTWEIGHT, width=0.03, seed=0)
    swapper = FaceSwapper(network=network, to="b", spans=Spans(train_mfu=1.75, convert_mfu=1.6))
    swapped = {crf: tmp_path / f"s{crf}.mp4" for crf in (0, 10, 23)}
    real = {crf: tmp_path / f"r{crf}.mp4" for crf in (0, 10, 23)}
    for paths, swap in ((swapped, swapper), (real, None)):
        scene = scene_of(ReadScene().answer(Files([str(video)]), range(5, 17), found.times_s))
        encode_scene(scene, range(5, 17), paths, swapper=swap, subject=found)
    for crf in (0, 10, 23):
        pair = decoded(swapped[crf]), decoded(real[crf])
        assert [one.pts for one in pair[0]] == [one.pts for one in pair[1]]
        assert len(pair[0]) == 12
        assert [frame_number(one.to_ndarray(format="rgb24")) for one in pair[1]] == list(range(5, 17))
    before, after = (decoded(paths[0])[3].to_ndarray(format="rgb24").astype(int) for paths in (real, swapped))
    changed = np.abs(before - after).max(axis=2) > 8
    assert changed[30:50, 60:80].mean() > 0.5  # the face
    assert not changed[:, 130:].any()  # far from it
    with av.open(str(swapped[10])) as container:
        assert container.metadata["comment"] == SYNTHETIC
