import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.crops_rows import write_index, write_patterns

from dfdm_ray.clips.crops_dataset import read_index, read_settings
from dfdm_ray.errors import UserError
from dfdm_ray.jobs.train.config import NetworkConfig, TrainConfig
from dfdm_ray.jobs.train.inputs import check_task, crops_settings, training_folder
from dfdm_ray.models.checkpoint import random_model
from dfdm_ray.models.dma_sta import DmaStaConfig


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


def with_imagenet(config: TrainConfig, path: Path) -> TrainConfig:
    return replace(config, out=f"{config.out}2", network=replace(config.network, imagenet=str(path)))


def test_imagenet_weights_are_identified_by_their_content(config: TrainConfig, tmp_path: Path) -> None:
    first, copy, other = (tmp_path / name for name in ("first.pth", "copy.pth", "other.pth"))
    for seed, path in enumerate((first, other)):
        model = random_model(DmaStaConfig(backbone="resnet10", spatial_attention=False), seed=seed)
        torch.save({name: value for name, value in model.state_dict().items() if "ta." not in name}, path)
    shutil.copy(first, copy)
    job = with_imagenet(config, first)
    training_folder(job, check_task(job)).write_record(open_record(job))
    open_record(with_imagenet(config, copy))
    shutil.copy(other, first)
    for path in (first, other):
        with pytest.raises(UserError, match=r"other settings \(imagenet: [0-9a-f]{64} -> [0-9a-f]{64}\)"):
            open_record(with_imagenet(config, path))
    with pytest.raises(UserError, match=r"other settings \(imagenet: [0-9a-f]{64} -> None\)"):
        open_record(replace(config, out=job.out))


def test_a_training_of_a_version_that_stored_the_path_is_continued_with_that_path(
    config: TrainConfig, tmp_path: Path
) -> None:
    path = tmp_path / "weights.pth"
    model = random_model(DmaStaConfig(backbone="resnet10", spatial_attention=False), seed=0)
    torch.save({name: value for name, value in model.state_dict().items() if "ta." not in name}, path)
    job = with_imagenet(config, path)
    folder = training_folder(job, check_task(job))
    folder.settings["imagenet"] = str(path)
    folder.write_record(open_record(job))
    open_record(job)
    shutil.copy(path, tmp_path / "copy.pth")
    with pytest.raises(UserError, match=r"imagenet: /.*/weights\.pth -> [0-9a-f]{64}"):
        open_record(with_imagenet(config, tmp_path / "copy.pth"))
