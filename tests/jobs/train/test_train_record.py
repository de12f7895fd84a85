import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.crops_rows import write_index, write_patterns

from dfdm_ray.clips.crops_dataset import read_index, read_settings
from dfdm_ray.errors import UserError
from dfdm_ray.jobs.train.config import NetworkConfig, TrainConfig
from dfdm_ray.jobs.train.inputs import check_task, crops_settings, training_folder


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    """A training into ``out`` that has begun."""
    write_patterns(tmp_path / "crops", generators=("faceswap", "iae"), each={"train": 2, "val": 1})
    job = TrainConfig(
        crops=str(tmp_path / "crops"), out=str(tmp_path / "out"), network=NetworkConfig(backbone="resnet10")
    )
    training_folder(job, check_task(job)).write_record(open_record(job))
    return job


def open_record(config: TrainConfig) -> dict[str, Any]:
    folder = training_folder(config, check_task(config))
    return folder.open_record(overwrite=config.overwrite, defaults=crops_settings(folder.settings))


def crop_again(config: TrainConfig, *, margin: float) -> None:
    rows = read_index(config.crops).to_pylist()
    write_index(Path(config.crops), *rows, settings={**read_settings(config.crops), "margin": margin})


def test_a_training_is_not_continued_on_other_crops(config: TrainConfig) -> None:
    crop_again(config, margin=0.9)
    with pytest.raises(UserError, match=r"other settings \(data\.crops\.margin: 0\.3 -> 0\.9\)"):
        open_record(config)


def test_a_record_without_the_settings_of_the_crops_is_continued(config: TrainConfig) -> None:
    file = Path(config.out) / "run.json"
    record = json.loads(file.read_text())
    settings = record["settings"]
    record["settings"] = {name: settings[name] for name in settings if not name.startswith("data.crops.")}
    file.write_text(json.dumps(record))
    opened = open_record(config)
    training_folder(config, check_task(config)).write_record(opened)
    assert json.loads(file.read_text())["settings"] == settings
    with pytest.raises(UserError, match=r"other settings \(seed: 0 -> 1\)"):
        open_record(replace(config, seed=1))


FILES = ("state.pt", "history.csv", "dma_sta.pt", "tensorboard/events", "ray_train/x/y", "mine/notes")


def test_overwriting_leaves_nothing_of_the_old_training_to_continue_from(config: TrainConfig) -> None:
    out = Path(config.out)
    for name in FILES:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).touch()
    assert open_record(replace(config, overwrite=True))["runs"] == []
    assert sorted(path.name for path in out.iterdir()) == ["mine", "run.json"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_without_a_record_is_refused_and_left_as_it_is(
    config: TrainConfig, tmp_path: Path, overwrite: bool
) -> None:
    other = tmp_path / "other" / "tensorboard"
    other.mkdir(parents=True)
    with pytest.raises(UserError, match=r"contains files but no run.json \(tensorboard\)"):
        open_record(replace(config, out=str(other.parent), overwrite=overwrite))
    assert other.exists()
