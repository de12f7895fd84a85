"""Checkpoints: ours, the DMA-STA authors' bare state dicts, and torchvision's ImageNet trunks.

Our format is one ``torch.save`` dict of plain types::

    {"format": "dfdm-ray/dma-sta", "version": 5, "config": {...DmaStaConfig...}, "classes": [K names],
     "preprocessing": {...Preprocessing...}, "note": "...", "trained_on": {...fingerprints...},
     "reference": {...ReferenceSet...} or None, "model": {key: tensor}}

A ``.safetensors`` file contains the same: the tensors, and the rest as JSON in its metadata.
Version 4 has no reference set, version 3 also no alignment of crops, version 2 also no settings of the face
detection, and version 1 also no choice of frames for clips and no high pass.
"""

import dataclasses
import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar

import torch
from torch import Tensor

from dfdm_ray.errors import UserError
from dfdm_ray.labels import GENERATORS
from dfdm_ray.models import state_dicts
from dfdm_ray.models.baselines import build_network
from dfdm_ray.models.dma_sta import ClipNetwork, DmaStaConfig
from dfdm_ray.models.preprocessing import FACE_SETTINGS, Preprocessing
from dfdm_ray.models.reference import ReferenceSet, from_plain
from dfdm_ray.models.weights_file import read_weights_file, to_safetensors

FORMAT = "dfdm-ray/dma-sta"
VERSION = 5
_FIRST_WITH_REFERENCE = 5
_ABSENT_IN_3: Mapping[str, Any] = {"align": "box"}
_ABSENT_IN_2: Mapping[str, Any] = {**_ABSENT_IN_3, **dict.fromkeys(FACE_SETTINGS)}
_ABSENT: Mapping[int, Mapping[str, Any]] = {
    1: {"strategy": "keyframe_runs", "runs": 2, "clips": 1, **_ABSENT_IN_2},
    2: _ABSENT_IN_2,
    3: _ABSENT_IN_3,
}
"""Values of the preprocessing that files of earlier versions do not contain."""

_Config = TypeVar("_Config")


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedModel:
    """A model and everything that is needed to use it."""

    model: ClipNetwork
    """On the CPU, in eval mode."""
    config: DmaStaConfig
    classes: tuple[str, ...]
    """Generator names in the order of the logits, ``K`` of them."""
    preprocessing: Preprocessing
    note: str
    """Note of its maker, or the assumptions made on reading."""
    trained_on: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Fingerprints of the networks and people of the training, see :mod:`dfdm_ray.manifest.networks`."""
    reference: ReferenceSet | None = None
    """Set on which verdicts rest; without one, every verdict is inconclusive."""
    is_bare: bool = False
    """Whether the file is a bare state dict, so that the note lists assumptions."""


def save_checkpoint(
    path_or_fileobj: str | os.PathLike[str] | IO[bytes],
    model: ClipNetwork,
    *,
    classes: Sequence[str],
    preprocessing: Preprocessing,
    note: str,
    trained_on: Mapping[str, Sequence[str]] | None = None,
    reference: ReferenceSet | None = None,
) -> None:
    """Write a checkpoint; equal models give equal bytes. A file is replaced atomically.

    The format is safetensors if the path ends in ``.safetensors``, else that of ``torch.save``.

    Raises:
        ValueError: If ``classes`` are not ``model.config.num_classes`` different names.
    """
    _check_classes(classes, model.config)
    content = _plain_content(model, classes, preprocessing, note)
    content["trained_on"] = {name: [*prints] for name, prints in (trained_on or {}).items()}
    content["reference"] = reference and reference.to_plain()
    if not isinstance(path_or_fileobj, str | os.PathLike):
        torch.save(content, path_or_fileobj)
        return
    path = Path(path_or_fileobj)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as stream:  # given a path, torch.save would write its name into the file
            if path.suffix == ".safetensors":
                stream.write(to_safetensors(content))
            else:
                torch.save(content, stream)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _plain_content(
    model: ClipNetwork, classes: Sequence[str], preprocessing: Preprocessing, note: str
) -> dict[str, object]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "config": dataclasses.asdict(model.config),
        "classes": [str(name) for name in classes],
        "preprocessing": {
            **dataclasses.asdict(preprocessing),
            "mean": list(preprocessing.mean),
            "std": list(preprocessing.std),
        },
        "note": note,
        "model": {
            key: value.detach().cpu().clone(memory_format=torch.contiguous_format)
            for key, value in model.state_dict().items()
        },
    }


def load_checkpoint(source: bytes, *, name: str) -> LoadedModel:
    """Read one of our checkpoints or a state dict of the authors' network; code in it never runs.

    A bare state dict may be an entry ``state_dict`` or ``model``, and its keys may begin with ``module.``.
    Its keys and shapes determine the backbone, frames, classes and attentions. Class names are
    :data:`dfdm_ray.labels.GENERATORS`, the preprocessing is the default. Without ``ta`` keys the number of
    frames is the published 10. ``name`` is the name of the file in messages.

    Raises:
        UserError: If the file is no such checkpoint; the message is one line.
    """
    content = read_weights_file(source, name=name)
    if isinstance(content, dict) and "format" in content:
        return _load_ours(content, name=name)
    return _load_authors(content, name=name)


def _load_ours(content: dict[Any, Any], *, name: str) -> LoadedModel:
    _check_envelope(content, name=name)
    old = content["version"] == 1
    values = {"high_pass": False, **content["config"]} if old else content["config"]
    config = _build(DmaStaConfig, values, field="config", name=name)
    numbers = {key: tuple(v) if isinstance(v, list) else v for key, v in content["preprocessing"].items()}
    given = {**_ABSENT.get(content["version"], {}), **numbers}
    preprocessing = _build(Preprocessing, given, field="preprocessing", name=name)
    plain = content["reference"] if content["version"] >= _FIRST_WITH_REFERENCE else None
    try:
        _check_classes(content["classes"], config)
        reference = None if plain is None else _reference(plain, content["classes"])
    except ValueError as error:
        raise UserError(f"{name} is a damaged checkpoint: {error}") from error
    return LoadedModel(
        model=_build_model(config, state_dicts.as_state_dict(content["model"], name=name), name=name),
        config=config,
        classes=tuple(content["classes"]),
        preprocessing=preprocessing,
        note=content["note"],
        trained_on=content.get("trained_on", {}),
        reference=reference,
    )


def _reference(plain: Any, classes: Sequence[str]) -> ReferenceSet:
    reference = from_plain(plain)
    if [*reference.classes] != [*classes] or reference.logits.shape[1:] != (len(classes),):
        raise ValueError(f"its reference set has the classes {_one_line(reference.classes)}")
    return reference


def _check_envelope(content: dict[Any, Any], *, name: str) -> None:
    if content["format"] != FORMAT:
        raise UserError(f"{name} has the format {_one_line(content['format'])}, expected {FORMAT!r}")
    version = content.get("version")
    if not isinstance(version, int) or version < 1:
        raise UserError(f"{name} has the version {_one_line(version)}, expected a number up to {VERSION}")
    if version > VERSION:
        raise UserError(f"{name} has version {version}, but this dfdm-ray reads up to {VERSION}: upgrade it")
    wanted: dict[str, Any] = {
        **{"config": dict, "classes": list, "preprocessing": dict, "note": str, "model": dict},
        **({"trained_on": dict, "reference": (dict, type(None))} if version >= _FIRST_WITH_REFERENCE else {}),
    }
    for key, kind in wanted.items():
        if key not in content or not isinstance(content[key], kind):
            raise UserError(
                f"{name} is a damaged checkpoint: {key!r} must be a {getattr(kind, '__name__', 'dict')}, "
                f"got {type(content.get(key)).__name__}"
            )


def _build(kind: type[_Config], values: dict[Any, Any], *, field: str, name: str) -> _Config:
    """Return ``kind`` with ``values``, which must contain every field: a default could hide damage."""
    wanted = list(inspect.signature(kind).parameters)
    if values.keys() != set(wanted):
        raise UserError(
            f"{name} is a damaged checkpoint: {field} must have {wanted}, it has {_one_line([*values])}"
        )
    try:
        return kind(**values)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{name} is a damaged checkpoint: {field}: {' '.join(str(error).split())}") from error


def _one_line(value: object) -> str:
    return " ".join(repr(value).split())


def _check_classes(classes: Sequence[object], config: DmaStaConfig) -> None:
    found = _one_line(list(classes))
    if len(classes) != config.num_classes:
        raise ValueError(f"{len(classes)} class names for a model of {config.num_classes} classes: {found}")
    if not all(isinstance(entry, str) and entry for entry in classes) or len(set(classes)) != len(classes):
        raise ValueError(f"class names must be different, non-empty strings, got {found}")


def _load_authors(content: object, *, name: str) -> LoadedModel:
    state = state_dicts.as_state_dict(content, name=name)
    config = state_dicts.infer_config(state, name=name)
    if config.num_classes != len(GENERATORS):
        raise UserError(
            f"{name} has {config.num_classes} classes and no names for them; a bare DMA-STA state dict must "
            f"have the {len(GENERATORS)} classes of DFDM ({', '.join(GENERATORS)})"
        )
    assumed = Preprocessing()
    wrapper = state_dicts.wrapper_of(content)
    note = (
        f"bare state dict{f' (entry {wrapper!r})' if wrapper else ''}; assumed: classes in the order "
        f"{', '.join(GENERATORS)}; mean and std of the DMA-STA code; crops of {assumed.crop_size} pixels, "
        f"margin {assumed.margin:g}; plan {assumed.strategy}, runs {assumed.runs}, clips {assumed.clips}"
        f"{'' if config.temporal_attention else f'; {config.num_frames} frames in a clip'}"
    )
    return LoadedModel(
        model=_build_model(config, state, name=name),
        config=config,
        classes=GENERATORS,
        preprocessing=assumed,
        note=note,
        is_bare=True,
    )


def _build_model(config: DmaStaConfig, state: Mapping[str, Tensor], *, name: str) -> ClipNetwork:
    with torch.device("meta"):  # keys and shapes take no memory, whatever sizes the file claims
        model = build_network(config)
    state_dicts.check_state(model.state_dict(), state, name=name, of=f"a network on {config.backbone}")
    # Batch counts that the file lacks stay 0, see check_state. `to_empty` would import sympy.
    zeros = {key: torch.zeros(value.shape, dtype=value.dtype) for key, value in model.state_dict().items()}
    model.load_state_dict(zeros, assign=True)
    state_dicts.copy_state(model, state)
    model.eval()
    return model


def random_model(config: DmaStaConfig, seed: int) -> ClipNetwork:
    """Return an untrained model that depends on the seed alone; the global random state does not change."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_network(config)


def load_imagenet_trunk(model: ClipNetwork, source: bytes, name: str) -> None:
    """Copy torchvision's ImageNet weights into the trunk of ``model``, all but ``fc``, ``sa`` and ``ta``.

    ``source`` may be any torchvision file of ``model.config.backbone``, including the tar of torch 0.1
    (``resnet50-19c8e357.pth``, the authors' choice).

    Raises:
        UserError: If the file is not an ImageNet file of this backbone; the model is then unchanged.
    """
    state = state_dicts.as_state_dict(read_weights_file(source, name=name), name=name)
    own = model.state_dict()
    shared = [key for key in own if not (key.startswith(("fc.", "ta.")) or ".sa." in key)]
    trunk = {key: value for key, value in state.items() if not key.startswith("fc.")}
    of = f"torchvision's {model.config.backbone} trained on ImageNet"
    state_dicts.check_state({key: own[key] for key in shared}, trunk, name=name, of=of)
    state_dicts.copy_state(model, trunk)
