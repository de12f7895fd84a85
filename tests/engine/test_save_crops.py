from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from dfdm_ray import assets
from dfdm_ray.clips.child import NO_CLIPS, NOTHING_KNOWN
from dfdm_ray.clips.crops_dataset import read_crops
from dfdm_ray.clips.isolation import Allowance
from dfdm_ray.clips.prepare_clips import PrepareClips
from dfdm_ray.clips.spec import clip_spec
from dfdm_ray.config import CropConfig, FaceConfig, PlanConfig
from dfdm_ray.engine.save_crops import SaveCrops
from dfdm_ray.errors import UserError
from dfdm_ray.schemas import CLIPS, CROPS_INDEX, MANIFEST, SCORED


def test_what_is_stored_is_what_the_model_would_get_bit_for_bit(
    carphone: Path, sky: Path, tmp_path: Path
) -> None:
    faces = FaceConfig()
    spec = clip_spec(PlanConfig(clips=2), faces, CropConfig(size=64), num_frames=4)
    weights = assets.get("retinaface-mobilenet0.25.onnx").read_bytes()
    allowance = Allowance(seconds=60, memory_bytes=2 * 2**30)
    prepare = partial(
        PrepareClips, faces=faces, spec=spec, weights=lambda: weights, allowance=allowance, attempts=1
    )
    manifest = pa.Table.from_pylist(
        [
            {"video_id": path.name, "uri": str(path), "size_bytes": 1, "crf": 23, "split": "val"}
            for path in (carphone, sky, tmp_path / "gone.mp4")
        ],
        schema=MANIFEST,
    )
    index = SaveCrops(clips=prepare, shape=spec.shape, out=str(tmp_path / "out"))(manifest)
    assert index.schema.equals(CROPS_INDEX)
    rows = index.to_pylist()
    assert [row["reject_code"] for row in rows] == [None, "no_face", "unreadable"]
    assert [row["num_clips"] for row in rows] == [2, 0, 0]
    assert [row["file"] is None for row in rows] == [False, True, True]
    for_the_model = np.frombuffer(prepare()(manifest)["crops"][0].as_py(), np.uint8)
    stored = read_crops(str(tmp_path / "out"), rows[0]["file"])
    assert stored.shape == (2, 4, 64, 64, 3)
    assert np.array_equal(stored.ravel(), for_the_model)
    assert len(list((tmp_path / "out").rglob("*.*"))) == 1


def test_crops_that_cannot_be_written_are_the_users_to_mend(tmp_path: Path) -> None:
    shape = (1, 1, 32, 32, 3)
    facts = {**NO_CLIPS, **NOTHING_KNOWN, "status": SCORED, "crops": bytes(32 * 32 * 3)}
    facts |= {"detector": "d", "prepared_by": "p", "seconds_decode": 0.0}
    video = pa.Table.from_pylist([{**facts, "video_id": "a", "uri": "/a", "size_bytes": 1}], schema=CLIPS)
    (tmp_path / "crops").touch()  # where a folder is wanted
    save = SaveCrops(clips=lambda: lambda _: video, shape=shape, out=str(tmp_path))
    with pytest.raises(UserError, match=r"cannot write to --out .*: (Not a directory|File exists); mend"):
        save(video)
