"""Plan of a dataset: identities, pairs, scenes, and the names of their files."""

import csv
import itertools
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dfdm_ray.errors import UserError, refuse_keys
from dfdm_ray.io import storage
from dfdm_ray.jobs.generate.config import SwapTrainConfig
from dfdm_ray.labels import DFDM_TAGS, QUALITIES, Generator
from dfdm_ray.manifest.build import build_manifest

_PROCESS_GIB, _STATE_GIB, _SAMPLE_GIB = 1.5, 2.5, 0.1
"""Memory of a training on a GPU, rounded up: CUDA and its workspaces; weights, gradients, Adam's two moments
and a copy in bfloat16 of IAE, the largest; activations of a face of each person in Dfaker, the largest."""
_MOST_PER_GPU = 4
"""More trainings on a GPU than this rarely fill it better."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """One person and the videos of them."""

    id: str
    """``id0``, ``id1``...: the naming of DFDM."""
    name: str
    """The name given by the user."""
    videos: tuple[str, ...]
    """URIs."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A span of frames in a video of one identity."""

    identity: str
    """Id of the identity."""
    number: int
    """Number of the scene among those of the identity, from 0."""
    uri: str
    frames: range
    """Frame numbers."""


def read_identities(source: str) -> list[Identity]:
    """Read a folder of identity folders, or a CSV with the columns ``identity`` and ``video``.

    Raises:
        UserError: If ``source`` is neither or has fewer than two identities.
    """
    path = Path(source)
    if path.is_dir():
        tables = {one.name: build_manifest(str(one)).table for one in sorted(path.iterdir()) if one.is_dir()}
        found = {name: tuple(table["uri"].to_pylist()) for name, table in tables.items()}
    elif path.suffix.lower() == ".csv":
        found = _read_csv(path)
    else:
        raise UserError(f"--identities {source} is neither a folder of identity folders nor a .csv")
    if len(found) < 2:
        names = ", ".join(found) or "none"
        raise UserError(
            f"--identities {source} has {len(found)} identities ({names}); a swap needs at least two"
        )
    numbered = enumerate(sorted(found.items()))
    return [Identity(id=f"id{number}", name=name, videos=videos) for number, (name, videos) in numbered]


def _read_csv(path: Path) -> dict[str, tuple[str, ...]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    refuse_keys((row.get("video") or "" for row in rows), origin=str(path))
    found: dict[str, tuple[str, ...]] = {}
    for line, row in enumerate(rows, start=2):
        name, video = row.get("identity"), row.get("video")
        if not name or not video:
            raise UserError(f"{path} line {line} needs the columns identity and video, got {row}")
        uri = video if "://" in video else storage.absolute(os.path.join(path.parent, video))
        found[name] = (*found.get(name, ()), uri)
    return found


def choose_pairs(
    identities: Sequence[Identity], named: Sequence[str], *, sample: int | None, seed: int
) -> list[tuple[str, str]]:
    """Return pairs of identity ids, the lower first: all or those ``named`` (``anna:bob``), or a sample.

    Raises:
        UserError: If a name is unknown or not a pair.
    """
    ids = {one.id: one.id for one in identities} | {one.name: one.id for one in identities}  # names win
    order = [identity.id for identity in identities]
    pairs: list[tuple[str, str]] = list(itertools.combinations(order, 2))
    if named:
        chosen = [
            tuple(sorted((_known(part, ids, text) for part in text.split(":")), key=order.index))
            for text in named
        ]
        wrong = [text for text, pair in zip(named, chosen, strict=True) if len(set(pair)) != 2]
        if wrong:
            raise UserError(
                f"--pairs {wrong[0]} is not a pair; give two identities such as {order[0]}:{order[1]}"
            )
        pairs = [pair for pair in pairs if pair in chosen]
    if sample is not None and sample < len(pairs):
        pairs = sorted(random.Random(seed).sample(pairs, sample))
    return pairs


def _known(name: str, ids: Mapping[str, str], text: str) -> str:
    if name not in ids:
        raise UserError(f"--pairs {text}: unknown identity {name!r}; known are {', '.join(ids)}")
    return ids[name]


def cut_scenes(identity: Identity, spans: Mapping[str, Sequence[range]], *, limit: int) -> list[Scene]:
    """Return up to ``limit`` scenes of an identity, one from each video in turn; ``spans`` are by video."""
    rounds = itertools.zip_longest(*([(uri, span) for span in spans.get(uri, ())] for uri in identity.videos))
    found = [entry for one in rounds for entry in one if entry is not None][:limit]
    return [
        Scene(identity=identity.id, number=number, uri=uri, frames=span)
        for number, (uri, span) in enumerate(found)
    ]


def trainings_per_gpu(memory_gib: float, config: SwapTrainConfig) -> int:
    """Return how many trainings share a GPU with this memory."""
    width = max(map(config.width_of, Generator))
    each = _PROCESS_GIB + _STATE_GIB * width**2 + _SAMPLE_GIB * width * config.batch_size
    return max(1, min(_MOST_PER_GPU, int(memory_gib / each)))


def network_folder(root: Path, pair: str, generator: str) -> Path:
    """Return the folder of the network of ``generator`` for a pair such as ``id0_id1``."""
    return root / "work" / "models" / pair / generator


def swap_paths(root: Path, scene: Scene, source: str, generator: Generator) -> dict[int, Path]:
    """Return the files of a scene with the face of ``source``, by crf, named as in DFDM."""
    name = f"{scene.identity}_{source}_{scene.number:04d}_{DFDM_TAGS[generator]}.mp4"
    return {crf: root / f"DFDM_crf{crf}" / generator / name for crf in QUALITIES}


def real_paths(root: Path, scene: Scene) -> dict[int, Path]:
    """Return the files of an unchanged scene, by crf, named as in Celeb-DF."""
    name = f"{scene.identity}_{scene.number:04d}.mp4"
    return {crf: root / "real" / f"crf{crf}" / name for crf in QUALITIES}
