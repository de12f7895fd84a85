"""Make a DFDM-shaped dataset.

::

    identities -> extract (a Ray task per video): faces, landmarks          work/faces/
               -> train (a task per pair and generator), on a GPU if any   work/models/
               -> convert (a task per scene): align, predict, blend, encode at three qualities
    OUT/DFDM_crf*/<generator>/id0_id1_0000_1original.mp4, real/, manifest.parquet, dataset.json, *.png

Every result is a file that appears whole; a task whose file is there is not run, so the same command
finishes what a stopped run left.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray
from rich.console import Console

from dfdm_ray.clips.cut import load_detector
from dfdm_ray.engine.progress import Work, progress
from dfdm_ray.engine.session import ray_session
from dfdm_ray.errors import UserError
from dfdm_ray.generators.swap_autoencoder import Side
from dfdm_ray.io import storage
from dfdm_ray.io.terminal import say
from dfdm_ray.jobs.generate import tasks
from dfdm_ray.jobs.generate.card import Dataset, describe
from dfdm_ray.jobs.generate.config import GenerateConfig
from dfdm_ray.jobs.generate.plan import (
    Identity,
    Scene,
    choose_pairs,
    cut_scenes,
    read_identities,
    real_paths,
    swap_paths,
)
from dfdm_ray.jobs.generate.settings import require_networks, require_same_settings
from dfdm_ray.labels import GENERATORS

_RETRIES = 3
"""How often a task is run again when its worker or node dies."""
_POLL_S = 5.0

Conversion = tuple[tasks.Training | None, Scene, str, Side, Mapping[int, str]]
"""Arguments of :func:`generate_tasks.convert`."""


def generate(config: GenerateConfig, console: Console) -> Dataset:
    """Make the dataset below ``config.out``.

    Raises:
        UserError: If identities, pairs or videos do not do, or an earlier run there had other identities or
            settings.
    """
    identities = read_identities(config.identities)
    pairs = choose_pairs(identities, config.pairs, sample=config.sample_pairs, seed=config.seed)
    root = Path(config.out).absolute()  # workers may have another working directory
    networks = root if config.networks is None else Path(config.networks).absolute()
    if networks != root:
        require_networks(networks, identities, config)
    require_same_settings(root, identities, config)
    _, weights = load_detector(config.detector)
    with ray_session(config.ray_address):
        faces, rejected = _extract(config, root, identities, weights, console)
        used = [one for one in identities if any(one.id in pair for pair in pairs)]
        _require_usable(used, faces, rejected)
        scenes = {one.id: _scenes(config, one, faces) for one in used}
        trainings = _trainings(config, networks, identities, pairs, faces)
        if networks == root:
            _train(trainings, console)
        _require_trained(trainings)
        _convert(root, trainings, scenes, faces, console)
    dataset = Dataset(
        identities=identities, pairs=pairs, scenes=scenes, trainings=trainings, rejected=rejected
    )
    describe(dataset, config, root, faces, console)
    work = root / "work"
    for folder in (root, work, work / "faces", *(one.folder for one in trainings if networks == root)):
        storage.remove_unfinished(str(folder))
    return dataset


def _require_trained(trainings: list[tasks.Training]) -> None:
    for training in trainings:
        if training.result is None:
            raise UserError(f"there is no trained network in {training.folder}")


def _extract(
    config: GenerateConfig, root: Path, identities: list[Identity], weights: bytes, console: Console
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the file of faces of each usable video, and why the others are not."""
    files = {
        uri: str(root / "work" / "faces" / f"{one.id}_{number:04d}.npz")
        for one in identities
        for number, uri in enumerate(one.videos)
    }
    shared = ray.put(weights)
    calls = {uri: (uri, out, config.detector, shared, config) for uri, out in files.items()}
    reasons = _run("faces", tasks.extract, calls, console)
    rejected = {uri: str(reason) for uri, reason in reasons.items() if reason}
    for uri, reason in rejected.items():
        say(console, f"left out: {uri}: {reason}")
    return {uri: out for uri, out in files.items() if uri not in rejected}, rejected


def _require_usable(
    identities: list[Identity], faces: Mapping[str, str], rejected: Mapping[str, str]
) -> None:
    for one in identities:
        if not any(uri in faces for uri in one.videos):
            reason = next((rejected[uri] for uri in one.videos if uri in rejected), "it has no videos")
            raise UserError(f"identity {one.name} has no usable video: {reason}")


def _scenes(config: GenerateConfig, identity: Identity, faces: Mapping[str, str]) -> list[Scene]:
    usable = {uri: faces[uri] for uri in identity.videos if uri in faces}
    spans = {uri: tasks.read_faces(path).scenes(config.scene_frames) for uri, path in usable.items()}
    scenes = cut_scenes(identity, spans, limit=config.scenes_per_identity)
    if not scenes:
        raise UserError(
            f"identity {identity.name} has no {config.scene_frames} frames in a row with a face; "
            "give a smaller --scene-frames"
        )
    return scenes


def _trainings(
    config: GenerateConfig,
    root: Path,
    identities: list[Identity],
    pairs: list[tuple[str, str]],
    faces: Mapping[str, str],
) -> list[tasks.Training]:
    of = {one.id: tuple(faces[uri] for uri in one.videos if uri in faces) for one in identities}
    return [
        tasks.Training(
            generator=generator,
            pair=(a, b),
            faces={"a": of[a], "b": of[b]},
            folder=str(root / "work" / "models" / f"{a}_{b}" / generator),
            config=config.train,
            seed=config.seed,
        )
        for a, b in pairs
        for generator in config.generators
    ]


def _train(trainings: list[tasks.Training], console: Console) -> None:
    # DFDM's order is that of cost: the slowest first, so that none is left to run alone at the end.
    slowest_first = sorted(trainings, key=lambda one: GENERATORS.index(one.generator), reverse=True)
    gpus = 1 if ray.cluster_resources().get("GPU", 0) else 0  # type: ignore[no-untyped-call]
    device = "cuda" if gpus else "cpu"
    calls = {one.folder: (one, device) for one in slowest_first if one.result is None}
    planned = sum(training.config.iterations for training in trainings)

    def done(_: int) -> int:
        return sum(training.iterations_done for training in trainings)

    work = Work(planned=planned, unit="iterations")
    _run("training", tasks.train, calls, console, gpus=gpus, work=work, measure=done)


def _convert(
    root: Path,
    trainings: list[tasks.Training],
    scenes: Mapping[str, list[Scene]],
    faces: Mapping[str, str],
    console: Console,
) -> None:
    calls: dict[str, Conversion] = {}
    for scene in (scene for found in scenes.values() for scene in found):
        real = {crf: str(path) for crf, path in real_paths(root, scene).items()}
        calls[f"real {scene}"] = (None, scene, faces[scene.uri], "a", real)
        for training in (one for one in trainings if scene.identity in one.pair):
            a, b = training.pair
            source, to = (b, "b") if scene.identity == a else (a, "a")
            paths = {
                crf: str(path) for crf, path in swap_paths(root, scene, source, training.generator).items()
            }
            calls[next(iter(paths.values()))] = (training, scene, faces[scene.uri], to, paths)  # type: ignore[assignment]
    _run("scenes", tasks.convert, calls, console)


def _run(
    title: str,
    task: Callable[..., Any],
    calls: Mapping[str, tuple[Any, ...]],
    console: Console,
    *,
    gpus: int = 0,
    work: Work | None = None,
    measure: Callable[[int], int] = int,
) -> dict[str, Any]:
    """Run ``task`` on Ray for each call, show progress, and return the results by name.

    A task reserves a CPU and so many GPUs, and is run again when its worker dies.
    """
    if not calls:
        return {}
    work = work or Work(planned=len(calls), unit=title)
    remote = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=_RETRIES)(task)
    running = {remote.remote(*arguments): name for name, arguments in calls.items()}
    results: dict[str, Any] = {}
    with progress(work, console, title=title) as show:
        while running:
            ready, _ = ray.wait(list(running), timeout=_POLL_S)
            for ref in ready:
                results[running.pop(ref)] = _result(ref)
            work.done = measure(len(results))
            show()
    return results


def _result(ref: ray.ObjectRef[Any]) -> Any:
    try:
        return ray.get(ref)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):  # its own words, without the worker's traceback
            raise error.cause from None
        raise
