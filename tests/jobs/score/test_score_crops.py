"""Scoring prepared crops: what is wrong is told before Ray starts."""

import io
import json
from pathlib import Path

import pytest
import torch
from rich.console import Console
from support.crops_rows import PATTERN_PX, make_crops, prepared_row, write_index, write_patterns

from dfdm_ray.clips.crops_dataset import read_index, read_settings
from dfdm_ray.errors import UserError
from dfdm_ray.jobs.score import job as pipeline
from dfdm_ray.jobs.score.config import ScoreConfig
from dfdm_ray.jobs.score.job import score
from dfdm_ray.models.checkpoint import Preprocessing, random_model, save_checkpoint
from dfdm_ray.models.dma_sta import DmaStaConfig


@pytest.mark.parametrize(
    ("frames", "size", "split", "says"),
    [
        (2, 64, "test", r"takes 2 frames of 64 pixels .* have 2 of 32 pixels with a margin of 0\.3"),
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


def test_crops_of_another_alignment_are_refused(tmp_path: Path, tiny_checkpoint: Path) -> None:
    row = prepared_row(tmp_path, "a.mp4", make_crops(clips=1, frames=4, size=64))
    settings = {"num_frames": 4, "num_clips": 1, "crop_size": 64, "margin": 0.3, "align": "generator"}
    write_index(tmp_path, row, settings=settings)
    job = ScoreConfig(crops=str(tmp_path), checkpoint=str(tiny_checkpoint), out=str(tmp_path / "out"))
    with pytest.raises(UserError, match="have 4 of 64 pixels on the grid of the generators"):
        score(job, Console(quiet=True))


def test_what_is_assumed_of_a_bare_state_dict_is_printed_before_scoring_and_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    settings = {"num_frames": 2, "num_clips": 1, "crop_size": 224, "margin": 0.3}
    row = prepared_row(tmp_path, "a.mp4", make_crops(clips=1, frames=2, size=8))
    write_index(tmp_path, row, settings=settings)
    model = random_model(DmaStaConfig(backbone="resnet10", num_frames=2), seed=0)
    torch.save(model.state_dict(), tmp_path / "authors.pt")
    monkeypatch.setattr(pipeline, "ray_session", stop)
    job = ScoreConfig(crops=str(tmp_path), checkpoint=str(tmp_path / "authors.pt"), out=str(tmp_path / "out"))
    printed = io.StringIO()
    with pytest.raises(KeyboardInterrupt):
        score(job, Console(file=printed, width=1000))
    note = json.loads((tmp_path / "out" / "run.json").read_text())["checkpoint_note"]
    assert note.startswith("bare state dict; assumed: classes in the order faceswap, ")
    assert printed.getvalue() == f"warning: {tmp_path}/authors.pt is a {note}\n"


def test_crops_whose_rows_contain_a_key_are_refused(tmp_path: Path, tiny_checkpoint: Path) -> None:
    row = prepared_row(
        tmp_path, "a.mp4", make_crops(clips=1, frames=4, size=8), uri="s3://AKIA:hidden@b/a.mp4"
    )
    settings = {"num_frames": 4, "num_clips": 1, "crop_size": 64, "margin": 0.3}
    write_index(tmp_path, row, settings=settings)
    job = ScoreConfig(crops=str(tmp_path), checkpoint=str(tiny_checkpoint), out=str(tmp_path / "out"))
    with pytest.raises(UserError, match="has a key, a password or a token in a URI") as raised:
        score(job, Console(quiet=True))
    assert "hidden" not in str(raised.value)
    assert not (tmp_path / "out").exists()
