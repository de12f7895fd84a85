import json
from dataclasses import replace
from pathlib import Path

import pytest
from support.crops_rows import write_index, write_patterns

from dfdm_ray.clips.crops_dataset import read_index, read_settings
from dfdm_ray.errors import UserError
from dfdm_ray.jobs.train.config import NetworkConfig, TrainConfig
from dfdm_ray.jobs.train.inputs import check_task
from dfdm_ray.jobs.train.record import open_record, write_record


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    """A training into ``out`` that has begun."""
    write_patterns(tmp_path / "crops", generators=("faceswap", "iae"), each={"train": 2, "val": 1})
    job = TrainConfig(
        crops=str(tmp_path / "crops"), out=str(tmp_path / "out"), network=NetworkConfig(backbone="resnet10")
    )
    write_record(job, open_record(job, check_task(job)))
    return job


def crop_again(config: TrainConfig, *, margin: float) -> None:
    rows = read_index(config.crops).to_pylist()
    write_index(Path(config.crops), *rows, settings={**read_settings(config.crops), "margin": margin})


def test_a_training_is_not_continued_on_other_crops(config: TrainConfig) -> None:
    crop_again(config, margin=0.9)
    with pytest.raises(UserError, match=r"other settings \(data\.crops\.margin: 0\.3 -> 0\.9\)"):
        open_record(config, check_task(config))


def test_a_record_that_does_not_tell_the_crops_is_continued_and_then_tells_them(config: TrainConfig) -> None:
    file = Path(config.out) / "run.json"
    record = json.loads(file.read_text())
    settings = record["settings"]
    record["settings"] = {name: settings[name] for name in settings if not name.startswith("data.crops.")}
    file.write_text(json.dumps(record))
    opened = open_record(config, check_task(config))
    assert opened["settings"] == settings
    with pytest.raises(UserError, match=r"other settings \(seed: 0 -> 1\)"):
        open_record(replace(config, seed=1), check_task(config))


@pytest.mark.parametrize("recorded", [True, False])
def test_overwriting_leaves_nothing_of_the_old_training_to_go_on_from(
    config: TrainConfig, recorded: bool
) -> None:
    out = Path(config.out)
    if not recorded:
        (out / "run.json").unlink()  # by an overwriting that was killed, or by hand
    for name in (
        "state.pt",
        "history.csv",
        "dma_sta.pt",
        "tensorboard/events",
        "ray_train/x/y",
        "mine/notes",
    ):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).touch()
    assert open_record(replace(config, overwrite=True), check_task(config))["runs"] == []
    assert [path.name for path in out.iterdir()] == ["mine"]


def test_overwriting_touches_no_folders_where_no_training_is(config: TrainConfig, tmp_path: Path) -> None:
    other = tmp_path / "other" / "tensorboard"
    other.mkdir(parents=True)
    open_record(replace(config, out=str(other.parent), overwrite=True), check_task(config))
    assert other.exists()
