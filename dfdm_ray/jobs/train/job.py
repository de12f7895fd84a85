"""Train DMA-STA on a crops dataset.

::

    crops dataset -> one rank per GPU (else CPU): read, augment -> DDP steps -> validation, each video once
                  -> rank 0: OUT/state.pt, dma_sta.pt, history.csv -> report to Ray -> one line per epoch
"""

import dataclasses
import io
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import ray
import torch
from ray.train import ControllerError, FailureConfig, RunConfig, ScalingConfig, UserCallback, WorkerGroupError
from ray.train.torch import TorchTrainer, get_device
from ray.util.queue import Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from rich.console import Console

from dfdm_ray.engine.record import now
from dfdm_ray.engine.session import ray_session, worker_nodes
from dfdm_ray.engine.shares import loaders_of, of_training_worker, total, training_workers
from dfdm_ray.errors import IncompleteError, UserError
from dfdm_ray.io import storage
from dfdm_ray.io.terminal import say
from dfdm_ray.jobs.train.config import TrainConfig, random_start
from dfdm_ray.jobs.train.inputs import RAY_TRAIN, check_task, crops_settings, training_folder
from dfdm_ray.jobs.train.loop import EpochResult, best_of
from dfdm_ray.jobs.train.rank import CHECKPOINT, HISTORY, TrainTask, read_history, train_rank
from dfdm_ray.models.reference import remarks_on

_RETRIES = 3
"""Times that training continues from its last epoch after a worker or node died."""
_NO_WATCHER = "0"
"""On a single node: there is no other node to move to before this one goes."""
_POLL_S = "0.25"
"""Seconds between two reports that Ray takes from a worker, which waits until then. Ray's default of 2 would
slow down trainings with shorter epochs."""


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """The results of a training."""

    checkpoint: str
    """URI of the model for `dfdm-ray score`."""
    history: list[EpochResult]

    @property
    def best(self) -> EpochResult:
        """The epoch whose weights the checkpoint holds."""
        return best_of(self.history)


def main(config: TrainConfig, console: Console) -> None:
    """Run the command."""
    result = train(config, console)
    say(
        console,
        f"best epoch {result.best.epoch}: validation accuracy {result.best.val_accuracy:.1%}; "
        f"checkpoint {result.checkpoint}, curves {config.out}/curves.png",
    )


def train(config: TrainConfig, console: Console) -> TrainResult:
    """Train to the last epoch, or continue to it, and return the history.

    Raises:
        UserError: If an input is wrong, the output folder contains another training or cannot be written, or
            the loss is no longer a number.
    """
    config = dataclasses.replace(
        config, crops=storage.absolute(config.crops), out=storage.absolute(config.out)
    )  # workers have another working directory
    task = check_task(config)
    folder = training_folder(config, task)
    record = folder.open_record(overwrite=config.overwrite, defaults=crops_settings(folder.settings))
    record["config"] = dataclasses.asdict(config)
    say(
        console,
        f"{len(task.train)} videos to train on, {len(task.val)} to validate; {len(task.classes)} classes: "
        f"{', '.join(task.classes)}; {task.network.backbone}, {task.network.num_frames} frames of "
        f"{task.preprocessing.crop_size} pixels",
    )
    if task.left_out:
        say(console, f"left out: {task.left_out}", "yellow")
    given = task.reference
    counts = Counter(task.classes[label] for label in given.videos.labels)
    say(console, f"reference set of the verdicts: {len(given.videos)} videos, {given.name}")
    for remark in remarks_on(task.classes, counts, given.shared_with_training):
        say(console, f"warning: {remark}", "yellow")
    if line := random_start(config):
        say(console, line)
    with folder.recorded(record) as run:
        try:
            if len(_history(config)) < config.recipe.epochs:
                run |= _run(config, task, console)
        finally:
            history = _history(config)
            record["epochs"] = len(history)
            if history:
                storage.write_atomic(storage.join(config.out, "curves.png"), draw_curves(history))
        if len(history) < config.recipe.epochs:
            raise IncompleteError(
                f"{len(history)} of {config.recipe.epochs} epochs are in {config.out}; run the same command "
                "again, with an --out that all machines of the cluster share"
            )
        folder.remove_unfinished(config.out)
    return TrainResult(checkpoint=storage.join(config.out, CHECKPOINT), history=history)


def _history(config: TrainConfig) -> list[EpochResult]:
    uri = storage.join(config.out, HISTORY)
    return read_history(storage.read_bytes(uri, what="history").decode()) if storage.exists(uri) else []


def _run(config: TrainConfig, task: TrainTask, console: Console) -> dict[str, Any]:
    """Train on Ray and return the facts about it for ``run.json``."""
    with ray_session(config.ray_address, worker_output=False):  # Ray Train logs a lot about its own actors
        nodes = worker_nodes()
        if len(nodes) == 1:
            os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", _NO_WATCHER)
        gpus = int(total(nodes).get("GPU", 0))
        recipe, loaders = config.recipe, loaders_of(nodes, wanted=config.loaders)
        task = dataclasses.replace(task, loaders=loaders)
        workers = training_workers(
            nodes,
            gpus=gpus,
            wanted=config.workers,
            loaders=loaders,
            most=recipe.batch_size // recipe.micro_batches,
        )
        scaling = ScalingConfig(
            num_workers=workers,
            use_gpu=gpus > 0,
            resources_per_worker=of_training_worker(loaders, gpus=gpus),
        )
        with _shown(config, console) as epochs:
            _fit(task, scaling, _Controller(epochs))
        return {"workers": workers, "loaders": loaders, "device": "cuda" if gpus else "cpu"}


def _fit(task: TrainTask, scaling: ScalingConfig, callback: UserCallback) -> None:
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", _POLL_S)
    trainer = TorchTrainer(
        _train_on_worker,
        train_loop_config={"task": task, "use_gpu": scaling.use_gpu},
        scaling_config=scaling,
        run_config=_run_config(task.config, callback),
    )
    handler = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit()
    except ControllerError as error:
        if isinstance(error.controller_failure, UserError):
            raise error.controller_failure from None
        raise
    except WorkerGroupError as error:
        if reason := why_gone(error):
            raise IncompleteError(
                f"workers ended in each of {1 + _RETRIES} attempts ({reason}); run the same command again to "
                "continue from the last epoch"
            ) from None
        raise
    except SystemExit as stop:
        if stop.code in (0, 1):  # from Ray Train's handler of Ctrl-C
            raise KeyboardInterrupt from stop
        raise
    finally:
        signal.signal(signal.SIGINT, handler)  # Ray Train leaves its own


def why_gone(error: WorkerGroupError) -> str | None:
    """Return why a worker died or exited, ``None`` if all that failed raised an error."""
    causes = [getattr(failure, "_base_exc", failure) for failure in error.worker_failures.values()]
    for cause in causes:
        if isinstance(cause, ray.exceptions.RayError | SystemExit):
            return f"{type(cause).__name__}: {cause}".partition("\n")[0]
    return None


def _run_config(config: TrainConfig, callback: UserCallback) -> RunConfig:
    filesystem, path = storage.resolve(storage.join(config.out, RAY_TRAIN))
    return RunConfig(
        name=now().replace(":", ""),
        storage_path=path,
        storage_filesystem=filesystem,
        failure_config=FailureConfig(max_failures=_RETRIES),
        callbacks=[callback],  # type: ignore[list-item]  # Ray's annotation names the callbacks of Ray Tune
    )


@dataclass(frozen=True)
class _Controller(UserCallback):
    """Actions in Ray Train's controller, an actor beside the driver."""

    epochs: Queue

    def after_report(self, run_context: Any, metrics: Sequence[Mapping[str, Any]], checkpoint: Any) -> None:
        """Pass the metrics of rank 0 on to the driver."""
        self.epochs.put(metrics[0])

    def after_exception(self, run_context: Any, worker_exceptions: Mapping[int, Exception]) -> None:
        """Raise the ``UserError`` of a worker: Ray retries if a worker raises, but not if a callback does."""
        for error in worker_exceptions.values():
            if isinstance(error, UserError):
                raise error


def _train_on_worker(arguments: dict[str, Any]) -> None:
    # Without a GPU of its own, a worker would get the first that torch sees.
    device = get_device() if arguments["use_gpu"] else torch.device("cpu")
    if device.type == "cpu" and ray.train.get_context().get_world_size() > 1:
        torch.set_num_threads(1)
    # Without a checkpoint: rank 0 has just written OUT/state.pt, from which any number of ranks continues.
    for result in train_rank(arguments["task"], str(device)):
        ray.train.report(asdict(result))


@contextmanager
def _shown(config: TrainConfig, console: Console) -> Iterator[Queue]:
    """Print a line for each epoch put into the queue, once."""
    # A queue, because callbacks run in the controller's process, whose output does not reach ``console``.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    epochs = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
    shown = len(_history(config))

    def show() -> None:
        nonlocal shown
        while metrics := epochs.get():
            result = EpochResult(**metrics)
            if result.epoch > shown:
                say(console, epoch_line(result, epochs=config.recipe.epochs))
                shown = result.epoch

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield epochs
    finally:
        epochs.put(None)
        thread.join()


def epoch_line(result: EpochResult, *, epochs: int) -> str:
    """Return the line that a person reads about one of ``epochs`` epochs."""
    width = len(str(epochs))
    left_s = (epochs - result.epoch) * result.seconds
    left = f", about {left_s:.0f} s left" if left_s else ""
    return (
        f"epoch {result.epoch:>{width}}/{epochs}: loss {result.train_loss:.3f}, "
        f"accuracy {result.train_accuracy:6.1%}; validation: loss {result.val_loss:.3f}, "
        f"accuracy {result.val_accuracy:6.1%}; rate {result.learning_rate:.1e}, {result.seconds:.1f} s{left}"
    )


def draw_curves(history: Sequence[EpochResult]) -> bytes:
    """Return loss and accuracy of training and validation over the epochs as a PNG file."""
    from matplotlib.figure import Figure  # slow to import, and no worker draws

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    epochs = [result.epoch for result in history]
    loss.plot(epochs, [result.train_loss for result in history], label="training")
    loss.plot(epochs, [result.val_loss for result in history], label="validation")
    accuracy.plot(epochs, [result.train_accuracy for result in history], label="training")
    accuracy.plot(epochs, [result.val_accuracy for result in history], label="validation")
    loss.set(xlabel="epoch", ylabel="cross entropy")
    accuracy.set(xlabel="epoch", ylabel="accuracy", ylim=(0, 1))
    for one in (loss, accuracy):
        one.grid(alpha=0.3)
        one.legend()
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110)
    return out.getvalue()
