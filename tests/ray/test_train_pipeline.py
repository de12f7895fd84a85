import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from support.crops_rows import write_patterns

from dfdm_ray.clips.crops_dataset import read_index
from dfdm_ray.errors import UserError
from dfdm_ray.jobs.train.config import NO_AUGMENTATION, NetworkConfig, Recipe, TrainConfig
from dfdm_ray.jobs.train.job import train
from dfdm_ray.models.checkpoint import load_checkpoint

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

TWO = ("faceswap", "iae")


def config(root: Path) -> TrainConfig:
    recipe = Recipe(epochs=2, batch_size=4, augment=NO_AUGMENTATION)
    network = NetworkConfig(backbone="resnet10")
    return TrainConfig(
        crops=str(root / "crops"), out=str(root / "out"), recipe=recipe, network=network, workers=2
    )


def run(job: TrainConfig) -> str:
    out = io.StringIO()
    train(job, Console(file=out, width=80))
    return out.getvalue()


def test_two_workers_train_and_the_same_command_finds_nothing_left_to_do(tmp_path: Path) -> None:
    write_patterns(tmp_path / "crops", generators=TWO, each={"train": 5, "val": 3})
    text = run(config(tmp_path))
    assert "10 videos to train on, 6 to validate" in text
    lines = [line for line in text.splitlines() if line.startswith("epoch ")]
    assert [line[: len("epoch 1/2: loss")] for line in lines] == ["epoch 1/2: loss", "epoch 2/2: loss"]
    assert all(line.endswith((" s", " s left")) for line in lines)
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (record["runs"][-1]["status"], record["runs"][-1]["workers"], record["epochs"]) == (
        "complete",
        2,
        2,
    )
    checkpoint = tmp_path / "out" / "dma_sta.pt"
    assert load_checkpoint(checkpoint.read_bytes(), name="x").classes == TWO
    assert (tmp_path / "out" / "curves.png").stat().st_size > 1000
    before = checkpoint.stat().st_mtime_ns
    torn = tmp_path / "out" / "state.pt.0123abcd.part"
    torn.touch()
    assert "epoch 2/2" not in run(config(tmp_path))
    assert not torn.exists()
    assert checkpoint.stat().st_mtime_ns == before
    with pytest.raises(UserError, match=r"other settings \(recipe\.learning_rate: 0\.001 -> 0\.5\)"):
        run(replace(config(tmp_path), recipe=replace(config(tmp_path).recipe, learning_rate=0.5)))


def test_a_file_that_one_worker_cannot_read_stops_both_with_one_line(tmp_path: Path) -> None:
    write_patterns(tmp_path / "crops", generators=TWO, each={"train": 5, "val": 3})
    index = read_index(str(tmp_path / "crops")).to_pylist()
    (tmp_path / "crops" / index[0]["file"]).write_bytes(b"no parquet")
    with pytest.raises(UserError, match="is not a Parquet file"):
        run(config(tmp_path))
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["runs"][-1]["status"].startswith("failed: the crops")
