"""Reader and writer of weights files: ``torch.save`` in three formats, and safetensors. No code in them runs.

torchvision's first ImageNet weights (``resnet50-19c8e357.pth``, which the DMA-STA authors start from) are in
the tar format of torch 0.1, which ``torch.load(weights_only=True)`` refuses. ``torch.serialization`` defines
the format; three members of the tar matter::

    storages   pickle(count), then for each: pickle((key, location, type)), int64 numel, the numbers;
               last, pickle([(view key, storage key, offset, numel), ...])
    tensors    pickle(count), then for each: pickle((key, storage key, type)), int32 ndim, 4 bytes of
               padding, int64 sizes (ndim), int64 strides (ndim), int64 offset
    pickle     the saved object, in which the persistent id of a tensor is its key
"""

import collections
import io
import json
import pickle
import re
import struct
import tarfile
import zipfile
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from dfdm_ray.errors import UserError

_ZIP_MAGIC = b"PK\x03\x04"
_TAR_MAGIC_AT, _TAR_MAGIC = 257, b"ustar"
# torch.save before 1.6 starts with this number, pickled with protocol 2.
_STREAM_MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
_EXPECTED = "a checkpoint of dfdm-ray or a state dict saved with torch.save"
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
_LENGTH_BYTES = 8
"""Length of the header, at the start of a safetensors file."""
_METADATA, _OURS = "__metadata__", "dfdm-ray"
_MODEL = "model"


def read_weights_file(content: bytes, *, name: str) -> object:
    """Return the object in a file of safetensors or ``torch.save`` (zip, or the formats of torch < 1.6).

    Only tensors (on the CPU) and plain types are loaded (``weights_only``). ``torch.load`` ignores the
    checksums of a zip, so a flipped bit would silently change the model; here it is an error.

    Raises:
        UserError: If the file is no weights file, is damaged, or contains code; ``name`` is its name.
    """
    if content[_LENGTH_BYTES : _LENGTH_BYTES + 1] == b"{":
        return _from_safetensors(content, name=name)
    if not content:
        raise UserError(f"{name} is empty (0 bytes), expected {_EXPECTED}")
    if content.startswith(_ZIP_MAGIC):
        _check_zip(content, name=name)
    elif content[_TAR_MAGIC_AT:].startswith(_TAR_MAGIC):
        return _read(content, name=name, is_tar=True)
    elif not content.startswith(_STREAM_MAGIC[: len(content)]):
        if content.startswith(b"\x80"):
            raise UserError(f"{name} is a bare Python pickle, which may run code; expected {_EXPECTED}")
        raise UserError(f"{name} is not a torch file: it starts with {content[:8]!r}; expected {_EXPECTED}")
    return _read(content, name=name, is_tar=False)


def _check_zip(content: bytes, *, name: str) -> None:
    """Check that ``torch.save`` wrote the archive and that each record matches its checksum."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise UserError(
            f"{name} is cut short or damaged: its {len(content):,} bytes lack the end of a zip archive; "
            "copy it again"
        ) from error
    with archive:
        names = {record.filename.partition("/")[2] for record in archive.infolist()}
        if "constants.pkl" in names:
            raise UserError(f"{name} is a TorchScript program, which is code; expected {_EXPECTED}")
        if "data.pkl" not in names:
            raise UserError(f"{name} is a zip archive, but not one of torch.save; expected {_EXPECTED}")
        for record in archive.infolist():
            if record.CRC == 0:
                continue  # torch.serialization.set_crc32_options(False) writes 0: nothing to compare
            try:
                archive.read(record)
            except Exception as error:  # zipfile has no common error for damaged headers
                text = f"{name} is damaged: cannot read {record.filename!r} in it; copy it again"
                raise UserError(text) from error


def _read(content: bytes, *, name: str, is_tar: bool) -> object:
    try:
        if is_tar:
            return _read_tar(content)
        loaded: object = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # unpicklers raise any type on hostile bytes
        raise UserError(f"{name} {_complaint(error, num_bytes=len(content))}") from error
    return loaded


def _complaint(error: Exception, *, num_bytes: int) -> str:
    text = " ".join(str(error).split())
    # torch.load reports "GLOBAL a.b was not an allowed global" or "GLOBAL a.b whose module a is blocked".
    code = re.search(r"GLOBAL ([\w.]+)", text)
    if code is not None:
        return (
            f"names Python code ({code[1]}), and code in a checkpoint is never run; save the weights alone, "
            "with torch.save(model.state_dict(), file)"
        )
    if isinstance(error, EOFError) or re.search("unexpected (EOF|end)", text):
        return f"is cut short: it ends after {num_bytes:,} bytes; copy it again"
    return f"is damaged ({type(error).__name__} while reading its {num_bytes:,} bytes); copy it again"


class _Parameter:
    """Replacement for torch 0.1's ``Parameter`` and ``Variable`` that keeps the tensor alone."""

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
    """Unpickler of dictionaries, parameters and number types that refuses every other name."""

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


def _read_tar(content: bytes) -> object:
    """Return the object in a torch 0.1 tar; parameters become plain tensors."""
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


def to_safetensors(checkpoint: dict[str, object]) -> bytes:
    """Return a checkpoint (:mod:`dfdm_ray.models.checkpoint`) as safetensors."""
    tensors = checkpoint[_MODEL]
    assert isinstance(tensors, dict)
    rest = {name: value for name, value in checkpoint.items() if name != _MODEL}
    return safetensors.torch.save(tensors, metadata={_OURS: json.dumps(rest, sort_keys=True)})


def _from_safetensors(content: bytes, *, name: str) -> dict[str, object]:
    """Return the checkpoint in ``content``, or its tensors by name if there is nothing else."""
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load(content)
        length = int.from_bytes(content[:_LENGTH_BYTES], "little")
        header = json.loads(content[_LENGTH_BYTES : _LENGTH_BYTES + length])
        rest = header.get(_METADATA, {}).get(_OURS)
        ours = None if rest is None else dict(json.loads(rest))
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{name} is a damaged safetensors file: {error}") from error
    return {**tensors} if ours is None else {**ours, _MODEL: {**tensors}}
