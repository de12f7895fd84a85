"""Output folder of a training: the settings on which the weights depend, and the files that belong to it."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from dfdm_ray.engine.folder import OutputFolder
from dfdm_ray.jobs.train.config import TrainConfig
from dfdm_ray.jobs.train.inputs import CROPS_SETTING
from dfdm_ray.jobs.train.rank import CHECKPOINT, HISTORY, STATE, TENSORBOARD, TrainTask

RAY_TRAIN = "ray_train"
"""Folder of Ray Train's own files."""


def training_folder(config: TrainConfig, task: TrainTask) -> OutputFolder:
    """Return the output folder of the training."""
    owned = (STATE, HISTORY, CHECKPOINT, TENSORBOARD, RAY_TRAIN, "curves.png")
    return OutputFolder(config.out, job="train", settings=_settings(config, task), owned=owned)


def crops_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the crops dataset, which earlier versions did not store."""
    return {name: value for name, value in settings.items() if name.startswith(f"data.{CROPS_SETTING}")}


def _settings(config: TrainConfig, task: TrainTask) -> dict[str, Any]:
    """Return the settings on which the weights depend, flat; the number of workers is not among them."""
    nested = {"recipe": asdict(config.recipe), "network": asdict(task.network), "data": task.data_settings}
    flat = {f"{part}.{name}": value for part, values in nested.items() for name, value in values.items()}
    everything = {**flat, "seed": config.seed, "imagenet": config.network.imagenet}
    if task.network.spatial_attention or task.network.temporal_attention:
        everything["open_gates"] = config.network.open_gates
    return everything
