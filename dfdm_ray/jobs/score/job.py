"""Attribute every video of an archive.

::

    manifest -> MakeClips (CPU workers): plan, decode, detect, track, crop   [frames never leave a worker]
               or ReadCrops (CPU workers), where preprocess did that before
             -> AttributeClips (GPU workers, else CPU): normalise, DMA-STA
             -> the driver: predictions/part-*.parquet as blocks finish, run.json
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console

from dfdm_ray.clips.crops_dataset import read_index, read_settings
from dfdm_ray.clips.stage import MakeClips
from dfdm_ray.engine.folder import RunFolder
from dfdm_ray.engine.run import checked_detector, open_run, read_manifest
from dfdm_ray.engine.session import nodes_to_come, ray_session, worker_nodes
from dfdm_ray.engine.shares import Shares, file_limits, pool_sizes, share_out, total
from dfdm_ray.engine.stage import Stage
from dfdm_ray.errors import UserError, refuse_keys
from dfdm_ray.io import storage
from dfdm_ray.io.terminal import say
from dfdm_ray.jobs.score.attribute_clips import AttributeClips
from dfdm_ray.jobs.score.config import ScoreConfig
from dfdm_ray.jobs.score.read_crops import ReadCrops
from dfdm_ray.jobs.score.settings import making_clips, other_faces
from dfdm_ray.jobs.score.summary import show_scores
from dfdm_ray.models.checkpoint import LoadedModel, load_checkpoint
from dfdm_ray.schemas import PREDICTIONS, PREDICTIONS_FOLDER


@dataclass(frozen=True, kw_only=True)
class ScoreResult:
    """Results of a run."""

    predictions: pa.Table
    """:data:`schemas.PREDICTIONS`, one row per planned video, sorted by ``video_id``."""
    record: dict[str, Any]
    """Content of ``run.json``."""
    model: LoadedModel


@dataclass(frozen=True, kw_only=True)
class Source:
    """Source of crops; checked before Ray starts, so that a mistake costs a second and not a minute."""

    rows: pa.Table
    """:data:`schemas.MANIFEST`, maybe with more columns."""
    not_listed: Sequence[str] = ()
    """Places that could not be listed, each with the reason."""
    shape: tuple[int, int, int, int, int]
    """Shape of the crops of a face as the model takes them, (C, T, S, S, 3)."""
    most_faces: int = 1
    """Most faces of a video."""
    settings: Mapping[str, Any]
    """Values on which the crops depend."""
    fn: type
    """Stage that makes :data:`schemas.CLIPS` of the rows."""
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Its arguments, but for the limits of :class:`MakeClips`."""


def main(config: ScoreConfig, console: Console) -> None:
    """Run the command."""
    result = score(config, console)
    show_scores(result.predictions, result.record, folder=config.out, console=console)
    if result.model.note and not result.model.is_bare:
        say(console, f"checkpoint: {result.model.note}")


def score(config: ScoreConfig, console: Console) -> ScoreResult:
    """Score the videos and return what was written to ``config.out``.

    Raises:
        UserError: If an input is wrong, the output folder contains something else, or too many videos
            are rejected.
    """
    checkpoint = storage.read_bytes(config.checkpoint, what="checkpoint")
    model = load_checkpoint(checkpoint, name=config.checkpoint)
    if model.is_bare:
        say(console, f"warning: {config.checkpoint} is a {model.note}")
    source = videos(config, model, console) if config.crops is None else crops(config, config.crops, model)
    if others := other_faces(model.preprocessing, source.settings):
        say(console, f"warning: training found its faces with other settings ({'; '.join(others)})")
    settings = {
        **source.settings,
        "classes": list(model.classes),
        **({"features": True} if config.features else {}),
        "checkpoint_sha256": hashlib.sha256(checkpoint).hexdigest(),
        "precision": config.precision,
    }
    rows = _of_split(config, source.rows)
    folder = RunFolder(
        config.out, job="score", settings=settings, rows=PREDICTIONS_FOLDER, schema=PREDICTIONS
    )
    with open_run(config, folder, rows, console, verb="scored", not_listed=source.not_listed) as run:
        run.record["checkpoint_note"] = model.note
        if run.todo.num_rows:
            with ray_session(config.ray_address):
                nodes = worker_nodes()
                shares = share_out(config.resources, nodes, nodes_to_come())
                stages = [
                    _clips_stage(config, source, shares, nodes),
                    _model_stage(config, source, shares, checkpoint),
                ]
                run.through(stages, nodes, asdict(shares), partial(pool_sizes, config.resources, shares))
    return ScoreResult(predictions=run.rows, record=run.record, model=model)


def videos(config: ScoreConfig, model: LoadedModel, console: Console) -> Source:
    """Return the videos of ``config`` as a source of crops."""
    weights, detector = checked_detector(config.faces)
    spec, kwargs = making_clips(
        model, plan=config.plan, faces=config.faces, weights=weights, max_pixels=config.limits.max_pixels
    )
    rows, not_listed = read_manifest(config, console)
    return Source(
        rows=rows,
        not_listed=not_listed,
        shape=spec.shape,
        most_faces=spec.most_faces,
        settings={**asdict(spec), **detector},
        fn=MakeClips,
        kwargs=kwargs,
    )


def crops(config: ScoreConfig, root: str, model: LoadedModel) -> Source:
    """Return the crops dataset ``root`` as a source of crops."""
    root = storage.absolute(root)  # workers have another working directory
    rows, settings = read_index(root), read_settings(root)
    refuse_keys(rows["uri"].to_pylist(), origin=root)
    size, frames = int(settings["crop_size"]), model.config.num_frames
    stored = (int(settings["num_clips"]), int(settings["num_frames"]), size, size, 3)
    wanted, found = (_crop_text(one) for one in (asdict(model.preprocessing), settings))
    if wanted != found or frames > stored[1]:
        raise UserError(
            f"{config.checkpoint} takes {frames} frames of {wanted}, but the clips of {root} have "
            f"{stored[1]} of {found}; preprocess the videos with the settings of the checkpoint, or give "
            "--videos"
        )
    return Source(
        rows=rows,
        shape=(stored[0], frames, size, size, 3),
        settings={**settings, "num_frames": frames},
        fn=ReadCrops,
        kwargs={"root": root, "stored": stored, "num_frames": frames},
    )


def _crop_text(settings: Mapping[str, Any]) -> str:
    pixels = f"{settings['crop_size']} pixels"
    if settings.get("align", "box") == "generator":
        return f"{pixels} on the grid of the generators"
    return f"{pixels} with a margin of {float(settings['margin']):g}"


def _of_split(config: ScoreConfig, rows: pa.Table) -> pa.Table:
    if config.split is None:
        return rows
    wanted = rows.filter(pc.equal(rows["split"], config.split))
    if not wanted.num_rows:
        there = ", ".join(sorted({split or "none" for split in rows["split"].to_pylist()}))
        raise UserError(
            f"{config.manifest or config.crops} has no videos in --split {config.split}; its splits: {there}"
        )
    return wanted


def _clips_stage(
    config: ScoreConfig, source: Source, shares: Shares, nodes: Sequence[Mapping[str, float]]
) -> Stage:
    limits = file_limits(config.limits, total(nodes), workers=shares.decode_workers)
    return Stage(
        fn=source.fn,
        kwargs={**source.kwargs, **(limits if source.fn is MakeClips else {})},
        num_workers=shares.decode_workers,
        most_workers=config.resources.decode_workers or config.resources.max_decode_workers,
        num_cpus=shares.decode_cpus,
        out_bytes=math.prod(source.shape),
        most_out_bytes=math.prod(source.shape) * source.most_faces,
    )


def _model_stage(config: ScoreConfig, source: Source, shares: Shares, checkpoint: bytes) -> Stage:
    return Stage(
        fn=AttributeClips,
        kwargs={
            "checkpoint": checkpoint,
            "name": config.checkpoint,
            "shape": source.shape,
            "device": shares.device,
            "precision": config.precision,
            "compile": config.compile,
            "features": config.features,
        },
        num_workers=shares.model_workers,
        most_workers=config.resources.model_workers or config.resources.max_model_workers,
        num_cpus=shares.model_cpus,
        num_gpus=shares.model_gpus,
        batch_size=shares.batch_size,
    )
