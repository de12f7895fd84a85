"""Reads the tar files that torch 0.1 wrote, without running anything that stands in them.

torchvision's first ImageNet weights (``resnet50-19c8e357.pth``, which the DMA-STA authors start from) are
such files, and ``torch.load(weights_only=True)`` refuses them. The format, as ``torch.serialization`` reads
it: a tar with three members that matter::

    storages   pickle(count), then for each: pickle((key, location, type)), int64 numel, the numbers;
               last, pickle([(view key, storage key, offset, numel), ...])
    tensors    pickle(count), then for each: pickle((key, storage key, type)), int32 ndim, 4 bytes of
               padding, int64 sizes (ndim), int64 strides (ndim), int64 offset
    pickle     the saved object; a tensor stands in it as a persistent id, its key
"""

import collections
import io
import pickle
import struct
import tarfile
from typing import Any

import torch
from torch import Tensor

_DTYPES = {
    "Double": torch.float64,
    "Float": torch.float32,
    "Half": torch.float16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
}
_STORAGE_TYPES = {f"{name}{kind}": dtype for name, dtype in _DTYPES.items() for kind in ("Storage", "Tensor")}


class _Parameter:
    """Stands in for torch 0.1's ``Parameter`` and ``Variable``: keeps the tensor, drops the rest."""

    def __init__(self, data: Any = None, *_: Any) -> None:
        self.data = data

    def __new__(cls, *_args: Any) -> "_Parameter":
        self = super().__new__(cls)
        self.data = None
        return self

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        # Both layouts of torch 0.1: (data, grad, hooks, requires_grad, volatile), or the data as
        # the constructor's argument and (requires_grad, volatile, hooks) here.
        if len(state) == 5:
            self.data = state[0]


class _Unpickler(pickle.Unpickler):
    """Knows dictionaries, parameters and the names of number types; refuses every other name."""

    def __init__(self, stream: io.BytesIO, tensors: dict[int, Tensor] | None = None) -> None:
        super().__init__(stream, encoding="latin1")
        self._tensors = tensors or {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) in {("torch.nn.parameter", "Parameter"), ("torch.autograd.variable", "Variable")}:
            return _Parameter
        if module in {"torch", "torch.cuda"} and name in _STORAGE_TYPES:
            return _STORAGE_TYPES[name]
        raise pickle.UnpicklingError(f"GLOBAL {module}.{name} is not a name of a state dict")

    def persistent_load(self, pid: Any) -> Tensor:
        return self._tensors[int(pid)]


def read_legacy_tar(content: bytes) -> object:
    """Return the object in a torch 0.1 tar; tensors are on the CPU, parameters are plain tensors.

    Raises:
        pickle.UnpicklingError: If the file names code; its text has ``GLOBAL`` and the name.
        Exception: Of many types if the file is damaged; the caller knows the file's name.
    """
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
        storages = _read_storages(_member(archive, "storages"))
        tensors = _read_tensors(_member(archive, "tensors"), storages)
        saved = _Unpickler(_member(archive, "pickle"), tensors).load()
    if isinstance(saved, dict):
        return {key: value.data if isinstance(value, _Parameter) else value for key, value in saved.items()}
    return saved


def _member(archive: tarfile.TarFile, name: str) -> io.BytesIO:
    stream = archive.extractfile(name)
    if stream is None:
        raise tarfile.TarError(f"{name} is not a file")
    return io.BytesIO(stream.read())


def _read_exactly(stream: io.BytesIO, num_bytes: int) -> bytes:
    content = stream.read(num_bytes) if num_bytes >= 0 else b""
    if len(content) != num_bytes:
        raise EOFError(f"{num_bytes} bytes wanted, {len(content)} are left")
    return content


def _read_int64s(stream: io.BytesIO, count: int) -> tuple[int, ...]:
    return struct.unpack(f"<{count}q", _read_exactly(stream, 8 * count))


def _read_storages(stream: io.BytesIO) -> dict[int, Tensor]:
    """Return each storage as a tensor of one dimension, by key."""
    storages: dict[int, Tensor] = {}
    for _ in range(_Unpickler(stream).load()):
        key, _location, dtype = _Unpickler(stream).load()
        (numel,) = _read_int64s(stream, 1)
        content = bytearray(_read_exactly(stream, numel * dtype.itemsize))
        storages[key] = torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
    for key, root, offset, numel in _Unpickler(stream).load():
        storages[key] = storages[root].narrow(0, offset, numel)
    return storages


def _read_tensors(stream: io.BytesIO, storages: dict[int, Tensor]) -> dict[int, Tensor]:
    tensors: dict[int, Tensor] = {}
    for _ in range(_Unpickler(stream).load()):
        key, storage_key, _type = _Unpickler(stream).load()
        ndim, _padding = struct.unpack("<ii", _read_exactly(stream, 8))
        size, stride = _read_int64s(stream, ndim), _read_int64s(stream, ndim)
        (offset,) = _read_int64s(stream, 1)
        storage = storages[storage_key]
        tensors[key] = storage.as_strided(size, stride, storage.storage_offset() + offset).clone()
    return tensors
