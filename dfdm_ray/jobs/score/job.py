"""Attribute every video of an archive.

::

    manifest -> PrepareClips (CPU workers): plan, decode, detect, track, crop   [frames never leave a worker]
               or ReadCrops (CPU workers), where that was done before
             -> AttributeClips (GPU workers, else CPU): normalise, DMA-STA
             -> the driver: predictions/part-*.parquet as blocks finish, run.json
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console

from dfdm_ray.clips.crops_dataset import read_index, read_settings
from dfdm_ray.clips.prepare_clips import PrepareClips
from dfdm_ray.clips.spec import clip_spec
from dfdm_ray.config import CropConfig
from dfdm_ray.engine.folder import RunFolder, changes
from dfdm_ray.engine.run import Job, Nodes, checked_detector, read_manifest, run
from dfdm_ray.engine.session import total
from dfdm_ray.engine.shares import file_limits, share_out
from dfdm_ray.engine.stage import Stage, in_object_store
from dfdm_ray.errors import UserError
from dfdm_ray.io import storage
from dfdm_ray.io.terminal import say
from dfdm_ray.jobs.score.attribute_clips import AttributeClips
from dfdm_ray.jobs.score.config import ScoreConfig
from dfdm_ray.jobs.score.read_crops import ReadCrops
from dfdm_ray.models.checkpoint import LoadedModel, load_checkpoint
from dfdm_ray.models.preprocessing import Preprocessing
from dfdm_ray.schemas import PREDICTIONS, PREDICTIONS_FOLDER


@dataclass(frozen=True, kw_only=True)
class ScoreResult:
    """What a run left behind."""

    predictions: pa.Table
    """:data:`schemas.PREDICTIONS`, one row per planned video, sorted by ``video_id``."""
    record: dict[str, Any]
    """What stands in ``run.json``."""
    model: LoadedModel


@dataclass(frozen=True, kw_only=True)
class _Source:
    """Where crops come from; checked before Ray starts, so that a mistake costs a second and not a minute."""

    rows: pa.Table
    """:data:`schemas.MANIFEST`, or more."""
    not_listed: Sequence[str] = ()
    """As of :class:`Job`."""
    shape: tuple[int, int, int, int, int]
    """Of a video's crops as the model takes them, (C, T, S, S, 3)."""
    settings: Mapping[str, Any]
    """What the crops depend on."""
    stage: Callable[[Mapping[str, Any]], tuple[type, Mapping[str, Any]]]
    """Called with :func:`file_limits` once Ray runs; gives what makes :data:`schemas.CLIPS` of the rows, and
    its arguments."""


def score(config: ScoreConfig, console: Console) -> ScoreResult:
    """Score the videos and return what was written to ``config.out``.

    Raises:
        UserError: If an input is wrong, the output folder holds something else, or too many videos
            are rejected.
    """
    checkpoint = storage.read_bytes(config.checkpoint, what="checkpoint")
    model = load_checkpoint(checkpoint, name=config.checkpoint)
    source = _videos(config, model) if config.crops is None else _crops(config, config.crops, model)
    if others := other_faces(model.preprocessing, source.settings):
        text = f"warning: the model was trained on faces found with other settings ({'; '.join(others)})"
        say(console, text)
    settings = {
        **source.settings,
        "classes": list(model.classes),
        "checkpoint_sha256": hashlib.sha256(checkpoint).hexdigest(),
        "precision": config.precision,
    }
    job = Job(
        config=config,
        manifest=_of_split(config, source.rows),
        not_listed=source.not_listed,
        folder=RunFolder(config.out, rows=PREDICTIONS_FOLDER, schema=PREDICTIONS, settings=settings),
        stages=lambda nodes: _stages(config, source, checkpoint, nodes),
        verb="scored",
    )
    predictions, record = run(job, console)
    return ScoreResult(predictions=predictions, record=record, model=model)


def _videos(config: ScoreConfig, model: LoadedModel) -> _Source:
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
    rows, not_listed = read_manifest(config)
    weights, detector = checked_detector(config.faces)
    stage = {"faces": config.faces, "spec": spec, "max_pixels": config.limits.max_pixels}
    return _Source(
        rows=rows,
        not_listed=not_listed,
        shape=spec.shape,
        settings={**asdict(spec), **detector},
        stage=lambda limits: (PrepareClips, {**stage, "weights": in_object_store(weights), **limits}),
    )


def _crops(config: ScoreConfig, root: str, model: LoadedModel) -> _Source:
    root = storage.absolute(root)  # workers have another working directory
    rows, settings = read_index(root), read_settings(root)
    size, margin = int(settings["crop_size"]), float(settings["margin"])
    stored = (int(settings["num_clips"]), int(settings["num_frames"]), size, size, 3)
    trained, frames = model.preprocessing, model.config.num_frames
    if (size, margin) != (trained.crop_size, trained.margin) or frames > stored[1]:
        raise UserError(
            f"{config.checkpoint} takes {frames} frames of {trained.crop_size} pixels with a margin of "
            f"{trained.margin:g}, but the clips of {root} have {stored[1]} of {size} with {margin:g}"
        )
    return _Source(
        rows=rows,
        shape=(stored[0], frames, size, size, 3),
        settings={**settings, "num_frames": frames},
        stage=lambda _: (ReadCrops, {"root": root, "stored": stored, "num_frames": frames}),
    )


def other_faces(trained: Preprocessing, settings: Mapping[str, Any]) -> list[str]:
    """Return one text for each way in which faces are found otherwise than for the crops of the training."""
    both = trained.faces.keys() & settings.keys()
    return changes({name: trained.faces[name] for name in both}, {name: settings[name] for name in both})


def _of_split(config: ScoreConfig, rows: pa.Table) -> pa.Table:
    if config.split is None:
        return rows
    wanted = rows.filter(pc.equal(rows["split"], config.split))
    if not wanted.num_rows:
        there = ", ".join(sorted({split or "none" for split in rows["split"].to_pylist()}))
        raise UserError(f"{config.manifest or config.crops} has no videos in --split {config.split}: {there}")
    return wanted


def _stages(
    config: ScoreConfig, source: _Source, checkpoint: bytes, nodes: Nodes
) -> tuple[Sequence[Stage], Mapping[str, Any]]:
    shares = share_out(config.resources, nodes)
    fn, kwargs = source.stage(file_limits(config.limits, total(nodes), workers=shares.decode_workers))
    prepare = Stage(
        fn=fn,
        kwargs=kwargs,
        num_workers=shares.decode_workers,
        num_cpus=shares.decode_cpus,
        out_bytes=math.prod(source.shape),
    )
    attribute = Stage(
        fn=AttributeClips,
        kwargs={
            "checkpoint": in_object_store(checkpoint),
            "name": config.checkpoint,
            "shape": source.shape,
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
