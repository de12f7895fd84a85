import json
from pathlib import Path

import pytest
from rich.console import Console
from support.crops_rows import write_patterns

from dfdm_ray.clips.crops_dataset import read_index
from dfdm_ray.errors import UserError
from dfdm_ray.jobs.train.config import NetworkConfig, Recipe, TrainConfig
from dfdm_ray.jobs.train.job import train

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def test_a_file_that_one_worker_cannot_read_stops_both_with_one_line(tmp_path: Path) -> None:
    write_patterns(tmp_path / "crops", generators=("faceswap", "iae"), each={"train": 5, "val": 3})
    index = read_index(str(tmp_path / "crops")).to_pylist()
    (tmp_path / "crops" / index[0]["file"]).write_bytes(b"no parquet")
    recipe, network = Recipe(epochs=2, batch_size=4), NetworkConfig(backbone="resnet10")
    job = TrainConfig(
        crops=str(tmp_path / "crops"), out=str(tmp_path / "out"), recipe=recipe, network=network, workers=2
    )
    with pytest.raises(UserError, match="is not a Parquet file"):
        train(job, Console(quiet=True))
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["runs"][-1]["status"].startswith("failed: the crops")
