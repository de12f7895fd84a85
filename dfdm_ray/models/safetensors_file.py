"""Checkpoints as safetensors: tensors, and all else as JSON under one name of the file's metadata."""

import json

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from dfdm_ray.errors import UserError

_LENGTH_BYTES = 8
_METADATA, _OURS = "__metadata__", "dfdm-ray"
_MODEL = "model"


def is_safetensors(content: bytes) -> bool:
    """Whether ``content`` begins like such a file: the header's length, then its JSON."""
    return content[_LENGTH_BYTES : _LENGTH_BYTES + 1] == b"{"


def to_safetensors(checkpoint: dict[str, object]) -> bytes:
    """Return a checkpoint of :mod:`dfdm_ray.models.checkpoint` as safetensors."""
    tensors = checkpoint[_MODEL]
    assert isinstance(tensors, dict)
    rest = {name: value for name, value in checkpoint.items() if name != _MODEL}
    return safetensors.torch.save(tensors, metadata={_OURS: json.dumps(rest, sort_keys=True)})


def from_safetensors(content: bytes, *, name: str) -> dict[str, object]:
    """Return the checkpoint in ``content``, or its tensors by name if they are all there is.

    Raises:
        UserError: If the file is damaged; ``name`` is what to call it.
    """
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load(content)
        length = int.from_bytes(content[:_LENGTH_BYTES], "little")
        header = json.loads(content[_LENGTH_BYTES : _LENGTH_BYTES + length])
        rest = header.get(_METADATA, {}).get(_OURS)
        ours = None if rest is None else dict(json.loads(rest))
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{name} is a damaged safetensors file: {error}") from error
    return {**tensors} if ours is None else {**ours, _MODEL: {**tensors}}
