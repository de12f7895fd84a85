"""A training that is killed, interrupted or loses a worker ends with the figures of one that is not."""

import io
import json
import os
import re
import signal
import socket
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pytest
import torch
from rich.console import Console
from support.crops_rows import write_patterns
from support.killed import dfdm_ray, kill_driver, kill_worker, wait_until
from torch import distributed

from dfdm_ray.clips.crops_dataset import read_crops, read_index
from dfdm_ray.errors import UserError
from dfdm_ray.jobs.train.config import NetworkConfig, Recipe, TrainConfig
from dfdm_ray.jobs.train.inputs import check_task
from dfdm_ray.jobs.train.job import train
from dfdm_ray.jobs.train.loop import EpochResult
from dfdm_ray.jobs.train.rank import read_history, train_rank
from dfdm_ray.models.checkpoint import load_checkpoint
from dfdm_ray.models.inference import ClipScorer

pytestmark = [pytest.mark.ray, pytest.mark.e2e, pytest.mark.usefixtures("ray_cluster")]

EPOCHS = 12
WORKER = "RayTrainWorker"
TWO = ("faceswap", "iae")


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("crops")
    write_patterns(root, generators=TWO, each={"train": 8, "val": 3})
    return root


def config(crops: Path, out: Path) -> TrainConfig:
    recipe, network = Recipe(epochs=EPOCHS, batch_size=4), NetworkConfig(backbone="resnet10")
    return TrainConfig(crops=str(crops), out=str(out), recipe=recipe, network=network, workers=2)


def run(job: TrainConfig) -> str:
    out = io.StringIO()
    train(job, Console(file=out, width=80))
    return out.getvalue()


def command(crops: Path, out: Path) -> AbstractContextManager[psutil.Popen]:
    """Start a process of that configuration which joins the Ray of this one."""
    flags = f"--network.backbone resnet10 --workers 2 --recipe.batch-size 4 --recipe.epochs {EPOCHS}"
    return dfdm_ray("train", "--crops", str(crops), "--out", str(out), *flags.split(), joins=True)


def epochs_shown(text: str) -> list[int]:
    found = re.findall(rf"^epoch +(\d+)/{EPOCHS}: loss .* s(?: left)?$", text, re.MULTILINE)
    return [int(number) for number in found]


def history(out: Path) -> list[EpochResult]:
    file = out / "history.csv"
    return read_history(file.read_text()) if file.exists() else []


@pytest.fixture(scope="module")
def stopped(crops: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training that lost a worker, then its driver, and was interrupted when it went on."""
    out = tmp_path_factory.mktemp("stopped") / "out"
    with command(crops, out) as job:
        wait_until(lambda: history(out) and kill_worker(WORKER), job)
        before = len(history(out))
        wait_until(lambda: len(history(out)) > before + 1, job)
        kill_driver(job, worker=WORKER)
        shown = epochs_shown(job.stdout.read())
    done = len(history(out))
    assert 3 <= done < EPOCHS
    # The last one may have been saved when the driver was killed.
    assert shown in (list(range(1, done + 1)), list(range(1, done)))
    with command(crops, out) as job:
        wait_until(lambda: len(history(out)) > done, job)
        job.send_signal(signal.SIGINT)
        text, _ = job.communicate(timeout=120)
    assert job.returncode == 130, text
    assert text.endswith("\ninterrupted; run the same command again to continue\n")
    assert "Traceback" not in text
    assert done < len(history(out)) < EPOCHS
    return out


def rank_main(rank: int, port: int, crops: str, out: str) -> None:
    """Train as one rank of two without Ray."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", rank=rank, world_size=2)
    list(train_rank(check_task(config(Path(crops), Path(out))), "cpu"))
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def undisturbed(crops: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training that nothing stopped."""
    out = tmp_path_factory.mktemp("undisturbed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(rank_main, (port, str(crops), str(out)), nprocs=2)
    return out


def test_a_training_stopped_in_every_way_is_continued_by_the_same_command(
    crops: Path, stopped: Path, undisturbed: Path
) -> None:
    done = len(history(stopped))
    text = run(config(crops, stopped))
    assert "16 videos to train on, 6 to validate" in text
    assert epochs_shown(text) == list(range(done + 1, EPOCHS + 1))
    for one, other in zip(history(stopped), history(undisturbed), strict=True):
        seconds = {"seconds": one.seconds}
        assert asdict(one) == pytest.approx({**asdict(other), **seconds}, rel=1e-3, abs=1e-4)
    record = json.loads((stopped / "run.json").read_text())
    last = record["runs"][-1]
    assert (last["status"], last["workers"], record["epochs"]) == ("complete", 2, EPOCHS)
    best = max(one.val_accuracy for one in history(stopped))
    assert accuracy_on_val(stopped / "dma_sta.pt", crops) == pytest.approx(best, abs=1e-6)


def accuracy_on_val(checkpoint: Path, crops: Path) -> float:
    model = load_checkpoint(checkpoint.read_bytes(), name="trained")
    scorer = ClipScorer(model, device="cpu")
    rows = [row for row in read_index(str(crops)).to_pylist() if row["split"] == "val"]
    logits = [scorer.score(read_crops(str(crops), row["file"])).logits.mean(axis=0) for row in rows]
    named = [model.classes[int(one.argmax())] for one in logits]
    return sum(name == row["generator"] for name, row in zip(named, rows, strict=True)) / len(rows)


def test_a_finished_training_has_its_files_and_is_not_done_twice(crops: Path, stopped: Path) -> None:
    run(config(crops, stopped))
    checkpoint = stopped / "dma_sta.pt"
    assert load_checkpoint(checkpoint.read_bytes(), name="x").classes == TWO
    assert (stopped / "curves.png").stat().st_size > 1000
    before = checkpoint.stat().st_mtime_ns
    torn = stopped / "state.pt.0123abcd.part"
    torn.touch()
    assert epochs_shown(run(config(crops, stopped))) == []
    assert not torn.exists()
    assert checkpoint.stat().st_mtime_ns == before
    with pytest.raises(UserError, match=r"other settings \(recipe\.batch_size: 4 -> 5\)"):
        run(replace(config(crops, stopped), recipe=Recipe(epochs=EPOCHS, batch_size=5)))


def test_a_file_that_one_worker_cannot_read_stops_both_with_one_line(crops: Path, tmp_path: Path) -> None:
    file = crops / read_index(str(crops))["file"][0].as_py()
    content = file.read_bytes()
    file.write_bytes(b"no parquet")
    with pytest.raises(UserError, match="is not a Parquet file"):
        train(config(crops, tmp_path), Console(quiet=True))
    file.write_bytes(content)
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["runs"][-1]["status"].startswith("failed: the crops")
