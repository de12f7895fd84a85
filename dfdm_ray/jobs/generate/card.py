"""What a made dataset says of itself: manifest, card, pictures and the table of reconstructions."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from dfdm_ray.engine.record import now, versions
from dfdm_ray.faces.crops import crop_face
from dfdm_ray.io import storage
from dfdm_ray.io.images import Image, contact_sheet, png
from dfdm_ray.io.terminal import say
from dfdm_ray.jobs.generate import tasks
from dfdm_ray.jobs.generate.config import GenerateConfig
from dfdm_ray.jobs.generate.convert import SYNTHETIC
from dfdm_ray.jobs.generate.plan import Identity, Scene, real_paths, swap_paths
from dfdm_ray.jobs.manifest import job as manifest
from dfdm_ray.jobs.manifest.config import ManifestConfig
from dfdm_ray.labels import Generator
from dfdm_ray.video.decode import VideoReader

_SHOWN_CRF = 10
_CROP_PX = 256
_SCENES_SHOWN = 2
"""Scenes of each pair and direction on the contact sheet."""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """What a run made."""

    identities: list[Identity]
    pairs: list[tuple[str, str]]
    scenes: dict[str, list[Scene]]
    """By identity."""
    trainings: list[tasks.Training]
    rejected: dict[str, str]
    """Source videos left out, and why."""


def describe(
    dataset: Dataset, config: GenerateConfig, root: Path, faces: Mapping[str, str], console: Console
) -> None:
    """Write ``manifest.parquet``, ``dataset.json`` and ``contact_sheet.png``, and print what was made."""
    storage.write_atomic(str(root / "contact_sheet.png"), png(_sheet(dataset, root, faces)))
    card = _card(dataset, config)
    storage.write_atomic(str(root / "dataset.json"), json.dumps(card, indent=2, default=str).encode())
    manifest.write(
        ManifestConfig(videos=str(root), out=str(root / "manifest.parquet"), split="none", overwrite=True),
        console,
    )
    console.print(_reconstructions(dataset))
    say(console, f"look at {root}/contact_sheet.png; the card is {root}/dataset.json")


def _card(dataset: Dataset, config: GenerateConfig) -> dict[str, object]:
    swaps = sum(len(dataset.scenes[side]) for training in dataset.trainings for side in training.pair)
    return {
        "what": SYNTHETIC,
        "intended_use": "training and testing of forensics on material of people who agreed to it",
        "made_at": now(),
        "identities": [asdict(identity) for identity in dataset.identities],
        "pairs": dataset.pairs,
        "rejected_sources": dataset.rejected,
        "num_scenes": {identity: len(scenes) for identity, scenes in dataset.scenes.items()},
        "num_swapped_videos": 3 * swaps,
        "psnr_db": {f"{'_'.join(one.pair)} {one.generator}": one.result for one in dataset.trainings},
        "settings": asdict(config),
        "versions": versions(),
    }


def _reconstructions(dataset: Dataset) -> Table:
    table = Table(title="reconstruction, PSNR within the face in dB", box=SIMPLE_HEAD)
    for heading in ("pair", "generator", "A->A", "B->B"):
        table.add_column(heading)
    for training in dataset.trainings:
        psnr = training.result or {}
        table.add_row(
            "_".join(training.pair), training.generator, *(f"{psnr[side]:.1f}" for side in sorted(psnr))
        )
    return table


def _sheet(dataset: Dataset, root: Path, faces: Mapping[str, str]) -> Image:
    """Draw, for some scenes of each pair, the middle frame as it was and as each generator drew it."""
    rows: list[tuple[str, Image | str]] = []
    generators = list(dict.fromkeys(training.generator for training in dataset.trainings))
    for a, b in dataset.pairs:
        for target, source in ((a, b), (b, a)):
            for scene in dataset.scenes[target][:_SCENES_SHOWN]:
                pictures = _middle_faces(scene, source, generators, root, faces)
                rows.append((f"{target} with the face of {source}: real, {', '.join(generators)}", pictures))
    return contact_sheet(rows, cell_px=_CROP_PX // 2)


def _middle_faces(
    scene: Scene, source: str, generators: list[Generator], root: Path, faces: Mapping[str, str]
) -> Image:
    middle = (scene.start + scene.stop) // 2
    marks = tasks.read_faces(faces[scene.uri]).landmarks[middle]
    low, high = marks.min(axis=0), marks.max(axis=0)
    box = np.concatenate([low, high]).astype(np.float32)
    paths = [real_paths(root, scene)[_SHOWN_CRF]]
    paths += [swap_paths(root, scene, source, generator)[_SHOWN_CRF] for generator in generators]
    return np.stack(
        [crop_face(_frame(path, middle - scene.start), box, size=_CROP_PX, margin=3.0) for path in paths]
    )


def _frame(path: Path, number: int) -> Image:
    with VideoReader(str(path)) as reader:
        for at, frame in enumerate(reader.read_onwards()):
            if at == number:
                image: Image = frame.rgb[0]
                return image
    raise ValueError(f"{path} has no frame {number}")
