"""``run.json`` of a training: what the weights depend on, and whether the folder may be continued."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from dfdm_ray.engine.folder import RECORD, another_job, earlier_record
from dfdm_ray.errors import UserError, writing_to
from dfdm_ray.io import storage
from dfdm_ray.jobs.train.config import TrainConfig
from dfdm_ray.jobs.train.inputs import CROPS_SETTING
from dfdm_ray.jobs.train.rank import CHECKPOINT, HISTORY, STATE, TENSORBOARD, TrainTask

RAY_TRAIN = "ray_train"
"""Folder of Ray Train's own files."""
_FILES = (STATE, HISTORY, CHECKPOINT, RECORD)


def open_record(config: TrainConfig, task: TrainTask) -> dict[str, Any]:
    """Return the record to go on with, after a look at what is in the folder.

    Raises:
        UserError: If that is something else.
    """
    settings = _settings(config, task)
    uri = storage.join(config.out, RECORD)
    if config.overwrite:
        _remove_training(config.out)
    if not storage.exists(uri):
        found = storage.list_names(config.out)
        if found and not config.overwrite:
            raise UserError(f"--out {config.out} is not empty and holds no training; give a new folder")
        return {"settings": settings, "runs": []}
    record = earlier_record(
        config.out, settings, kind="training", complete=lambda before: _with_crops(before, settings)
    )
    return record | {"settings": settings}


def write_record(config: TrainConfig, record: Mapping[str, Any]) -> None:
    """Write ``run.json``.

    Raises:
        UserError: If it cannot be written.
    """
    content = json.dumps({"config": asdict(config), **record}, indent=2, default=str)
    with writing_to(config.out):
        storage.write_atomic(storage.join(config.out, RECORD), content.encode())


def _settings(config: TrainConfig, task: TrainTask) -> dict[str, Any]:
    """Return what the weights depend on, flat; the number of workers is not among it."""
    nested = {"recipe": asdict(config.recipe), "network": asdict(task.network), "data": task.data_settings}
    flat = {f"{part}.{name}": value for part, values in nested.items() for name, value in values.items()}
    everything = {**flat, "seed": config.seed, "imagenet": config.network.imagenet}
    if task.network.spatial_attention or task.network.temporal_attention:
        everything["open_gates"] = config.network.open_gates
    as_read_back: dict[str, Any] = json.loads(json.dumps(everything))
    return as_read_back


def _with_crops(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``before``, with the crops' settings of ``now`` if it has none, as earlier versions wrote it."""
    crops = {name: value for name, value in now.items() if name.startswith(f"data.{CROPS_SETTING}")}
    told = any(name.startswith(f"data.{CROPS_SETTING}") for name in before)
    return {**({} if told else crops), **before}


def _remove_training(out: str) -> None:
    """Delete the training in ``out``, if one is there; its record goes last and tells of one half deleted."""
    names = set(storage.list_names(out))
    if "manifest.parquet" in names and not names & {STATE, HISTORY, CHECKPOINT}:
        raise another_job(out)
    if not names & set(_FILES):
        return
    for folder in (TENSORBOARD, RAY_TRAIN):
        storage.remove_tree(storage.join(out, folder))
    for name in _FILES:
        if name in names:
            storage.remove_file(storage.join(out, name))
