"""Input of a training, checked before Ray starts, so that a mistake costs a second, and its output folder."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, get_args

import pyarrow as pa
import pyarrow.compute as pc

from dfdm_ray.clips.crops_dataset import prepared, read_index, read_settings
from dfdm_ray.config import Strategy
from dfdm_ray.engine.folder import RECORD, OutputFolder
from dfdm_ray.engine.record import read_record
from dfdm_ray.errors import UserError
from dfdm_ray.io import storage
from dfdm_ray.jobs.train.config import TrainConfig, TrainOptions
from dfdm_ray.jobs.train.data import Videos
from dfdm_ray.jobs.train.rank import (
    CHECKPOINT,
    HISTORY,
    STATE,
    TENSORBOARD,
    ReferenceVideos,
    TrainTask,
    start_model,
)
from dfdm_ray.labels import class_name, class_order, merged_classes
from dfdm_ray.manifest.networks import directions_of, networks_of, shared_with, traces
from dfdm_ray.models.dma_sta import DmaStaConfig
from dfdm_ray.models.preprocessing import FACE_SETTINGS, Preprocessing
from dfdm_ray.schemas import class_names, with_values

CROPS_SETTING = "crops."
"""Prefix of the names of the crops dataset's settings among the settings of the data."""
CALIBRATION = "calibration"
"""Split of the reference set."""
RAY_TRAIN = "ray_train"
"""Folder of Ray Train's own files."""


def check_task(config: TrainConfig) -> TrainTask:
    """Return the task of the ranks.

    Raises:
        UserError: If the dataset or the ImageNet weights cannot be used.
    """
    index, left_out = _usable(config)
    settings = read_settings(config.crops)
    classes = _classes(index, config.crops)
    stored = int(settings["num_frames"])
    frames = config.network.frames or stored
    if frames > stored:
        raise UserError(f"--network.frames is {frames}, but the clips of {config.crops} have {stored}")
    network = DmaStaConfig(
        backbone=config.network.backbone,
        num_frames=frames,
        num_classes=len(classes),
        spatial_attention=config.network.spatial_attention,
        temporal_attention=config.network.temporal_attention,
        per_frame_batch_norm=config.network.per_frame_batch_norm,
        high_pass=config.network.high_pass,
    )
    imagenet = config.network.imagenet
    task = TrainTask(
        config=config,
        train=_videos(index, "train", config.crops, classes),
        val=_videos(index, "val", config.crops, classes),
        reference=_reference(index, config.crops, classes),
        classes=classes,
        network=network,
        preprocessing=preprocessing_of(settings),
        imagenet=None if imagenet is None else storage.read_bytes(imagenet, what="ImageNet weights"),
        left_out=left_out,
        data_settings={
            **_digest(index),
            "frames": frames,
            "crf": sorted(config.crf),
            **({"classes": [*classes]} if config.classes or config.merge else {}),
            **{f"{CROPS_SETTING}{name}": value for name, value in settings.items()},
        },
    )
    if task.imagenet is not None:
        start_model(task)  # raises if the file does not fit
    return task


def preprocessing_of(settings: Mapping[str, Any]) -> Preprocessing:
    """Return the preprocessing that a model trained on crops with these settings passes to ``score``.

    Crops that were not cut from videos here, such as an imported tree, get the default frame plan.
    """
    planned = settings.get("strategy") in get_args(Strategy)
    plan = {"strategy": settings["strategy"], "runs": settings["runs_per_clip"]} if planned else {}
    faces: dict[str, Any] = {name: settings.get(name) for name in FACE_SETTINGS}
    return Preprocessing(
        crop_size=int(settings["crop_size"]),
        margin=float(settings["margin"]),
        align=settings.get("align", "box"),
        clips=int(settings["num_clips"]),
        **plan,
        **faces,
    )


def _usable(config: TrainConfig) -> tuple[pa.Table, str]:
    """Return the prepared videos of the classes at the selected qualities, and what is left out.

    What is left out is a list of generators with counts.
    """
    index = _merged(class_names(prepared(read_index(config.crops)), "generator"), config)
    if config.crf:
        index = index.filter(pc.is_in(index["crf"], pa.array(config.crf, pa.int32())))
    to_train = class_order({*_of_split(index, "train")["generator"].to_pylist()} - {None})
    if to_train and (absent := [name for name in map(class_name, config.classes) if name not in to_train]):
        listed = ", ".join(to_train)
        raise UserError(f"{config.crops} has no {absent[0]} in the split train; it has {listed}")
    there = Counter(index["generator"].to_pylist())
    wanted = {class_name(name) for name in config.classes} or {*there} - {None}
    counts = ((name or "videos without a generator", there[name]) for name in {*there} - wanted)
    left_out = ", ".join(f"{name} ({count:,})" for name, count in sorted(counts))
    index = index.filter(pc.is_in(index["generator"], pa.array(wanted, pa.string())))
    if not index.num_rows:
        of = f" at crf {', '.join(map(str, config.crf))}" if config.crf else ""
        raise UserError(
            f"{config.crops} has no crops of a known generator{of}; name the generators in the manifest, or "
            "give files the names of DFDM"
        )
    found = Counter(index["split"].to_pylist())
    for split in ("train", "val"):
        if not found[split]:
            splits = ", ".join(f"{count} {name or 'without a split'}" for name, count in found.items())
            raise UserError(
                f"{config.crops} has no videos of a known generator in the split {split} ({splits}). "
                "Training needs train and val: split with `dfdm-ray manifest` and preprocess, or move some "
                f"videos of an imported tree to a folder {split}/ and import it into a new --out"
            )
    return index, left_out


def _merged(index: pa.Table, config: TrainOptions) -> pa.Table:
    """Return ``index`` with the classes that ``--merge`` makes of its generators."""
    merged = merged_classes(config.merge)
    names = index["generator"].to_pylist()
    if absent := sorted({*merged} - {*names}):
        raise UserError(f"--merge names {absent[0]}, of which {config.crops} has no crops")
    return with_values(index, "generator", [merged.get(name, name) for name in names])


def _classes(index: pa.Table, crops: str) -> tuple[str, ...]:
    """Return the generators of the split train, in class order.

    Raises:
        UserError: If there are fewer than two, or if val has others.
    """
    in_split = {
        split: set(index.filter(pc.equal(index["split"], split))["generator"].to_pylist())
        for split in ("train", "val", CALIBRATION)
    }
    classes = class_order(in_split["train"])
    if len(classes) < 2:
        only = classes[0]
        raise UserError(f"{crops} has only {only} in the split train; training needs two generators")
    for split in ("val", CALIBRATION):
        if unseen := sorted(in_split[split] - in_split["train"]):
            raise UserError(f"{crops} has {', '.join(unseen)} in the split {split} but not in train")
    return classes


def _reference(index: pa.Table, root: str, classes: tuple[str, ...]) -> ReferenceVideos:
    """Return the videos of the split calibration, or of val if there are none."""
    split = CALIBRATION if CALIBRATION in index["split"].to_pylist() else "val"
    rows, trained = (_of_split(index, name) for name in (split, "train"))
    if split == CALIBRATION and len(there := {*rows["generator"].to_pylist()}) < 2:
        raise UserError(f"{root} has only {min(there)} in the split {split}; calibration needs two classes")
    trained_on = traces(trained)
    return ReferenceVideos(
        videos=_videos(index, split, root, classes),
        split=split,
        networks=tuple(networks_of(rows)),
        directions=tuple(directions_of(rows)),
        trained_on=trained_on,
        shared_with_training=shared_with(rows, trained_on),
    )


def _of_split(index: pa.Table, split: str) -> pa.Table:
    return index.filter(pc.equal(index["split"], split)).sort_by("video_id")


def _videos(index: pa.Table, split: str, root: str, classes: tuple[str, ...]) -> Videos:
    rows = _of_split(index, split)
    return Videos(
        root=root,
        files=tuple(rows["file"].to_pylist()),
        video_ids=tuple(rows["video_id"].to_pylist()),
        labels=tuple(classes.index(name) for name in rows["generator"].to_pylist()),
    )


def _digest(index: pa.Table) -> dict[str, Any]:
    """Return the number of videos and a digest that identifies them."""
    names = index.select(["video_id", "split", "generator", "fingerprint"]).sort_by("video_id").to_pylist()
    for name in names:
        if name["fingerprint"] is None:  # as in datasets of earlier versions
            del name["fingerprint"]
    return {"num_videos": len(names), "videos_sha256": hashlib.sha256(repr(names).encode()).hexdigest()}


def training_folder(config: TrainConfig, task: TrainTask) -> OutputFolder:
    """Return the output folder of the training."""
    owned = (STATE, HISTORY, CHECKPOINT, TENSORBOARD, RAY_TRAIN, "curves.png")
    return OutputFolder(config.out, job="train", settings=_settings(config, task), owned=owned)


def crops_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the crops dataset, which earlier versions did not store."""
    return {name: value for name, value in settings.items() if name.startswith(f"data.{CROPS_SETTING}")}


def _settings(config: TrainConfig, task: TrainTask) -> dict[str, Any]:
    """Return the settings on which the weights depend, flat; the number of workers is not among them."""
    nested = {"recipe": asdict(config.recipe), "network": asdict(task.network), "data": task.data_settings}
    flat = {f"{part}.{name}": value for part, values in nested.items() for name, value in values.items()}
    everything = {**flat, "seed": config.seed, "imagenet": _imagenet(config, task)}
    if task.network.spatial_attention or task.network.temporal_attention:
        everything["open_gates"] = config.network.open_gates
    return everything


def _imagenet(config: TrainConfig, task: TrainTask) -> str | None:
    """Return the SHA-256 of the ImageNet weights; in the folder of an earlier version, the path it stored."""
    record, path = storage.join(config.out, RECORD), config.network.imagenet
    earlier = read_record(record, lenient=True) if storage.exists(record) else {}
    if task.imagenet is None or earlier.get("settings", {}).get("imagenet") == path:
        return path
    return hashlib.sha256(task.imagenet).hexdigest()
