from pathlib import Path
from typing import Any

import pytest
from support.crops_rows import write_index, write_patterns

from dfdm_ray.clips.crops_dataset import read_index, read_settings
from dfdm_ray.errors import UserError
from dfdm_ray.jobs.train.config import NetworkConfig, TrainConfig
from dfdm_ray.jobs.train.inputs import check_task
from dfdm_ray.jobs.train.rank import TrainTask
from dfdm_ray.models.checkpoint import Preprocessing

TWO = ("faceswap", "iae")


def task_of(root: Path, **settings: Any) -> TrainTask:
    """Check a training on a small crops dataset in ``root`` with these settings beside its own."""
    if not root.exists():
        write_patterns(root, generators=TWO, each={"train": 2, "val": 1})
    rows = read_index(str(root)).to_pylist()
    write_index(root, *rows, settings={**read_settings(str(root)), **settings})
    return check_task(
        TrainConfig(crops=str(root), out=str(root / "out"), network=NetworkConfig(backbone="resnet10"))
    )


def test_a_model_of_crops_cut_from_videos_carries_their_frame_plan(tmp_path: Path) -> None:
    found = task_of(tmp_path / "c", strategy="uniform", runs_per_clip=3).preprocessing
    assert (found.strategy, found.runs, found.clips, found.crop_size) == ("uniform", 3, 2, 32)


def test_a_model_of_an_imported_tree_carries_the_default_frame_plan(tmp_path: Path) -> None:
    found = task_of(tmp_path / "c", strategy="png_tree").preprocessing
    assert (found.strategy, found.runs) == (Preprocessing().strategy, Preprocessing().runs)


def test_a_model_carries_how_the_faces_of_its_crops_were_found(tmp_path: Path) -> None:
    faces = {"detector": "mobilenet0.25", "max_side": 480, "detect_every": 5, "score_threshold": 0.8}
    assert task_of(tmp_path / "c").preprocessing.faces == {}
    assert task_of(tmp_path / "c", **faces, search_frames=300).preprocessing.faces == faces


def test_crops_that_were_cut_otherwise_are_distinguished(tmp_path: Path) -> None:
    first, second = (task_of(tmp_path / "c", margin=margin).data_settings for margin in (0.3, 0.9))
    assert {name for name in first if first[name] != second[name]} == {"crops.margin"}


def test_any_names_are_classes_and_what_has_none_is_counted(tmp_path: Path) -> None:
    write_patterns(tmp_path / "c", generators=("Faceswap", "iae", "FSGAN", " "), each={"train": 2, "val": 1})
    task = task_of(tmp_path / "c")
    assert (task.classes, len(task.train)) == ((*TWO, "FSGAN"), 6)
    assert task.left_out == "videos without a generator (3)"


def test_crops_of_files_that_were_replaced_are_distinguished(tmp_path: Path) -> None:
    earlier = task_of(tmp_path / "c").data_settings
    found = []
    for letter in "ab":
        rows = [{**row, "fingerprint": letter} for row in read_index(str(tmp_path / "c")).to_pylist()]
        write_index(tmp_path / "c", *rows, settings=read_settings(str(tmp_path / "c")))
        found.append(task_of(tmp_path / "c").data_settings)
    assert {name for name in found[0] if found[0][name] != found[1][name]} == {"videos_sha256"}
    rows = [{**row, "fingerprint": None} for row in rows]  # as in datasets of earlier versions
    write_index(tmp_path / "c", *rows, settings=read_settings(str(tmp_path / "c")))
    assert task_of(tmp_path / "c").data_settings == earlier


def test_a_missing_split_is_reported_with_the_existing_ones_and_the_remedy(tmp_path: Path) -> None:
    write_patterns(tmp_path / "c", generators=TWO, each={"train": 4, "test": 2})
    with pytest.raises(
        UserError, match=r"in the split val \(4 test, 8 train\)\. .* folder val/ and import"
    ) as raised:
        task_of(tmp_path / "c")
    assert "`dfdm-ray manifest`" in str(raised.value)
