"""The work of one rank: build or restore the network, train epoch by epoch, and write the files.

::

    OUT/state.pt       the state from which training continues, replaced after every epoch
        dma_sta.pt     the best epoch so far, for `dfdm-ray score`; at the end with its reference set
        history.csv    one line per epoch
        tensorboard/   the same as curves, if OUT is a local folder
"""

import csv
import io
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from dfdm_ray.errors import UserError
from dfdm_ray.io import storage
from dfdm_ray.jobs.train.config import TrainConfig
from dfdm_ray.jobs.train.data import Videos
from dfdm_ray.jobs.train.loop import EpochResult, Fit, rank, world_size
from dfdm_ray.labels import REAL
from dfdm_ray.models.baselines import build_network
from dfdm_ray.models.checkpoint import load_imagenet_trunk, random_model, save_checkpoint
from dfdm_ray.models.dma_sta import ClipNetwork, DmaStaConfig
from dfdm_ray.models.preprocessing import Preprocessing
from dfdm_ray.models.reference import ReferenceSet, fit_reference
from dfdm_ray.models.unknown import OutlierFeatures

STATE = "state.pt"
HISTORY = "history.csv"
CHECKPOINT = "dma_sta.pt"
TENSORBOARD = "tensorboard"


@dataclass(frozen=True, kw_only=True)
class ReferenceVideos:
    """Videos on which calibration and thresholds are fitted after training."""

    videos: Videos
    split: str
    """The split ``calibration``, or ``val``."""
    networks: tuple[str, ...]
    """Network of each video, the person for real ones."""
    directions: tuple[str, ...]
    """Target and source of each video."""
    trained_on: dict[str, list[str]]
    """Fingerprints of the networks and people of the training."""
    shared_with_training: str
    """What the videos share with the training: networks, people or nothing."""

    @property
    def name(self) -> str:
        """Name of the set in every verdict."""
        chosen = ", which also chose the epoch" if self.split == "val" else ""
        return f"split {self.split} of the training data{chosen}"


@dataclass(frozen=True, kw_only=True)
class TrainTask:
    """Everything that a rank needs, checked before Ray starts."""

    config: TrainConfig
    train: Videos
    val: Videos
    classes: tuple[str, ...]
    network: DmaStaConfig
    preprocessing: Preprocessing
    data_settings: dict[str, Any]
    """Identity of the selected videos, and the settings of their crops."""
    imagenet: bytes | None = None
    """Content of the file of ImageNet weights to start from."""
    reference: ReferenceVideos
    """Videos of the reference set."""
    left_out: str = ""
    """Generators that the training leaves out, with the number of their videos."""
    loaders: int = 0
    """Processes of each rank that read clips; 0: the rank reads them."""


def train_rank(task: TrainTask, device: str) -> Iterator[EpochResult]:
    """Train from the last saved epoch to the end; yield each epoch when its files are written.

    A rank that restores a state yields its last epoch first: the rank before it may have died between the
    files and the report.

    Raises:
        UserError: On every rank, if the loss is no longer a number or the results cannot be written; on the
            rank that meets it, if a file of crops cannot be read.
    """
    fit = Fit(
        model=start_model(task).to(device).to(memory_format=torch.channels_last),
        recipe=task.config.recipe,
        normalization=(task.preprocessing.mean, task.preprocessing.std),
        seed=task.config.seed,
        loaders=task.loaders,
    )
    state = storage.join(task.config.out, STATE)
    if storage.exists(state):
        fit.restore(storage.read_bytes(state, what="training state"))
        yield fit.history[-1]
    while len(fit.history) < task.config.recipe.epochs:
        result = fit.run_epoch(task.train, task.val)
        _save_together(task, fit)
        yield result


def start_model(task: TrainTask) -> ClipNetwork:
    """Return the untrained network, equal on every rank."""
    model = random_model(task.network, seed=task.config.seed)
    if task.imagenet is not None:
        load_imagenet_trunk(model, task.imagenet, str(task.config.network.imagenet))
    if task.config.network.open_gates:
        model.open_gates()
    return model


def _save_together(task: TrainTask, fit: Fit) -> None:
    """Write the epoch on rank 0; if that fails, raise the reason on every rank, so that none waits."""
    problem: list[str | None] = [None]
    reference = _reference(task, fit) if len(fit.history) == task.config.recipe.epochs else None
    if rank() == 0:
        try:
            save_epoch(task, fit, reference)
        except OSError as error:
            problem = [
                f"cannot write epoch {len(fit.history)} to {task.config.out}: {error.strerror or error}. "
                "The files of earlier epochs are kept; run the same command again to continue"
            ]
    if world_size() > 1:
        dist.broadcast_object_list(problem)
    if problem[0]:
        raise UserError(problem[0])


def _reference(task: TrainTask, fit: Fit) -> ReferenceSet | None:
    """Return the reference set of the best epoch; ``None`` if the videos do not suffice for one."""
    given = task.reference
    logits, features = fit.best_outputs(given.videos)
    outliers = None
    if real := [at for at, label in enumerate(given.videos.labels) if task.classes[label] == REAL]:
        made = [values.numpy() for values in fit.best_outputs(given.videos.only(real), outliers=True)]
        outliers = OutlierFeatures(logits=made[0], features=made[1], made_of=np.array(real))
    try:
        return fit_reference(
            name=given.name,
            classes=task.classes,
            features=features.numpy(),
            logits=logits.numpy(),
            labels=given.videos.labels,
            networks=given.networks,
            directions=given.directions,
            video_ids=given.videos.video_ids,
            shared_with_training=given.shared_with_training,
            outliers=outliers,
        )
    except UserError:
        return None  # as a warning said before the training


def save_epoch(task: TrainTask, fit: Fit, reference: ReferenceSet | None = None) -> None:
    """Write the files of the last epoch; see the top of this module."""
    out = task.config.out
    latest = fit.history[-1]
    if fit.best_epoch == latest.epoch or reference is not None:
        storage.write_atomic(storage.join(out, CHECKPOINT), checkpoint_bytes(task, fit, reference))
    storage.write_atomic(storage.join(out, HISTORY), history_csv(fit.history).encode())
    if not storage.is_remote(out):
        _log_to_tensorboard(Path(storage.local_path(out)) / TENSORBOARD, latest)
    # The state comes last: an epoch without it counts as not done and is repeated with the same result.
    storage.write_atomic(storage.join(out, STATE), fit.to_bytes())


def checkpoint_bytes(task: TrainTask, fit: Fit, reference: ReferenceSet | None = None) -> bytes:
    """Return the best epoch so far as a checkpoint for ``score``."""
    with torch.device("meta"):
        model = build_network(task.network)
    model.load_state_dict(fit.best or {}, assign=True)
    result = fit.history[fit.best_epoch - 1]
    note = (
        f"trained on {len(task.train)} videos, epoch {result.epoch} of {task.config.recipe.epochs}; "
        f"accuracy on {len(task.val)} validation videos {result.val_accuracy:.3f}"
    )
    out = io.BytesIO()
    save_checkpoint(
        out,
        model,
        classes=task.classes,
        preprocessing=task.preprocessing,
        note=note,
        trained_on=task.reference.trained_on,
        reference=reference,
    )
    return out.getvalue()


def history_csv(history: list[EpochResult]) -> str:
    """Return the history as CSV with a header."""
    out = io.StringIO()
    rows = csv.DictWriter(out, [one.name for one in fields(EpochResult)])
    rows.writeheader()
    rows.writerows({name: f"{value:.6g}" for name, value in asdict(result).items()} for result in history)
    return out.getvalue()


def read_history(text: str) -> list[EpochResult]:
    """Return the history from the text of :func:`history_csv`."""
    rows = csv.DictReader(io.StringIO(text))
    return [
        EpochResult(epoch=int(row.pop("epoch")), **{name: float(value) for name, value in row.items()})
        for row in rows
    ]


def _log_to_tensorboard(folder: Path, result: EpochResult) -> None:
    from torch.utils.tensorboard import SummaryWriter  # slow to import

    with SummaryWriter(str(folder)) as writer:
        for name, value in asdict(result).items():
            if name != "epoch":
                writer.add_scalar(name.replace("_", "/", 1), value, result.epoch)
