"""Scoring prepared crops: what is wrong is told before Ray starts."""

import io
from pathlib import Path

import pytest
from rich.console import Console
from support.crops_rows import PATTERN_PX, write_index, write_patterns

from dfdm_ray.clips.crops_dataset import read_index, read_settings
from dfdm_ray.errors import UserError
from dfdm_ray.jobs.score.config import ScoreConfig
from dfdm_ray.jobs.score.job import score
from dfdm_ray.models.checkpoint import Preprocessing, random_model, save_checkpoint
from dfdm_ray.models.dma_sta import DmaStaConfig


@pytest.mark.parametrize(
    ("frames", "size", "split", "says"),
    [
        (2, 64, "test", r"takes 2 frames of 64 pixels .* but the clips of .* have 2 of 32 with 0\.3"),
        (3, PATTERN_PX, "test", "takes 3 frames of 32 pixels .* have 2 of 32"),
        (2, PATTERN_PX, "holdout", "has no videos in --split holdout; its splits: test, train"),
    ],
)
def test_crops_that_do_not_fit_are_told(
    tmp_path: Path, frames: int, size: int, split: str, says: str
) -> None:
    write_patterns(tmp_path / "crops", generators=("faceswap", "iae"), each={"train": 1, "test": 1})
    model = random_model(DmaStaConfig(backbone="resnet10", num_frames=frames, num_classes=2), seed=0)
    checkpoint = tmp_path / "model.pt"
    preprocessing = Preprocessing(crop_size=size)
    save_checkpoint(checkpoint, model, classes=("faceswap", "iae"), preprocessing=preprocessing, note="")
    job = ScoreConfig(
        crops=str(tmp_path / "crops"), checkpoint=str(checkpoint), split=split, out=str(tmp_path / "out")
    )
    with pytest.raises(UserError, match=says):
        score(job, Console(file=io.StringIO()))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"detector": "a", "max_side": 640, "score_threshold": 0.8}, ["max_side: 480 -> 640"]),
        ({"detector": "none"}, ["detector: a -> none"]),  # an imported tree
        ({"detector": "a", "max_side": 480}, []),
        ({}, []),
    ],
)
def test_faces_found_otherwise_than_in_training_are_told(
    tmp_path: Path, settings: dict[str, object], says: list[str]
) -> None:
    crops = tmp_path / "crops"
    write_patterns(crops, generators=("faceswap", "iae"), each={"test": 1})
    rows = read_index(str(crops)).to_pylist()
    write_index(crops, *rows, settings={**read_settings(str(crops)), **settings})
    model = random_model(DmaStaConfig(backbone="resnet10", num_frames=2, num_classes=2), seed=0)
    trained = Preprocessing(crop_size=PATTERN_PX, detector="a", max_side=480, score_threshold=0.8)
    checkpoint = tmp_path / "model.pt"
    save_checkpoint(checkpoint, model, classes=("faceswap", "iae"), preprocessing=trained, note="")
    job = ScoreConfig(crops=str(crops), checkpoint=str(checkpoint), split="none", out=str(tmp_path / "out"))
    out = io.StringIO()
    with pytest.raises(UserError, match="has no videos in --split none"):
        score(job, Console(file=out))
    lines = [f"warning: training found its faces with other settings ({text})" for text in says]
    assert out.getvalue().splitlines() == lines
