"""Reads files of ``torch.save`` without running code in them, and says in one line what is wrong with one."""

import io
import pickle
import re
import zipfile
from typing import BinaryIO

import torch

from dfdm_ray.errors import UserError
from dfdm_ray.models.legacy_tar import read_legacy_tar

_ZIP_MAGIC = b"PK\x03\x04"
_TAR_MAGIC_AT, _TAR_MAGIC = 257, b"ustar"
# torch.save before 1.6 starts with this number, pickled with protocol 2.
_STREAM_MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
_EXPECTED = "a checkpoint of dfdm-ray or a state dict saved with torch.save"


def read_torch_file(source: bytes | BinaryIO, *, name: str) -> object:
    """Return the object in a ``torch.save`` file: zip, the stream of torch < 1.6, or the tar of torch 0.1.

    Only tensors and plain types are made (``weights_only``); all land on the CPU. ``torch.load`` does not
    look at a zip's checksums, so one flipped bit would be a silently different model; here it is an error.

    Args:
        source: The file's content, or the file opened for reading in binary mode.
        name: What to call the file in messages.

    Raises:
        UserError: If the file is not a torch file, is damaged, or would run code.
    """
    content = source if isinstance(source, bytes) else source.read()
    if not content:
        raise UserError(f"{name} is empty (0 bytes), expected {_EXPECTED}")
    if content.startswith(_ZIP_MAGIC):
        _check_zip(content, name=name)
    elif content[_TAR_MAGIC_AT:].startswith(_TAR_MAGIC):
        return _read(content, name=name, is_tar=True)
    elif not content.startswith(_STREAM_MAGIC[: len(content)]):
        if content.startswith(b"\x80"):
            raise UserError(f"{name} is a bare Python pickle, which may run code, expected {_EXPECTED}")
        raise UserError(f"{name} is not a torch file: it starts with {content[:8]!r}, expected {_EXPECTED}")
    return _read(content, name=name, is_tar=False)


def _check_zip(content: bytes, *, name: str) -> None:
    """Check that the archive is one of ``torch.save`` and that each record matches its checksum."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise UserError(
            f"{name} is cut short or damaged: its {len(content):,} bytes do not end as a zip archive does; "
            "copy it again"
        ) from error
    with archive:
        names = {record.filename.partition("/")[2] for record in archive.infolist()}
        if "constants.pkl" in names:
            raise UserError(f"{name} is a TorchScript program, which is code; expected {_EXPECTED}")
        if "data.pkl" not in names:
            raise UserError(f"{name} is a zip archive, but not one of torch.save; expected {_EXPECTED}")
        for record in archive.infolist():
            _check_record(archive, record, name=name)


def _check_record(archive: zipfile.ZipFile, record: zipfile.ZipInfo, *, name: str) -> None:
    if record.CRC == 0:
        return  # torch.serialization.set_crc32_options(False) writes 0: there is nothing to compare
    try:
        archive.read(record)
    except Exception as error:  # zipfile has no common error for damaged headers
        raise UserError(
            f"{name} is damaged: {record.filename!r} in it is unreadable; copy it again"
        ) from error


def _read(content: bytes, *, name: str, is_tar: bool) -> object:
    try:
        if is_tar:
            return read_legacy_tar(content)
        loaded: object = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # unpicklers raise any type on hostile bytes
        raise UserError(f"{name} {_complaint(error, num_bytes=len(content))}") from error
    return loaded


def _complaint(error: Exception, *, num_bytes: int) -> str:
    text = " ".join(str(error).split())
    # torch.load says "GLOBAL a.b was not an allowed global" or "GLOBAL a.b whose module a is blocked".
    code = re.search(r"GLOBAL ([\w.]+)", text)
    if code is not None:
        return (
            f"names Python code ({code[1]}), and code in a checkpoint is never run; save the weights alone, "
            "with torch.save(model.state_dict(), file)"
        )
    if isinstance(error, EOFError) or re.search("unexpected (EOF|end)", text):
        return f"is cut short: it ends after {num_bytes:,} bytes; copy it again"
    return f"is damaged ({type(error).__name__} while reading its {num_bytes:,} bytes); copy it again"
