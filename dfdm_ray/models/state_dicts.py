"""Checks of state dicts, and the network that their keys and shapes describe."""

import re
from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from dfdm_ray.errors import UserError
from dfdm_ray.labels import Backbone
from dfdm_ray.models.backbones import BACKBONES, BOTTLENECKS, DEPTHS
from dfdm_ray.models.dma_sta import DmaStaConfig

_WRAPPERS = ("state_dict", "model")
_TRAINING = {"optimizer", "history"}
"""Entries of ``state.pt``, from which `dfdm-ray train` continues."""
# DataParallel and DistributedDataParallel; torch.compile.
_PREFIXES = ("module.", "_orig_mod.")
_IMAGENET_CLASSES = 1000
_NUM_NAMED = 3  # keys in a message
_BLOCK = re.compile(r"layer([1-4])\.(\d+)\.")


def as_state_dict(content: object, *, name: str) -> dict[str, Tensor]:
    """Return the state dict in ``content``, without wrappers (``state_dict``, ``model``) and key prefixes.

    Raises:
        UserError: If there is none, or it is that of a training that may go on.
    """
    if isinstance(content, Mapping) and content.keys() >= _TRAINING:
        raise UserError(
            f"{name} is the state from which `dfdm-ray train` continues, with the weights of its last epoch; "
            "give dma_sta.pt of the same folder, its best epoch"
        )
    if wrapper := wrapper_of(content):
        content = cast(Mapping[str, object], content)[wrapper]
    if not isinstance(content, Mapping) or not content:
        found = "an empty dict" if isinstance(content, Mapping) else f"a {type(content).__name__}"
        raise UserError(f"{name} contains {found}, expected a state dict (names and tensors)")
    for key, value in content.items():
        if not isinstance(key, str) or not _is_plain_tensor(value):
            where = repr(key) if isinstance(key, str) else f"a key of type {type(key).__name__}"
            raise UserError(
                f"{name} contains no state dict: {where} has a {type(value).__name__}, expected names and "
                "dense tensors of real numbers"
            )
    state = dict(content)
    for prefix in _PREFIXES:
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def wrapper_of(content: object) -> str | None:
    """Return the entry of ``content`` that contains the state dict, ``None`` if it is one itself."""
    if not isinstance(content, Mapping):
        return None
    return next((name for name in _WRAPPERS if isinstance(content.get(name), Mapping)), None)


def _is_plain_tensor(value: object) -> bool:
    if not isinstance(value, Tensor) or value.layout != torch.strided:
        return False
    return value.device.type == "cpu" and not value.is_quantized and not value.is_complex()


def infer_config(state: Mapping[str, Tensor], *, name: str) -> DmaStaConfig:
    """Return the configuration of the network of ``state``; :func:`check_state` checks all keys and shapes.

    Raises:
        UserError: If it is not a DMA-STA, for instance a torchvision ResNet trained on ImageNet.
    """
    spatial = any(".sa." in key for key in state)
    temporal = any(key.startswith("ta.") for key in state)
    backbone = _infer_backbone(state)
    num_classes = _infer_size(state, "fc.weight", axis=0)
    if backbone is None or num_classes is None:
        wanted = ("conv1.weight", "layer1.0.conv1.weight", "fc.weight")
        missing = [key for key in wanted if key not in state]
        lacks = (
            f"it lacks {_some(missing)}" if missing else "its blocks match no ResNet-10, 18, 34, 50 or 101"
        )
        raise UserError(f"{name} is not a DMA-STA checkpoint: {lacks}; it has {_some([*state])}")
    if num_classes == _IMAGENET_CLASSES and not (spatial or temporal):
        raise UserError(
            f"{name} contains ImageNet weights of a {backbone} (1000 classes, no 'sa' and 'ta' keys), not a "
            "DMA-STA checkpoint; training can start from this file, but scoring needs a trained checkpoint"
        )
    num_frames = _infer_size(state, "ta.fc.0.weight", axis=1) if temporal else DmaStaConfig().num_frames
    if num_frames is None:
        raise UserError(f"{name} is not a DMA-STA checkpoint: 'ta.fc.0.weight' is missing or not a matrix")
    try:
        return DmaStaConfig(
            backbone=backbone,
            num_frames=num_frames,
            num_classes=num_classes,
            spatial_attention=spatial,
            temporal_attention=temporal,
        )
    except ValueError as error:
        raise UserError(f"{name} is not a DMA-STA checkpoint: {error}") from error


def _infer_backbone(state: Mapping[str, Tensor]) -> Backbone | None:
    blocks = {(int(found[1]), int(found[2])) for key in state if (found := _BLOCK.match(key))}
    depths = tuple(sum(layer == wanted for layer, _ in blocks) for wanted in (1, 2, 3, 4))
    has_bottlenecks = "layer1.0.conv3.weight" in state
    for backbone in BACKBONES:
        if DEPTHS[backbone] == depths and (backbone in BOTTLENECKS) == has_bottlenecks:
            return backbone
    return None


def _infer_size(state: Mapping[str, Tensor], key: str, *, axis: int) -> int | None:
    return state[key].shape[axis] if key in state and state[key].ndim == 2 else None


def check_state(expected: Mapping[str, Tensor], state: Mapping[str, Tensor], *, name: str, of: str) -> None:
    """Check that ``state`` has the keys and shapes of ``expected`` and only finite numbers.

    ``num_batches_tracked`` may be missing: batch norm did not count batches before torch 0.4.1.

    Raises:
        UserError: If it does not fit; the message is one line with at most three keys of each kind.
    """
    missing = [key for key in expected if key not in state and not key.endswith(".num_batches_tracked")]
    unexpected = [key for key in state if key not in expected]
    if missing or unexpected:
        raise UserError(
            f"{name} is not {of}: missing keys: {_counted(missing)}, unexpected keys: {_counted(unexpected)}"
        )
    for key, value in state.items():
        if value.shape != expected[key].shape:
            raise UserError(
                f"{name} is not {of}: {key!r} has shape {tuple(value.shape)}, "
                f"expected {tuple(expected[key].shape)}"
            )
        if not bool(torch.isfinite(value.to(expected[key].dtype)).all()):
            raise UserError(
                f"{name} is unusable: {key!r} contains numbers that are not finite; its training diverged"
            )


def _some(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - _NUM_NAMED} more" if len(keys) > _NUM_NAMED else ""
    return ", ".join(repr(key) for key in keys[:_NUM_NAMED]) + more


def _counted(keys: Sequence[str]) -> str:
    return f"{len(keys)} ({_some(keys)})" if keys else "0"


def copy_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy the tensors of ``state``, which :func:`check_state` accepted, into ``model``."""
    own = model.state_dict()
    with torch.no_grad():
        for key, value in state.items():
            own[key].copy_(value)
