"""A training that is killed, or one of whose workers is, ends with the figures of one that is not."""

import io
import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from rich.console import Console
from support.crops_rows import write_patterns
from support.killed import dfdm_ray, kill_driver, kill_worker, wait_until

from dfdm_ray.clips.crops_dataset import read_crops, read_index
from dfdm_ray.errors import UserError
from dfdm_ray.jobs.train.config import NetworkConfig, Recipe, TrainConfig
from dfdm_ray.jobs.train.job import train
from dfdm_ray.jobs.train.loop import EpochResult
from dfdm_ray.jobs.train.rank import read_history
from dfdm_ray.models.checkpoint import load_checkpoint
from dfdm_ray.models.inference import ClipScorer

pytestmark = [pytest.mark.ray, pytest.mark.e2e, pytest.mark.usefixtures("ray_cluster")]

EPOCHS = 8
ALL = [str(number + 1) for number in range(EPOCHS)]
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


def epochs_shown(text: str) -> list[str]:
    return re.findall(rf"^epoch (\d)/{EPOCHS}: loss .* s(?: left)?$", text, re.MULTILINE)


@pytest.fixture(scope="module")
def undisturbed(crops: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training that nothing stopped."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    text = run(config(crops, out))
    assert "16 videos to train on, 6 to validate" in text
    assert epochs_shown(text) == ALL
    return out


def test_a_finished_training_has_its_files_and_is_not_done_twice(crops: Path, undisturbed: Path) -> None:
    record = json.loads((undisturbed / "run.json").read_text())
    last = record["runs"][-1]
    assert (last["status"], last["workers"], record["epochs"]) == ("complete", 2, EPOCHS)
    checkpoint = undisturbed / "dma_sta.pt"
    assert load_checkpoint(checkpoint.read_bytes(), name="x").classes == TWO
    assert (undisturbed / "curves.png").stat().st_size > 1000
    before = checkpoint.stat().st_mtime_ns
    torn = undisturbed / "state.pt.0123abcd.part"
    torn.touch()
    assert epochs_shown(run(config(crops, undisturbed))) == []
    assert not torn.exists()
    assert checkpoint.stat().st_mtime_ns == before
    with pytest.raises(UserError, match=r"other settings \(recipe\.batch_size: 4 -> 5\)"):
        run(replace(config(crops, undisturbed), recipe=Recipe(epochs=EPOCHS, batch_size=5)))


def accuracy_on_val(checkpoint: Path, crops: Path) -> float:
    model = load_checkpoint(checkpoint.read_bytes(), name="trained")
    scorer = ClipScorer(model, device="cpu")
    rows = [row for row in read_index(str(crops)).to_pylist() if row["split"] == "val"]
    logits = [scorer.score(read_crops(str(crops), row["file"])).logits.mean(axis=0) for row in rows]
    named = [model.classes[int(one.argmax())] for one in logits]
    return sum(name == row["generator"] for name, row in zip(named, rows, strict=True)) / len(rows)


def test_the_checkpoint_has_the_accuracy_that_training_reported(crops: Path, undisturbed: Path) -> None:
    best = max(one.val_accuracy for one in history(undisturbed))
    assert accuracy_on_val(undisturbed / "dma_sta.pt", crops) == pytest.approx(best, abs=1e-6)


def history(out: Path) -> list[EpochResult]:
    file = out / "history.csv"
    return read_history(file.read_text()) if file.exists() else []


def test_a_killed_worker_is_replaced_and_a_killed_training_is_continued_by_the_same_command(
    crops: Path, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    flags = f"--network.backbone resnet10 --workers 2 --recipe.batch-size 4 --recipe.epochs {EPOCHS}"
    with dfdm_ray("train", "--crops", str(crops), "--out", str(out), *flags.split()) as job:
        wait_until(lambda: history(out) and kill_worker(WORKER), job)
        before = len(history(out))
        wait_until(lambda: len(history(out)) > before + 1, job)
        kill_driver(job, worker=WORKER)
        first = epochs_shown(job.stdout.read())
    assert 2 <= len(history(out)) < EPOCHS
    last = epochs_shown(run(config(crops, out)))
    assert last == ALL[-len(last) :]
    assert first == ALL[: len(first)]
    assert len(first) + len(last) in (EPOCHS, EPOCHS - 1)  # one was recorded when the driver was killed
    for one, other in zip(history(out), history(undisturbed), strict=True):
        seconds = {"seconds": one.seconds}
        assert asdict(one) == pytest.approx({**asdict(other), **seconds}, rel=1e-3, abs=1e-4)
