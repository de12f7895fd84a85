"""A user's table of videos with names of their own, from the table to verdicts."""

import io
import json
from pathlib import Path

import pyarrow.compute as pc
import pytest
from rich.console import Console

from dfdm_ray.config import CropConfig, DecodeConfig, VerifyConfig
from dfdm_ray.engine.verify import verify
from dfdm_ray.errors import UserError
from dfdm_ray.jobs.calibrate.config import CalibrateConfig
from dfdm_ray.jobs.calibrate.job import calibrate
from dfdm_ray.jobs.evaluate.config import EvaluateConfig
from dfdm_ray.jobs.evaluate.job import evaluate
from dfdm_ray.jobs.preprocess.config import PreprocessConfig
from dfdm_ray.jobs.preprocess.job import preprocess
from dfdm_ray.jobs.score.config import ScoreConfig
from dfdm_ray.jobs.score.job import score
from dfdm_ray.jobs.train.config import NetworkConfig, Recipe, TrainConfig
from dfdm_ray.jobs.train.job import train
from dfdm_ray.models.checkpoint import load_checkpoint

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]

NAMES = ("My swapper", "FSGAN", "Real")
CLASSES = ("FSGAN", "My swapper", "real")
SPLITS = ("train", "train", "val", "calibration", "calibration")


def table_of(folder: Path, video: Path) -> Path:
    rows = ["uri,generator,target_identity,source_identity,split"]
    for name in NAMES:
        for number, split in enumerate(SPLITS):
            file = folder / f"{name}-{number}.mp4"
            file.symlink_to(video)
            source = "" if name == "Real" else f"source{number}"
            rows.append(f"{file.name},{name},target{number},{source},{split}")
    (folder / "mine.csv").write_text("\n".join(rows) + "\n")
    return folder / "mine.csv"


def test_a_table_of_three_names_is_trained_scored_calibrated_and_evaluated(
    tmp_path: Path, carphone: Path
) -> None:
    printed = io.StringIO()
    console = Console(file=printed, width=200)
    table, crops, out = (str(tmp_path / name) for name in ("mine.csv", "crops", "out"))
    table_of(tmp_path, carphone)
    preprocess(
        PreprocessConfig(
            manifest=table,
            out=crops,
            frames=2,
            clips=1,
            crop=CropConfig(size=64),
            resources=DecodeConfig(decode_workers=1),
        ),
        console,
    )
    trained = train(
        TrainConfig(
            crops=crops,
            out=str(tmp_path / "training"),
            recipe=Recipe(epochs=1, batch_size=6),
            network=NetworkConfig(backbone="resnet10"),
            workers=1,
        ),
        console,
    )
    text = printed.getvalue()
    assert f"3 classes: {', '.join(CLASSES)}" in text
    assert "reference set of the verdicts: 6 videos, split calibration of the training data\n" in text
    assert "warning: fewer than 19 reference videos: FSGAN (2), My swapper (2), real (2)" in text
    assert "shows networks" not in text
    loaded = load_checkpoint(Path(trained.checkpoint).read_bytes(), name="trained")
    assert loaded.classes == CLASSES
    assert loaded.reference is not None
    assert loaded.reference.facts["shared_with_training"] == "nothing"
    assert loaded.reference.facts["num_networks"] == dict.fromkeys(CLASSES, 2)

    job = ScoreConfig(crops=crops, checkpoint=trained.checkpoint, out=out, features=True)
    rows = score(job, console).predictions
    assert set(rows["verdict"].to_pylist()) <= {"inconclusive", "unknown"}  # too few videos for more
    assert set(rows["reference_set"].to_pylist()) == {"split calibration of the training data"}
    assert pc.min(pc.list_value_length(rows["features"])).as_py() == loaded.model.fc.in_features
    verify(VerifyConfig(out=out), console)

    fitted = CalibrateConfig(
        checkpoint=trained.checkpoint, predictions=out, out=str(tmp_path / "fitted.pt"), name="mine"
    )
    reference = calibrate(fitted, console)
    assert reference.facts["num_videos"] == dict.fromkeys(CLASSES, len(SPLITS))
    assert reference.facts["shared_with_training"] == "networks"
    again = load_checkpoint(Path(fitted.out).read_bytes(), name="fitted").reference
    assert again is not None
    assert again.to_plain() == reference.to_plain()
    with pytest.raises(UserError, match=r"fitted\.pt exists; give --overwrite"):
        calibrate(fitted, console)
    other = CalibrateConfig(checkpoint=fitted.out, predictions=out, out=str(tmp_path / "x.pt"))
    with pytest.raises(UserError, match="was scored with another checkpoint than"):
        calibrate(other, console)

    metrics = evaluate(EvaluateConfig(predictions=(out,), out=str(tmp_path / "evaluation")), console)
    assert metrics["num_videos"] == len(NAMES) * len(SPLITS)
    assert json.loads(json.dumps(metrics["runs"][0]["open_set"]))["coverage"]["num_videos"] == 15
