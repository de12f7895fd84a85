"""Scoring prepared crops: what is wrong is told before Ray starts."""

import io
from pathlib import Path

import pytest
from crops_rows import PATTERN_PX, write_patterns
from rich.console import Console

from dfdm_ray.config import ScoreConfig
from dfdm_ray.errors import UserError
from dfdm_ray.models.checkpoint import Preprocessing, random_model, save_checkpoint
from dfdm_ray.models.dma_sta import DmaStaConfig
from dfdm_ray.pipelines.score import score


@pytest.mark.parametrize(
    ("frames", "size", "split", "says"),
    [
        (2, 64, "test", r"takes 2 frames of 64 pixels .* but the clips of .* have 2 of 32 with 0\.3"),
        (3, PATTERN_PX, "test", "takes 3 frames of 32 pixels .* have 2 of 32"),
        (2, PATTERN_PX, "holdout", "has no videos in --split holdout: test, train"),
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
