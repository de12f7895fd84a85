"""Make a DFDM-shaped dataset.

::

    identities -> extract (a task per video): faces and landmarks           work/faces/
               -> train (a task per pair and generator), on a GPU if any    work/models/
               -> convert (a task per scene and network): three qualities   DFDM_crf*/, real/
               -> manifest.parquet, dataset.json, contact_sheet.png

Every result is a file that is written whole. A task whose files exist does nothing, so the same command
finishes an interrupted run.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

import ray
from rich.console import Console

from dfdm_ray.clips.cut import load_detector
from dfdm_ray.engine.observe import unconfined
from dfdm_ray.engine.progress import Work, progress
from dfdm_ray.engine.session import ray_session, worker_nodes
from dfdm_ray.engine.shares import of_task, total
from dfdm_ray.errors import IncompleteError, UserError
from dfdm_ray.generators.base import Side
from dfdm_ray.io.terminal import say
from dfdm_ray.jobs.generate import tasks
from dfdm_ray.jobs.generate.card import Dataset, describe
from dfdm_ray.jobs.generate.config import GenerateConfig
from dfdm_ray.jobs.generate.faces import read_subject
from dfdm_ray.jobs.generate.plan import (
    Identity,
    Scene,
    choose_pairs,
    cut_scenes,
    network_folder,
    read_identities,
    real_paths,
    swap_paths,
    trainings_per_gpu,
)
from dfdm_ray.jobs.generate.settings import dataset_folder, not_stored, require_networks
from dfdm_ray.labels import GENERATORS

_RETRIES = 3
"""Number of times a task is run again when its worker or node dies."""
_POLL_S = 5.0
_STOP_S = 30.0
_LOOK_S = 60.0
"""Seconds to wait for a GPU whose memory is looked at."""


def generate(config: GenerateConfig, console: Console) -> None:
    """Make the dataset in ``config.out``.

    Raises:
        UserError: If identities, pairs or videos are unusable, or the folder contains data made of other
            identities or with other settings.
    """
    identities = read_identities(config.identities)
    pairs = choose_pairs(identities, config.pairs, sample=config.sample_pairs, seed=config.seed)
    root = Path(config.out).absolute()  # workers may have another working directory
    networks = root if config.networks is None else Path(config.networks).absolute()
    if networks != root:
        require_networks(networks, identities, config)
    folder = dataset_folder(root, identities, config)
    record = folder.open_record(has_overwrite=False, defaults=not_stored(folder.settings))
    record["config"] = asdict(config)
    _, weights = load_detector(config.detector)
    with folder.recorded(record) as run, ray_session(config.ray_address):
        faces, rejected = _extract(config, root, identities, weights, console)
        paired = [one for one in identities if one.id in chain(*pairs)]
        scenes = {one.id: _scenes(config, one, faces, rejected) for one in paired}
        trainings = _trainings(config, networks, paired, pairs, faces)
        if networks == root:
            _train(config, trainings, console)
        _require_trained(trainings)
        if held := _convert(root, trainings, scenes, faces, console):
            run["sandbox"] = held
        dataset = Dataset(
            root=root,
            identities=identities,
            pairs=pairs,
            faces=faces,
            rejected=rejected,
            scenes=scenes,
            trainings=trainings,
        )
        describe(dataset, config, console)
        work, made = root / "work", (*root.glob("DFDM_crf*/*/"), *root.glob("real/*/"))
        own = [one.folder for one in trainings if networks == root]
        folder.remove_unfinished(*map(str, (root, work, work / "faces", *own, *made)))


def _extract(
    config: GenerateConfig, root: Path, identities: Sequence[Identity], weights: bytes, console: Console
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the file of faces of each usable video, and the reason for each video that is left out."""
    files = {
        uri: str(root / "work" / "faces" / f"{one.id}_{number:04d}.npz")
        for one in identities
        for number, uri in enumerate(one.videos)
    }
    extract = ray.remote(**of_task(worker_nodes()), max_retries=_RETRIES)(tasks.extract)
    shared = ray.put(weights)
    running = [extract.remote(uri, out, shared, config) for uri, out in files.items()]
    reasons = _wait(running, "faces", console)
    rejected = {uri: str(reason) for uri, reason in zip(files, reasons, strict=True) if reason}
    require_made([out for uri, out in files.items() if uri not in rejected], root=root)
    for uri, reason in rejected.items():
        say(console, f"left out: {uri}: {reason}")
    return {uri: out for uri, out in files.items() if uri not in rejected}, rejected


def _scenes(
    config: GenerateConfig, identity: Identity, faces: Mapping[str, str], rejected: Mapping[str, str]
) -> list[Scene]:
    usable = [uri for uri in identity.videos if uri in faces]
    if not usable:
        reason = rejected[identity.videos[0]]
        raise UserError(f"identity {identity.name} has no usable video: {reason}")
    spans = {uri: read_subject(faces[uri]).scenes(config.scene_frames) for uri in usable}
    scenes = cut_scenes(identity, spans, limit=config.scenes_per_identity)
    if not scenes:
        raise UserError(
            f"identity {identity.name} has no {config.scene_frames} consecutive frames with a face; "
            "give a smaller --scene-frames"
        )
    return scenes


def _trainings(
    config: GenerateConfig,
    root: Path,
    identities: Sequence[Identity],
    pairs: Sequence[tuple[str, str]],
    faces: Mapping[str, str],
) -> list[tasks.Training]:
    files = {one.id: tuple(faces[uri] for uri in one.videos if uri in faces) for one in identities}
    return [
        tasks.Training(
            generator=generator,
            pair=(a, b),
            faces={"a": files[a], "b": files[b]},
            folder=network_folder(root, f"{a}_{b}", generator),
            config=config.train,
            seed=config.seed,
            save_s=60 * config.save_minutes,
        )
        for a, b in pairs
        for generator in config.generators
    ]


def _train(config: GenerateConfig, trainings: Sequence[tasks.Training], console: Console) -> None:
    # Generators are in the order of their cost. The slowest go first, so that none runs alone at the end.
    slowest_first = sorted(trainings, key=lambda one: GENERATORS.index(one.generator), reverse=True)
    left = [one for one in slowest_first if one.result is None]
    share = _of_training(config) if left else {"num_gpus": 0.0}
    train = ray.remote(**share, max_retries=_RETRIES)(tasks.train)
    device = "cuda" if share["num_gpus"] else "cpu"
    running = [train.remote(one, device) for one in left]
    work = Work(planned=sum(one.config.iterations for one in trainings), unit="iterations")
    with progress(work, console, title="training") as show:
        for _ in unfinished(running):
            work.done = sum(one.iterations_done for one in trainings)
            show()


def _of_training(config: GenerateConfig) -> dict[str, Any]:
    """Return what each training reserves; several share a GPU if they fit its memory."""
    nodes = worker_nodes()
    per_gpu = config.trainings_per_gpu
    if per_gpu is None and total(nodes).get("GPU"):
        look = ray.remote(num_cpus=0, num_gpus=1)(tasks.gpu_memory_gib).remote()
        ready, _ = ray.wait([look], timeout=_LOOK_S)  # another job may hold the GPUs: then one each
        per_gpu = trainings_per_gpu(ray.get(look), config.train) if ready else 1
        ray.cancel(look)
    return of_task(nodes, per_gpu=per_gpu or 1)


def _require_trained(trainings: Sequence[tasks.Training]) -> None:
    for training in trainings:
        if training.result is None:
            raise UserError(
                f"there is no trained network in {training.folder}; give --pairs and --generators of the run "
                "that --networks names"
            )


def _convert(
    root: Path,
    trainings: Sequence[tasks.Training],
    scenes: Mapping[str, list[Scene]],
    faces: Mapping[str, str],
    console: Console,
) -> dict[str, list[str]]:
    """Make the missing scenes; return the layers of the sandbox in which each host decoded them."""
    convert = ray.remote(**of_task(worker_nodes()), max_retries=_RETRIES)(tasks.convert)
    running, planned = [], list[Path]()
    for scene in chain(*scenes.values()):
        marks, paths = faces[scene.uri], real_paths(root, scene)
        planned += paths.values()
        running.append(convert.remote(None, scene, marks, "a", paths))
        for training in (one for one in trainings if scene.identity in one.pair):
            a, b = training.pair
            to: Side = "b" if scene.identity == a else "a"
            source = b if to == "b" else a
            paths = swap_paths(root, scene, source, training.generator)
            planned += paths.values()
            running.append(convert.remote(training, scene, marks, to, paths))
    held = dict(one for one in _wait(running, "scenes", console) if one)
    require_made(planned, root=root)
    if remark := unconfined(held):
        say(console, remark)
    return held


def require_made(paths: Sequence[str | Path], *, root: Path) -> None:
    """Check that all files that tasks made are there.

    Raises:
        IncompleteError: If not, as where each machine has a disk of its own.
    """
    if missing := [path for path in paths if not Path(path).exists()]:
        raise IncompleteError(
            f"{len(missing)} of {len(paths)} files are not in {root}, such as {missing[0]}; run the same "
            "command again, with an --out that all machines of the cluster share"
        )


def _wait(running: list[ray.ObjectRef[Any]], title: str, console: Console) -> list[Any]:
    """Show how many tasks are done until all are; return their results in order."""
    work = Work(planned=len(running), unit=title)
    with progress(work, console, title=title) as show:
        for num_left in unfinished(running):
            work.done = len(running) - num_left
            show()
    return list(ray.get(running))


def _stop(running: list[ray.ObjectRef[Any]]) -> None:
    """Interrupt tasks, kill those that go on, and fetch their errors, which Ray logs otherwise."""
    for force in (False, True):
        for task in running:
            ray.cancel(task, force=force)
        if running:
            ended, running = ray.wait(running, num_returns=len(running), timeout=_STOP_S)
            for task in ended:
                with suppress(ray.exceptions.RayError):
                    ray.get(task)


def unfinished(running: list[ray.ObjectRef[Any]]) -> Iterator[int]:
    """Yield the number of tasks that still run, every few seconds, until none does. An error stops all."""
    while running:
        ready, running = ray.wait(running, timeout=_POLL_S)
        try:
            ray.get(ready)
        except ray.exceptions.RayTaskError as error:
            _stop(running)
            if isinstance(error.cause, UserError):  # without the traceback of the worker
                raise error.cause from None
            raise
        except ray.exceptions.RayError as error:
            reason = str(error).strip().partition("\n")[0]
            raise IncompleteError(
                f"a worker died in each of {1 + _RETRIES} attempts ({reason}); run the same command again"
            ) from error
        yield len(running)
