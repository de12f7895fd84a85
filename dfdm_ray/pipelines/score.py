"""Attribute every video of an archive.

::

    manifest -> PrepareClips (CPU workers): plan, decode, detect, track, crop   [frames never leave a worker]
             -> AttributeClips (GPU workers, else CPU): normalise, DMA-STA
             -> the driver: predictions/part-*.parquet as blocks finish, run.json
"""

import hashlib
import sys
import time
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, cast

import pyarrow as pa
import ray
import ray.data
from rich.console import Console

from dfdm_ray import storage
from dfdm_ray.clips import load_detector
from dfdm_ray.cluster import ray_session
from dfdm_ray.config import ClipSpec, CropConfig, ScoreConfig, clip_spec
from dfdm_ray.errors import UserError
from dfdm_ray.manifest.build import build_manifest
from dfdm_ray.models.checkpoint import LoadedModel, load_checkpoint
from dfdm_ray.pipelines.output import RunFolder, unfinished
from dfdm_ray.pipelines.progress import Counts, Show, progress
from dfdm_ray.pipelines.record import now, num_rejected, totals, versions
from dfdm_ray.pipelines.resources import Shares, rows_per_block, share_out
from dfdm_ray.schemas import PREDICTIONS, check_manifest
from dfdm_ray.stages.attribute_clips import AttributeClips
from dfdm_ray.stages.base import Stage, apply
from dfdm_ray.stages.prepare_clips import PrepareClips

_FLUSH_EVERY_S = 20.0
_JUDGED_AFTER = 50
"""Videos before ``max_reject_fraction`` is applied."""


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
    folder = RunFolder(config.out, settings=inputs.settings)
    earlier = folder.open(overwrite=config.overwrite)
    todo = unfinished(inputs.manifest, earlier)
    counts = _count(todo, earlier)
    run: dict[str, Any] = {"started_at": now(), "command": sys.argv, "status": "running"}
    record: dict[str, Any] = {"config": asdict(config), "runs": [*folder.earlier_runs, run]}
    storage.write_parquet(folder.manifest, inputs.manifest)
    folder.write_record(record)
    if counts.earlier:
        console.print(f"continuing: {counts.earlier} of {counts.planned} videos are done already")
    try:
        if todo.num_rows:
            run |= _run(config, inputs, folder, todo, counts, console)
        run["status"] = "complete"
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt | SystemExit)  # Ray turns SIGTERM into SystemExit
        run["status"] = "interrupted" if stopped else f"failed: {error!s:.500}"
        raise
    finally:
        folder.flush()
        predictions = folder.read()
        run["finished_at"] = now()
        record |= {"versions": versions(), **totals(predictions, planned=counts.planned)}
        folder.write_record(record)
    return ScoreResult(predictions=predictions.sort_by("video_id"), record=record, model=inputs.model)


def _check_inputs(config: ScoreConfig) -> _Inputs:
    checkpoint = storage.read_bytes(config.checkpoint, what="checkpoint")
    model = load_checkpoint(checkpoint, name=config.checkpoint)
    crop = CropConfig(size=model.preprocessing.crop_size, margin=model.preprocessing.margin)
    spec = clip_spec(config.plan, config.faces, crop, num_frames=model.config.num_frames)
    manifest = _manifest(config)
    detector, weights = load_detector(config.faces)
    settings = {
        **asdict(spec),
        "checkpoint_sha256": hashlib.sha256(checkpoint).hexdigest(),
        "detector": detector.name,
        "detector_sha256": hashlib.sha256(weights).hexdigest(),
        "max_side": config.faces.max_side,
        "score_threshold": config.faces.score_threshold,
        "precision": config.precision,
    }
    return _Inputs(
        checkpoint=checkpoint, model=model, weights=weights, spec=spec, manifest=manifest, settings=settings
    )


def _manifest(config: ScoreConfig) -> pa.Table:
    if config.manifest is not None:
        table = check_manifest(storage.read_parquet(config.manifest, what="manifest"), origin=config.manifest)
        if not table.num_rows:
            raise UserError(f"the manifest {config.manifest} has no rows")
        return table
    if config.videos is None:
        raise ValueError("ScoreConfig lets neither --videos nor --manifest be absent")
    return build_manifest(config.videos).table


def _run(
    config: ScoreConfig, inputs: _Inputs, folder: RunFolder, todo: pa.Table, counts: Counts, console: Console
) -> dict[str, Any]:
    """Run the pipeline over ``todo`` and return what ``run.json`` should say of it."""
    started_s = time.monotonic()
    with progress(counts, console, title="videos") as show:
        show(note="starting Ray workers")
        with ray_session(config.ray_address):
            cluster: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]  # Ray's gap
            shares = share_out(
                config.resources, num_cpus=cluster.get("CPU", 1.0), num_gpus=cluster.get("GPU", 0.0)
            )
            dataset = _pipeline(config, inputs, todo, shares)
            counts.started_s = time.monotonic()
            first_row_s = _consume(dataset, config, folder, counts, show) - started_s
            return {
                "resources": asdict(shares),
                "cluster": {name: cluster[name] for name in ("CPU", "GPU", "memory") if name in cluster},
                "seconds_to_first_row": round(first_row_s, 3),
                "seconds": round(time.monotonic() - started_s, 3),
                "num_videos": todo.num_rows,
            }


def _pipeline(config: ScoreConfig, inputs: _Inputs, todo: pa.Table, shares: Shares) -> ray.data.Dataset:
    # Small blocks made here: a Parquet read would put a whole manifest into one block, hence one worker.
    rows = rows_per_block(todo.num_rows, shares.decode_workers)
    blocks = [todo.slice(start, rows) for start in range(0, todo.num_rows, rows)]
    prepare = Stage(
        fn=PrepareClips,
        kwargs={
            "faces": config.faces,
            "spec": inputs.spec,
            "weights": partial(ray.get, ray.put(inputs.weights)),
        },
        num_workers=shares.decode_workers,
        num_cpus=shares.decode_cpus,
    )
    attribute = Stage(
        fn=AttributeClips,
        kwargs={
            "checkpoint": partial(ray.get, ray.put(inputs.checkpoint)),
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
    return apply(apply(ray.data.from_arrow(blocks), prepare), attribute)


def _consume(
    dataset: ray.data.Dataset, config: ScoreConfig, folder: RunFolder, counts: Counts, show: Show
) -> float:
    """Write rows as they come; return when the first one came, on the monotonic clock."""
    first_s: float | None = None
    flushed_s = time.monotonic()
    for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        rows = cast(pa.Table, batch)
        first_s = first_s or time.monotonic()
        folder.add(rows.cast(PREDICTIONS))
        rejected = num_rejected(rows)
        counts.rejected += rejected
        counts.scored += rows.num_rows - rejected
        show()
        if time.monotonic() - flushed_s > _FLUSH_EVERY_S:
            folder.flush()
            flushed_s = time.monotonic()
        if counts.done >= _JUDGED_AFTER and counts.rejected > config.max_reject_fraction * counts.done:
            raise UserError(
                f"{counts.rejected} of {counts.done} videos were rejected, more than --max-reject-fraction "
                f"{config.max_reject_fraction:g}; see reject_code in {folder.predictions}"
            )
    return first_s or time.monotonic()


def _count(todo: pa.Table, earlier: pa.Table) -> Counts:
    rejected = num_rejected(earlier)
    done = earlier.num_rows
    return Counts(planned=todo.num_rows + done, scored=done - rejected, rejected=rejected, earlier=done)
