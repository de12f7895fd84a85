"""Train DMA-STA on a crops dataset.

::

    crops dataset -> one rank a GPU (else CPU): read, augment -> DDP steps -> validation, every video once
                  -> rank 0: OUT/state.pt, dma_sta.pt, history.csv
"""

import dataclasses
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer, get_device
from ray.util.queue import Queue
from rich.console import Console

from dfdm_ray.engine.record import now, versions
from dfdm_ray.engine.session import ray_session, worker_nodes
from dfdm_ray.engine.shares import of_training_worker, total, training_workers
from dfdm_ray.errors import UserError
from dfdm_ray.io import storage
from dfdm_ray.io.terminal import say
from dfdm_ray.jobs.train.config import TrainConfig, random_start
from dfdm_ray.jobs.train.curves import draw_curves, epoch_line
from dfdm_ray.jobs.train.inputs import check_task
from dfdm_ray.jobs.train.loop import EpochResult, best_of
from dfdm_ray.jobs.train.rank import CHECKPOINT, HISTORY, TrainTask, read_history, train_rank
from dfdm_ray.jobs.train.record import RAY_TRAIN, crops_settings, training_folder

_RETRIES = 3
"""How often training goes on from its last epoch when a worker or node dies."""
_POLL_S = 1.0


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a training left behind."""

    checkpoint: str
    """For `dfdm-ray score`."""
    history: list[EpochResult]

    @property
    def best(self) -> EpochResult:
        """The epoch that the checkpoint is of."""
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
    """Train to the last epoch, or on to it, and return the history.

    Raises:
        UserError: If an input is wrong, the output folder holds another training or cannot be written, or
            the loss is no longer a number.
    """
    config = dataclasses.replace(
        config, crops=storage.absolute(config.crops), out=storage.absolute(config.out)
    )  # workers have another working directory
    task = check_task(config)
    folder = training_folder(config, task)
    record = folder.open_record(overwrite=config.overwrite, defaults=crops_settings(folder.settings))
    record["config"] = dataclasses.asdict(config)
    run: dict[str, Any] = {"started_at": now(), "command": sys.argv, "status": "running"}
    record["runs"].append(run)
    folder.write_record(record)
    say(
        console,
        f"{len(task.train)} videos to train on, {len(task.val)} to validate; {task.network.backbone}, "
        f"{task.network.num_frames} frames of {task.preprocessing.crop_size} pixels",
    )
    if line := random_start(config):
        say(console, line)
    try:
        if len(_history(config)) < config.recipe.epochs:
            run |= _run(config, task, console)
        run["status"] = "complete"
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt | SystemExit)
        run["status"] = "interrupted" if stopped else f"failed: {error!s:.500}"
        raise
    finally:
        run["finished_at"] = now()
        history = _history(config)
        record |= {"versions": versions(), "epochs": len(history)}
        folder.write_record(record)
        if history:
            storage.write_atomic(storage.join(config.out, "curves.png"), draw_curves(history))
    storage.remove_unfinished(config.out)
    return TrainResult(checkpoint=storage.join(config.out, CHECKPOINT), history=history)


def _history(config: TrainConfig) -> list[EpochResult]:
    uri = storage.join(config.out, HISTORY)
    return read_history(storage.read_bytes(uri, what="history").decode()) if storage.exists(uri) else []


def _run(config: TrainConfig, task: TrainTask, console: Console) -> dict[str, Any]:
    """Train on Ray and return what ``run.json`` should say of it."""
    with ray_session(config.ray_address, worker_output=False):  # Ray Train talks a lot of its own actors
        nodes = worker_nodes()
        gpus = int(total(nodes).get("GPU", 0))
        recipe = config.recipe
        workers = training_workers(
            nodes,
            gpus=gpus,
            wanted=config.workers,
            loaders=config.loaders,
            most=recipe.batch_size // recipe.micro_batches,
        )
        problems = Queue(actor_options={"num_cpus": 0})
        trainer = TorchTrainer(
            _train_on_worker,
            train_loop_config={"task": task, "problems": problems, "use_gpu": gpus > 0},
            scaling_config=ScalingConfig(
                num_workers=workers,
                use_gpu=gpus > 0,
                resources_per_worker=of_training_worker(config.loaders, gpus=gpus),
            ),
            run_config=_run_config(config),
        )
        with _shown(config, console):
            trainer.fit()
        if not problems.empty():
            raise UserError(problems.get())
        return {"workers": workers, "device": "cuda" if gpus else "cpu"}


def _run_config(config: TrainConfig) -> RunConfig:
    filesystem, path = storage.resolve(storage.join(config.out, RAY_TRAIN))
    return RunConfig(
        name=now().replace(":", ""),
        storage_path=path,
        storage_filesystem=filesystem,
        failure_config=FailureConfig(max_failures=_RETRIES),
    )


def _train_on_worker(arguments: dict[str, Any]) -> None:
    problems: Queue = arguments["problems"]
    if not problems.empty():
        return  # Ray tries again what cannot go well
    # Without a GPU of its own a worker would be given the first that torch sees.
    device = get_device() if arguments["use_gpu"] else torch.device("cpu")
    if device.type == "cpu" and ray.train.get_context().get_world_size() > 1:
        torch.set_num_threads(1)
    try:
        train_rank(arguments["task"], str(device))
    except UserError as error:
        problems.put(str(error))
        raise  # so that other ranks are stopped, which may wait for this one


@contextmanager
def _shown(config: TrainConfig, console: Console) -> Iterator[None]:
    """Print a line for each epoch as it is written."""
    over = threading.Event()
    shown = len(_history(config))

    def watch() -> None:
        nonlocal shown
        last = False
        while not last:
            last = over.wait(_POLL_S)
            history = _history(config)
            for result in history[shown:]:
                line = epoch_line(result, epochs=config.recipe.epochs, seconds_each=history[-1].seconds)
                say(console, line)
            shown = len(history)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
