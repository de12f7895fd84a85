"""Attribute every video of an archive.

::

    manifest -> PrepareClips (CPU workers): plan, decode, detect, track, crop   [frames never leave a worker]
             -> AttributeClips (GPU workers, else CPU): normalise, DMA-STA
             -> the driver: predictions/part-*.parquet as blocks finish, run.json
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
from rich.console import Console

from dfdm_ray import storage
from dfdm_ray.clip_spec import ClipSpec, clip_spec
from dfdm_ray.config import CropConfig, ScoreConfig
from dfdm_ray.models.checkpoint import LoadedModel, load_checkpoint
from dfdm_ray.pipelines.output import RunFolder
from dfdm_ray.pipelines.resources import share_out
from dfdm_ray.pipelines.run import Cluster, Job, checked_detector, read_manifest, run
from dfdm_ray.schemas import PREDICTIONS
from dfdm_ray.stages.attribute_clips import AttributeClips
from dfdm_ray.stages.base import Stage, in_object_store
from dfdm_ray.stages.prepare_clips import PrepareClips


@dataclass(frozen=True, kw_only=True)
class ScoreResult:
    """What a run left behind."""

    predictions: pa.Table
    """:data:`schemas.PREDICTIONS`, one row per planned video, sorted by ``video_id``."""
    record: dict[str, Any]
    """What stands in ``run.json``."""
    model: LoadedModel


@dataclass(frozen=True, kw_only=True)
class _Inputs:
    """Everything checked before Ray starts, so that a mistake costs a second and not a minute."""

    checkpoint: bytes
    model: LoadedModel
    weights: bytes
    spec: ClipSpec
    manifest: pa.Table
    settings: dict[str, Any]


def score(config: ScoreConfig, console: Console) -> ScoreResult:
    """Score the videos and return what was written to ``config.out``.

    Raises:
        UserError: If an input is wrong, the output folder holds something else, or too many videos
            are rejected.
    """
    inputs = _check_inputs(config)
    job = Job(
        config=config,
        manifest=inputs.manifest,
        folder=RunFolder(config.out, rows="predictions", schema=PREDICTIONS, settings=inputs.settings),
        stages=lambda cluster: _stages(config, inputs, cluster),
        verb="scored",
    )
    predictions, record = run(job, console)
    return ScoreResult(predictions=predictions, record=record, model=inputs.model)


def _check_inputs(config: ScoreConfig) -> _Inputs:
    checkpoint = storage.read_bytes(config.checkpoint, what="checkpoint")
    model = load_checkpoint(checkpoint, name=config.checkpoint)
    trained = model.preprocessing
    spec = clip_spec(
        config.plan,
        config.faces,
        CropConfig(size=trained.crop_size, margin=trained.margin),
        num_frames=model.config.num_frames,
        strategy=trained.strategy,
        runs=trained.runs,
        clips=trained.clips,
    )
    manifest = read_manifest(config)
    weights, detector = checked_detector(config.faces)
    settings = {
        **asdict(spec),
        "classes": list(model.classes),
        "checkpoint_sha256": hashlib.sha256(checkpoint).hexdigest(),
        **detector,
        "precision": config.precision,
    }
    return _Inputs(
        checkpoint=checkpoint, model=model, weights=weights, spec=spec, manifest=manifest, settings=settings
    )


def _stages(
    config: ScoreConfig, inputs: _Inputs, cluster: Cluster
) -> tuple[Sequence[Stage], Mapping[str, Any]]:
    shares = share_out(config.resources, num_cpus=cluster.get("CPU", 1.0), num_gpus=cluster.get("GPU", 0.0))
    prepare = Stage(
        fn=PrepareClips,
        kwargs={
            "faces": config.faces,
            "spec": inputs.spec,
            "weights": in_object_store(inputs.weights),
        },
        num_workers=shares.decode_workers,
        num_cpus=shares.decode_cpus,
    )
    attribute = Stage(
        fn=AttributeClips,
        kwargs={
            "checkpoint": in_object_store(inputs.checkpoint),
            "name": config.checkpoint,
            "spec": inputs.spec,
            "device": shares.device,
            "precision": config.precision,
            "compile": config.compile,
        },
        num_workers=shares.model_workers,
        num_cpus=shares.model_cpus,
        num_gpus=shares.model_gpus,
        batch_size=shares.batch_size,
    )
    return [prepare, attribute], asdict(shares)
