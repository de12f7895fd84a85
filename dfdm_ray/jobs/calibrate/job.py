"""Fit the verdicts of a checkpoint on labelled videos.

::

    checkpoint + predictions with features (+ manifest) -> temperature, p-values, unknown score, error rates
        -> the same network with this reference set
"""

import hashlib
import io
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from dfdm_ray.errors import UserError
from dfdm_ray.io import storage
from dfdm_ray.io.terminal import say
from dfdm_ray.jobs.calibrate.config import CalibrateConfig
from dfdm_ray.manifest.networks import directions_of, networks_of, shared_with
from dfdm_ray.manifest.read import load_manifest
from dfdm_ray.models.checkpoint import LoadedModel, load_checkpoint, save_checkpoint
from dfdm_ray.models.reference import ReferenceSet, fit_reference, remarks_on
from dfdm_ray.schemas import PREDICTIONS, PREDICTIONS_FOLDER, SCORED, with_values


def calibrate(config: CalibrateConfig, console: Console) -> ReferenceSet:
    """Write the checkpoint with the new reference set, and print what it supports.

    Raises:
        UserError: If an input is wrong, its videos do not suffice, or ``config.out`` exists.
    """
    if storage.exists(config.out) and not config.overwrite:
        raise UserError(f"{config.out} exists; give --overwrite to replace it, or another --out")
    content = storage.read_bytes(config.checkpoint, what="checkpoint")
    loaded = load_checkpoint(content, name=config.checkpoint)
    rows = _labelled(config, loaded, hashlib.sha256(content).hexdigest())
    reference = fit_reference(
        name=config.name or config.predictions,
        classes=loaded.classes,
        features=np.array(rows["features"].to_pylist()),
        logits=np.array(rows["logits"].to_pylist()),
        labels=[loaded.classes.index(name) for name in rows["true_generator"].to_pylist()],
        networks=networks_of(with_values(rows, "generator", rows["true_generator"].to_pylist())),
        directions=directions_of(rows),
        video_ids=rows["video_id"].to_pylist(),
        kind=config.unknown,
        shared_with_training=shared_with(rows, loaded.trained_on),
    )
    _write(config.out, loaded, reference)
    show_reference(reference, console)
    say(console, f"checkpoint: {config.out}")
    return reference


def _labelled(config: CalibrateConfig, loaded: LoadedModel, sha256: str) -> pa.Table:
    """Return the scored rows whose generator is a class."""
    record: dict[str, Any] = json.loads(
        storage.read_bytes(storage.join(config.predictions, "run.json"), what="run record")
    )
    if record.get("settings", {}).get("checkpoint_sha256") != sha256:
        raise UserError(f"{config.predictions} was scored with another checkpoint than {config.checkpoint}")
    rows = storage.read_parts(storage.join(config.predictions, PREDICTIONS_FOLDER), PREDICTIONS)
    rows = rows.filter(pc.equal(rows["status"], SCORED))
    if config.manifest is not None:
        manifest = load_manifest(config.manifest)
        listed = manifest.take(pc.index_in(rows["video_id"], value_set=manifest["video_id"]))
        rows = with_values(rows, "true_generator", listed["generator"].to_pylist())
        rows = with_values(rows, "split", listed["split"].to_pylist())
    if config.split is not None:
        rows = rows.filter(pc.equal(rows["split"], config.split))
    rows = rows.filter(pc.is_in(rows["true_generator"], pa.array(loaded.classes)))
    if not rows.num_rows:
        of = f" in the split {config.split}" if config.split else ""
        names = ", ".join(loaded.classes)
        raise UserError(f"{config.predictions} has no scored video of a known class{of}; classes: {names}")
    if not all(rows["features"].to_pylist()):
        raise UserError(f"{config.predictions} has no features; score the videos with --features")
    return rows


def _write(uri: str, loaded: LoadedModel, reference: ReferenceSet) -> None:
    parts: dict[str, Any] = {
        **{name: getattr(loaded, name) for name in ("classes", "preprocessing", "note", "trained_on")},
        "reference": reference,
    }
    if not storage.is_remote(uri):
        save_checkpoint(storage.local_path(uri), loaded.model, **parts)
        return
    buffer = io.BytesIO()
    save_checkpoint(buffer, loaded.model, **parts)
    storage.write_atomic(uri, buffer.getvalue())


def show_reference(reference: ReferenceSet, console: Console) -> None:
    """Print the sizes of the set, its error rates, and what it cannot support."""
    facts = reference.facts
    table = Table(title="Reference set", box=SIMPLE_HEAD)
    for heading in ("class", "videos", "networks", "largest log10 LR"):
        table.add_column(heading, justify="left" if heading == "class" else "right")
    for label, name in enumerate(reference.classes):
        numbers = (str(facts["num_videos"][name]), str(facts["num_networks"][name]))
        table.add_row(name, *numbers, f"{reference.log10_lr_bound(label):.1f}")
    console.print(table)
    say(console, f"accuracy {facts['error_rates']['accuracy']:.1%}; temperature {reference.temperature:.2f}")
    if areas := facts.get("outliers_auroc"):
        listed = ", ".join(f"{kind} {areas[kind]:.2f}" for kind in sorted(areas, key=lambda one: -areas[one]))
        say(console, f"AUROC on outliers made of the real videos: {listed}; in use: {reference.kind}")
    verdicts = Table(title="Verdicts on the set, each network against the others", box=SIMPLE_HEAD)
    verdicts.add_column("truth and verdict")
    verdicts.add_column("videos", justify="right")
    for what, number in facts["error_rates"]["verdicts"].items():
        verdicts.add_row(what, str(number))
    console.print(verdicts)
    for remark in remarks_on(reference.classes, facts["num_videos"], facts["shared_with_training"]):
        say(console, remark, "yellow")
