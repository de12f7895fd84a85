from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dfdm_ray import assets
from dfdm_ray.clips.child import CutVideos, reject_on_error
from dfdm_ray.clips.isolation import Allowance
from dfdm_ray.clips.spec import clip_spec
from dfdm_ray.clips.stage import MakeClips
from dfdm_ray.config import CropConfig, FaceConfig, PlanConfig
from dfdm_ray.engine.stage import Stage, apply
from dfdm_ray.errors import RejectCode, VideoRejectedError
from dfdm_ray.jobs.score.attribute_clips import AttributeClips
from dfdm_ray.labels import GENERATORS
from dfdm_ray.models.checkpoint import load_checkpoint
from dfdm_ray.models.inference import ClipScorer
from dfdm_ray.models.reference import softmax
from dfdm_ray.schemas import CLIPS, MANIFEST, PREDICTIONS

pytestmark = pytest.mark.slow

FACES = FaceConfig()
CROP = CropConfig(size=64)
ALLOWANCE = Allowance(seconds=60, memory_bytes=2 * 2**30)


SPEC = clip_spec(PlanConfig(clips=3), FACES, CROP, num_frames=4)


def manifest(*uris: Path) -> pa.Table:
    rows = [
        {"video_id": f"v{index}", "uri": str(uri), "size_bytes": 0, "generator": "iae", "crf": 10}
        for index, uri in enumerate(uris)
    ]
    return pa.Table.from_pylist(rows, schema=MANIFEST)


@pytest.fixture(scope="module")
def prepared(carphone: Path, sky: Path) -> pa.Table:
    """Three clips of a video, a video without a face, and one that is missing."""
    weights = assets.get("retinaface-mobilenet0.25.onnx").read_bytes()
    work = CutVideos(faces=FACES, spec=SPEC, weights=weights)
    stage = MakeClips(work=work, detector=FACES.detector, shape=SPEC.shape, allowance=ALLOWANCE, attempts=2)
    return stage(manifest(carphone, sky, carphone.with_name("missing.mp4")))


def attribute(clips: pa.Table, checkpoint: Path) -> pa.Table:
    stage = AttributeClips(
        checkpoint=checkpoint.read_bytes(),
        name="tiny",
        shape=SPEC.shape,
        device="cpu",
        precision="fp32",
        compile=False,
    )
    return stage(clips)


def test_a_batch_comes_out_row_for_row_with_rejects_in_place(prepared: pa.Table) -> None:
    assert prepared.schema.equals(CLIPS)
    assert prepared["video_id"].to_pylist() == ["v0", "v1", "v2"]
    assert prepared["reject_code"].to_pylist() == [None, "no_face", "unreadable"]
    assert [len(crops) for crops in prepared["crops"].to_pylist()] == [3 * 4 * 64 * 64 * 3, 0, 0]
    assert prepared["num_frames_in_video"].to_pylist() == [120, 98, 0]
    assert prepared["corrections"].to_pylist() == [["square_pixels"], [], []]


def test_the_model_averages_over_clips_and_passes_rejects_through(
    prepared: pa.Table, tiny_checkpoint: Path
) -> None:
    rows = attribute(prepared.take([1, 0, 2, 0]), tiny_checkpoint)
    assert rows.schema.equals(PREDICTIONS)
    assert rows["status"].to_pylist() == ["rejected", "scored", "rejected", "scored"]
    assert rows["generator"].to_pylist()[::2] == [None, None]
    crops = np.frombuffer(prepared["crops"][0].as_py(), np.uint8).reshape(3, 4, 64, 64, 3)
    model = load_checkpoint(tiny_checkpoint.read_bytes(), name="tiny")
    logits = ClipScorer(model, device="cpu").score(crops).logits.mean(axis=0)
    row = rows.to_pylist()[1]
    np.testing.assert_allclose(row["logits"], logits, rtol=1e-4, atol=1e-5)
    assert row["generator"] == GENERATORS[int(np.argmax(logits))]
    assert row["probability"] == pytest.approx(max(row["probabilities"]))
    assert row["true_generator"] == "iae"
    assert len(row["temporal_attention"]) == len(row["pts_s"]) == 12


def test_a_batch_of_rejects_needs_no_model_pass(prepared: pa.Table, tiny_checkpoint: Path) -> None:
    rows = attribute(prepared.slice(1, 1), tiny_checkpoint)
    assert rows["status"].to_pylist() == ["rejected"]
    assert rows["probabilities"].to_pylist() == [[]]


def test_only_rejections_become_rows() -> None:
    def reject() -> dict[str, Any]:
        raise VideoRejectedError(RejectCode.NO_FACE, "none")

    def bug() -> dict[str, Any]:
        raise ZeroDivisionError

    row = reject_on_error(reject, empty={"crops": b""})
    assert row == {"crops": b"", "status": "rejected", "reject_code": "no_face", "reject_detail": "none"}
    with pytest.raises(ZeroDivisionError):
        reject_on_error(bug, empty={})


def test_probabilities_sum_to_one_even_for_large_logits() -> None:
    probabilities = softmax(np.array([[1000.0, 999.0, -1000.0]]))
    assert probabilities.sum() == pytest.approx(1.0)
    assert probabilities.argmax() == 0


class RecordingDataset:
    """Remembers what ``map_batches`` was asked."""

    def map_batches(self, fn: type, **options: Any) -> "RecordingDataset":
        self.fn, self.options = fn, options
        return self


def test_a_stage_becomes_a_pool_that_may_grow_to_the_number_of_blocks_or_a_limit() -> None:
    dataset: Any = RecordingDataset()
    stage = Stage(fn=MakeClips, kwargs={"a": 1}, num_workers=3, num_cpus=0.5, num_gpus=1.0, batch_size=8)
    apply(dataset, stage, num_blocks=9)
    assert dataset.fn is MakeClips
    assert dataset.options["fn_constructor_kwargs"] == {"a": 1}
    compute = dataset.options["compute"]
    assert (compute.min_size, compute.initial_size, compute.max_size) == (1, 3, 9)
    apply(dataset, replace(stage, most_workers=5), num_blocks=9)
    assert dataset.options["compute"].max_size == 5
    apply(dataset, stage, num_blocks=2)
    assert dataset.options["compute"].max_size == 3
    assert (dataset.options["num_cpus"], dataset.options["num_gpus"]) == (0.5, 1.0)
    assert (dataset.options["batch_size"], dataset.options["batch_format"]) == (8, "pyarrow")
