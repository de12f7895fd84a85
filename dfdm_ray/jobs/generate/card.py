"""Description of a dataset: manifest, card, contact sheet, and the table of reconstructions."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
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
from dfdm_ray.jobs.generate.faces import read_subject
from dfdm_ray.jobs.generate.plan import Identity, Scene, real_paths, swap_paths
from dfdm_ray.labels import Generator
from dfdm_ray.manifest.build import build_manifest, write_manifest
from dfdm_ray.manifest.summary import show_manifest
from dfdm_ray.video.decode import VideoReader

_SHOWN_CRF = 10
_CROP_PX = 256
_SCENES_SHOWN = 2
"""Scenes of each pair and direction on the contact sheet."""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Everything a run made."""

    root: Path
    identities: list[Identity]
    pairs: list[tuple[str, str]]
    faces: dict[str, str]
    """File of faces, by source video."""
    rejected: dict[str, str]
    """Reason, by source video that was left out."""
    scenes: dict[str, list[Scene]]
    """By id of the identity."""
    trainings: list[tasks.Training]


def describe(dataset: Dataset, config: GenerateConfig, console: Console) -> None:
    """Write ``contact_sheet.png``, ``dataset.json`` and ``manifest.parquet``, and print a summary."""
    root = dataset.root
    storage.write_atomic(str(root / "contact_sheet.png"), png(_sheet(dataset)))
    card = _card(dataset, config)
    storage.write_atomic(str(root / "dataset.json"), json.dumps(card, indent=2, default=str).encode())
    build = build_manifest(str(root))
    problems = write_manifest(str(root / "manifest.parquet"), build, build.table)
    show_manifest(build, console)
    say(console, f"manifest: {root}/manifest.parquet" + (f"; problems: {problems}" if problems else ""))
    console.print(_reconstructions(dataset.trainings))
    say(console, f"contact sheet: {root}/contact_sheet.png; card: {root}/dataset.json")


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


def _reconstructions(trainings: Sequence[tasks.Training]) -> Table:
    headings = ("pair", "generator", "A->A", "B->B")
    table = Table(*headings, title="PSNR of reconstructed faces, dB", box=SIMPLE_HEAD)
    for training in trainings:
        psnr = training.result or {}
        table.add_row(
            "_".join(training.pair), training.generator, *(f"{psnr[side]:.1f}" for side in sorted(psnr))
        )
    return table


def _sheet(dataset: Dataset) -> Image:
    """Draw the middle frame of some scenes of each pair: real, then as drawn by each generator."""
    rows: list[tuple[str, Image | str]] = []
    generators = list(dict.fromkeys(training.generator for training in dataset.trainings))
    for a, b in dataset.pairs:
        for target, source in ((a, b), (b, a)):
            for scene in dataset.scenes[target][:_SCENES_SHOWN]:
                pictures = _middle_faces(dataset, scene, source, generators)
                rows.append((f"{target} with the face of {source}: real, {', '.join(generators)}", pictures))
    return contact_sheet(rows, cell_px=_CROP_PX // 2)


def _middle_faces(dataset: Dataset, scene: Scene, source: str, generators: Sequence[Generator]) -> Image:
    middle = (scene.frames.start + scene.frames.stop) // 2
    marks = read_subject(dataset.faces[scene.uri]).landmarks[middle]
    box = np.concatenate([marks.min(axis=0), marks.max(axis=0)]).astype(np.float32)
    paths = [real_paths(dataset.root, scene)[_SHOWN_CRF]]
    paths += [swap_paths(dataset.root, scene, source, generator)[_SHOWN_CRF] for generator in generators]
    pictures = []
    for path in paths:
        with VideoReader(str(path)) as reader:
            frame = next(islice(reader.read_onwards(), middle - scene.frames.start, None))
        pictures.append(crop_face(frame.rgb[0], box, size=_CROP_PX, margin=3.0))
    return np.stack(pictures)
