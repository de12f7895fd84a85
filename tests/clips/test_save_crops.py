from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from dfdm_ray import assets
from dfdm_ray.clips.child import ClipWork, CutVideos
from dfdm_ray.clips.crops_dataset import read_crops
from dfdm_ray.clips.cut import ClipFacts, FaceClips
from dfdm_ray.clips.isolation import Allowance
from dfdm_ray.clips.spec import clip_spec
from dfdm_ray.clips.stage import MakeClips, SaveCrops
from dfdm_ray.config import CropConfig, FaceConfig, PlanConfig
from dfdm_ray.errors import UserError
from dfdm_ray.io.lending import Files
from dfdm_ray.schemas import CROPS_INDEX, MANIFEST

pytestmark = pytest.mark.slow

ALLOWANCE = Allowance(seconds=60, memory_bytes=2 * 2**30)


def test_what_is_stored_is_what_the_model_would_get_bit_for_bit(
    carphone: Path, sky: Path, tmp_path: Path
) -> None:
    faces = FaceConfig()
    spec = clip_spec(PlanConfig(clips=2), faces, CropConfig(size=64), num_frames=4)
    weights = assets.get("retinaface-mobilenet0.25.onnx").read_bytes()
    work = CutVideos(faces=faces, spec=spec, weights=weights)
    arguments = {"work": work, "detector": "d", "shape": spec.shape, "allowance": ALLOWANCE, "attempts": 1}
    manifest = pa.Table.from_pylist(
        [
            {"video_id": path.name, "uri": str(path), "size_bytes": 1, "crf": 23, "split": "val"}
            for path in (carphone, sky, tmp_path / "gone.mp4")
        ],
        schema=MANIFEST,
    )
    index = SaveCrops(out=str(tmp_path / "out"), **arguments)(manifest)
    assert index.schema.equals(CROPS_INDEX)
    rows = index.to_pylist()
    assert [row["reject_code"] for row in rows] == [None, "no_face", "unreadable"]
    assert [row["num_clips"] for row in rows] == [2, 0, 0]
    assert [row["file"] is None for row in rows] == [False, True, True]
    for_the_model = np.frombuffer(MakeClips(**arguments)(manifest)["crops"][0].as_py(), np.uint8)
    stored = read_crops(str(tmp_path / "out"), rows[0]["file"])
    assert stored.shape == (2, 4, 64, 64, 3)
    assert np.array_equal(stored.ravel(), for_the_model)
    assert len(list((tmp_path / "out").rglob("*.*"))) == 1


class OneGreyClip(ClipWork):
    """Makes one grey crop of every file."""

    def clips(self, files: Files, facts: ClipFacts) -> list[FaceClips]:
        clips = FaceClips(
            crops=np.full((1, 1, 32, 32, 3), 128, np.uint8),
            pts_s=np.zeros(1),
            boxes_xyxy=np.zeros((1, 4), np.float32),
            landmarks=np.zeros((1, 5, 2), np.float32),
            face_score=None,
        )
        return [clips]


def test_crops_that_cannot_be_written_are_a_user_error(tmp_path: Path) -> None:
    video = {"video_id": "a", "uri": "/a", "size_bytes": 1}
    (tmp_path / "crops").touch()  # where a folder is wanted
    save = SaveCrops(
        out=str(tmp_path),
        work=OneGreyClip(),
        detector="d",
        shape=(1, 1, 32, 32, 3),
        allowance=ALLOWANCE,
        attempts=1,
    )
    with pytest.raises(UserError, match=r"cannot write to --out .*: (Not a directory|File exists)"):
        save(pa.Table.from_pylist([video], schema=MANIFEST))
