"""Checkpoints: ours, the DMA-STA authors' bare state dicts, and torchvision's ImageNet trunks.

Our format is one ``torch.save`` dict of plain types::

    {"format": "dfdm-ray/dma-sta", "version": 3, "config": {...DmaStaConfig...}, "classes": [K names],
     "preprocessing": {...Preprocessing...}, "note": "...", "model": {key: tensor}}

A file called ``.safetensors`` holds the same: the tensors, and the rest as JSON in its metadata.
Version 2 did not tell how faces were found; version 1 neither which frames of a video make its clips, and
it knew no high pass.
"""

import dataclasses
import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, Literal, TypeVar

import torch
from torch import Tensor

from dfdm_ray.errors import UserError
from dfdm_ray.labels import GENERATORS
from dfdm_ray.models import state_dicts
from dfdm_ray.models.dma_sta import DmaSta, DmaStaConfig
from dfdm_ray.models.preprocessing import FACE_SETTINGS, Preprocessing
from dfdm_ray.models.safetensors_file import from_safetensors, is_safetensors, to_safetensors
from dfdm_ray.models.torch_file import read_torch_file

FORMAT = "dfdm-ray/dma-sta"
VERSION = 3
_UNTOLD_IN_2: Mapping[str, Any] = dict.fromkeys(FACE_SETTINGS)
_UNTOLD: Mapping[int, Mapping[str, Any]] = {
    1: {"strategy": "keyframe_runs", "runs": 2, "clips": 1, **_UNTOLD_IN_2},
    2: _UNTOLD_IN_2,
}
"""What the preprocessing of earlier versions left out."""

_Config = TypeVar("_Config")


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedModel:
    """A model and all it takes to use it."""

    model: DmaSta
    """On the CPU, in eval mode."""
    config: DmaStaConfig
    classes: tuple[str, ...]
    """Generator names in the order of the logits, ``K`` of them."""
    preprocessing: Preprocessing
    origin: Literal["dfdm-ray", "authors"]
    """Whose format the file had."""
    note: str
    """What its maker wrote about it, or what had to be assumed."""


def save_checkpoint(
    path_or_fileobj: str | os.PathLike[str] | IO[bytes],
    model: DmaSta,
    *,
    classes: Sequence[str],
    preprocessing: Preprocessing,
    note: str,
) -> None:
    """Write a checkpoint; equal models give equal bytes. A path is replaced whole or not at all.

    A path that ends in ``.safetensors`` gets that format, anything else that of ``torch.save``.

    Raises:
        ValueError: If ``classes`` are not ``model.config.num_classes`` different names.
    """
    _check_classes(classes, model.config)
    content = _plain_content(model, classes, preprocessing, note)
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
    model: DmaSta, classes: Sequence[str], preprocessing: Preprocessing, note: str
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


def load_checkpoint(source: bytes | BinaryIO, *, name: str) -> LoadedModel:
    """Read one of our checkpoints or a state dict of the authors' network; code in it is never run.

    Files of ``torch.save`` and of safetensors are told apart by their content.

    A bare state dict may stand under ``state_dict`` or ``model`` and its keys may begin with ``module.``.
    Backbone, frames, classes and attentions then come from its keys and shapes, the classes' names from
    :data:`dfdm_ray.labels.GENERATORS` and the preprocessing from :class:`Preprocessing`. Without ``ta``
    keys nothing tells the number of frames: it is the published 10.

    Args:
        source: The file's content, or the file opened for reading in binary mode.
        name: What to call the file in messages.

    Raises:
        UserError: If the file is no such checkpoint; one line says what is wrong.
    """
    raw = source if isinstance(source, bytes) else source.read()
    content = from_safetensors(raw, name=name) if is_safetensors(raw) else read_torch_file(raw, name=name)
    if isinstance(content, dict) and "format" in content:
        return _load_ours(content, name=name)
    return _load_authors(content, name=name)


def _load_ours(content: dict[Any, Any], *, name: str) -> LoadedModel:
    _check_envelope(content, name=name)
    old = content["version"] == 1
    values = {"high_pass": False, **content["config"]} if old else content["config"]
    config = _build(DmaStaConfig, values, field="config", name=name)
    numbers = {key: tuple(v) if isinstance(v, list) else v for key, v in content["preprocessing"].items()}
    told = {**_UNTOLD.get(content["version"], {}), **numbers}
    preprocessing = _build(Preprocessing, told, field="preprocessing", name=name)
    try:
        _check_classes(content["classes"], config)
    except ValueError as error:
        raise UserError(f"{name} is a damaged checkpoint: {error}") from error
    return LoadedModel(
        model=_build_model(config, state_dicts.as_state_dict(content["model"], name=name), name=name),
        config=config,
        classes=tuple(content["classes"]),
        preprocessing=preprocessing,
        origin="dfdm-ray",
        note=content["note"],
    )


def _check_envelope(content: dict[Any, Any], *, name: str) -> None:
    if content["format"] != FORMAT:
        raise UserError(f"{name} has the format {_one_line(content['format'])}, expected {FORMAT!r}")
    version = content.get("version")
    if not isinstance(version, int) or version < 1:
        raise UserError(f"{name} has the version {_one_line(version)}, expected a number up to {VERSION}")
    if version > VERSION:
        raise UserError(f"{name} has version {version}, but this dfdm-ray reads up to {VERSION}: upgrade it")
    wanted = {"config": dict, "classes": list, "preprocessing": dict, "note": str, "model": dict}
    for field, kind in wanted.items():
        if not isinstance(content.get(field), kind):
            raise UserError(
                f"{name} is a damaged checkpoint: {field!r} must be a {kind.__name__}, "
                f"got {type(content.get(field)).__name__}"
            )


def _build(kind: type[_Config], values: dict[Any, Any], *, field: str, name: str) -> _Config:
    """Make the dataclass ``kind`` from all of its fields; a default must not fill what a file lost."""
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
            f"{name} tells {config.num_classes} classes apart and has no names for them; a bare DMA-STA "
            f"state dict must have the {len(GENERATORS)} of DFDM ({', '.join(GENERATORS)})"
        )
    preprocessing = Preprocessing()
    note = (
        "bare state dict: class names are DFDM's, mean and std are those of the DMA-STA code, "
        f"crop size {preprocessing.crop_size} and margin {preprocessing.margin} are assumed"
    )
    return LoadedModel(
        model=_build_model(config, state, name=name),
        config=config,
        classes=GENERATORS,
        preprocessing=preprocessing,
        origin="authors",
        note=note,
    )


def _build_model(config: DmaStaConfig, state: Mapping[str, Tensor], *, name: str) -> DmaSta:
    with torch.device("meta"):  # keys and shapes without memory, whatever sizes the file claims
        model = DmaSta(config)
    state_dicts.check_state(model.state_dict(), state, name=name, of=f"a DMA-STA on {config.backbone}")
    # Zeros stay where the file lacks a count of batches, see check_state. `to_empty` would import sympy.
    zeros = {key: torch.zeros(value.shape, dtype=value.dtype) for key, value in model.state_dict().items()}
    model.load_state_dict(zeros, assign=True)
    state_dicts.copy_state(model, state)
    model.eval()
    return model


def random_model(config: DmaStaConfig, seed: int) -> DmaSta:
    """Return an untrained model, the same for the same seed; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return DmaSta(config)


def load_imagenet_trunk(model: DmaSta, source: bytes | BinaryIO, name: str) -> None:
    """Copy torchvision's ImageNet weights into the trunk; ``fc``, ``sa`` and ``ta`` stay as they are.

    Any torchvision file of ``model.config.backbone`` will do, also the tar that torch 0.1 wrote
    (``resnet50-19c8e357.pth``, the authors' choice).

    Args:
        model: Changed in place.
        source: The file's content, or the file opened for reading in binary mode.
        name: What to call the file in messages.

    Raises:
        UserError: If the file is not an ImageNet file of this backbone; the model is then unchanged.
    """
    state = state_dicts.as_state_dict(read_torch_file(source, name=name), name=name)
    expected = {key: value for key, value in model.state_dict().items() if state_dicts.is_trunk_key(key)}
    trunk = {key: value for key, value in state.items() if not key.startswith("fc.")}
    of = f"torchvision's {model.config.backbone} trained on ImageNet"
    state_dicts.check_state(expected, trunk, name=name, of=of)
    state_dicts.copy_state(model, trunk)
