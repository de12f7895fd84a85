import collections
import contextlib
import io
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dfdm_ray.errors import UserError
from dfdm_ray.models.weights_file import read_weights_file

STATE = {"weight": torch.arange(4000.0).reshape(40, 100), "count": torch.tensor(3)}


def saved(content: object, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


def saved_as_stream(content: object) -> bytes:
    return saved(content, _use_new_zipfile_serialization=False)


class MakesFolder:
    """A pickle of this makes a folder when it is loaded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


class OldParameter:
    """Pickles as ``torch.nn.Parameter`` did in torch 0.1: data, gradient, hooks, two flags."""

    def __init__(self, data: Tensor) -> None:
        self.data = data

    def __reduce__(self) -> tuple[type, tuple[()], tuple[Any, ...]]:
        return torch.nn.Parameter, (), (self.data, None, collections.OrderedDict(), True, False)


def saved_as_tar(content: object, tensors: list[Tensor]) -> bytes:
    """Write the format of torch 0.1; ``content`` may hold ``tensors``, each a view of its own storage."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: object) -> str | None:
            return next((str(100 + i) for i, tensor in enumerate(tensors) if obj is tensor), None)

    stream = io.BytesIO()
    Pickler(stream, protocol=2).dump(content)
    storages, rows = pickle.dumps(len(tensors), 2), pickle.dumps(len(tensors), 2)
    for i, tensor in enumerate(tensors):
        flat = torch.empty(0, dtype=tensor.dtype).set_(tensor.untyped_storage())
        kind = {torch.float32: torch.FloatStorage, torch.int64: torch.LongStorage}[tensor.dtype]
        storages += pickle.dumps((i, "cpu", kind), 2) + struct.pack("<q", len(flat)) + flat.numpy().tobytes()
        row = pickle.dumps((100 + i, i, kind), 2).replace(b"Storage\n", b"Tensor\n")
        numbers = (*tensor.shape, *tensor.stride(), tensor.storage_offset())
        rows += row + struct.pack("<ii", tensor.ndim, 0) + struct.pack(f"<{len(numbers)}q", *numbers)
    storages += pickle.dumps([], 2)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:", format=tarfile.PAX_FORMAT) as tar:
        for name, member in (("storages", storages), ("tensors", rows), ("pickle", stream.getvalue())):
            info = tarfile.TarInfo(name)
            info.size = len(member)
            tar.addfile(info, io.BytesIO(member))
    return archive.getvalue()


def complaint(content: bytes) -> str:
    with pytest.raises(UserError) as caught:
        read_weights_file(content, name="weights.pth")
    message = str(caught.value)
    assert message.startswith("weights.pth ")
    assert len(message.splitlines()) == 1
    return message


@pytest.mark.parametrize("save", [saved, saved_as_stream])
def test_a_saved_dict_is_read(save: Callable[[object], bytes]) -> None:
    content = save({**STATE, "note": "n", "sizes": [1, 2.5, None, True]})
    loaded = read_weights_file(content, name="a")
    assert isinstance(loaded, dict)
    assert torch.equal(loaded.pop("weight"), STATE["weight"])
    assert loaded == {"count": 3, "note": "n", "sizes": [1, 2.5, None, True]}


def test_the_tar_of_torch_01_is_read_as_torch_itself_reads_it(tmp_path: Path) -> None:
    view = torch.arange(24.0)[2:].reshape(2, 11).T  # an offset and strides that are not C order
    tensors = [torch.randn(3, 1, 2), torch.arange(5), view, torch.tensor(7.5), torch.empty(0)]
    names = ["conv1.weight", "count", "view", "scalar", "nothing"]
    content = collections.OrderedDict(zip(names, tensors, strict=True))
    content["conv1.weight"] = OldParameter(tensors[0])  # type: ignore[assignment]  # as torch 0.1 saved it
    path = tmp_path / "resnet.pth"
    path.write_bytes(saved_as_tar(content, tensors))
    # Only a file can be given to torch.load for this format, and only with weights_only=False.
    expected = torch.load(path, weights_only=False)
    loaded = read_weights_file(path.read_bytes(), name="resnet.pth")
    assert isinstance(loaded, dict)
    assert list(loaded) == list(expected) == names
    for name, tensor in zip(names, tensors, strict=True):
        assert torch.equal(loaded[name], tensor)
        assert torch.equal(loaded[name], expected[name])
        assert loaded[name].dtype == expected[name].dtype
        assert not loaded[name].requires_grad


@pytest.mark.parametrize(
    ("save", "name"),
    [
        (saved, "posix.mkdir"),
        (saved_as_stream, "posix.mkdir"),
        (lambda content: saved_as_tar(content, []), "posix.mkdir"),
        (pickle.dumps, "bare Python pickle"),
    ],
)
def test_code_in_a_file_is_refused_and_does_not_run(
    tmp_path: Path, save: Callable[[object], bytes], name: str
) -> None:
    folder = tmp_path / "made"
    content = save({"weight": MakesFolder(folder)})
    message = complaint(content)
    assert name in message
    assert "code" in message
    assert not folder.exists()
    pickle.loads(pickle.dumps(MakesFolder(folder)))
    assert folder.exists()  # the trap does work


def test_a_whole_module_is_refused_with_what_to_save_instead() -> None:
    message = complaint(saved(torch.nn.Linear(2, 2)))
    assert "torch.nn.modules.linear.Linear" in message
    assert "state_dict()" in message


ZIP, STREAM, TAR = saved(STATE), saved_as_stream(STATE), saved_as_tar(STATE, list(STATE.values()))


def zip_of(*names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty (0 bytes)"),
        (b"\x89PNG\r\n\x1a\n" + bytes(400), r"starts with b'\x89PNG\r\n\x1a\n'"),
        (b"version https://git-lfs.github.com/spec/v1\n", "not a torch file"),  # a Git LFS pointer
        (pickle.dumps({"a": 1}), "bare Python pickle"),
        (zip_of("a.txt"), "not one of torch.save"),
        (zip_of("m/data.pkl", "m/constants.pkl"), "TorchScript"),
        (zip_of("m/data.pkl"), "damaged"),
        (ZIP[:10], "cut short"),
        (ZIP[: len(ZIP) // 2], "cut short"),
        (ZIP[:-1], "cut short"),
        (STREAM[:5], "cut short"),
        (STREAM[:100], "cut short"),
        (STREAM[:-1], "cut short"),
        (TAR[:600], "cut short"),
        (TAR[: len(TAR) // 2], "cut short"),
        (TAR.replace(b"pickle", b"tickle"), "damaged"),
    ],
)
def test_a_file_that_is_no_whole_torch_file_is_one_clear_line(content: bytes, message: str) -> None:
    assert message in complaint(content)


def test_a_flipped_bit_in_the_weights_is_found_though_torch_load_reads_on() -> None:
    at = ZIP.index(struct.pack("<f", 2000.0))
    damaged = ZIP[:at] + bytes([ZIP[at] ^ 1]) + ZIP[at + 1 :]
    assert not torch.equal(torch.load(io.BytesIO(damaged))["weight"], STATE["weight"])
    assert "damaged: cannot read 'archive/data/0'" in complaint(damaged)


def test_a_file_saved_without_checksums_is_read() -> None:
    torch.serialization.set_crc32_options(False)
    try:
        content = saved(STATE)
    finally:
        torch.serialization.set_crc32_options(True)
    loaded = read_weights_file(content, name="a")
    assert isinstance(loaded, dict)
    assert torch.equal(loaded["weight"], STATE["weight"])


@pytest.mark.parametrize("content", [ZIP, STREAM, TAR], ids=["zip", "stream", "tar"])
def test_no_damage_anywhere_is_anything_but_a_user_error(content: bytes) -> None:
    for at in [*range(0, min(len(content), 2500), 41), *range(len(content) - 600, len(content), 37)]:
        damaged = content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :]
        with contextlib.suppress(UserError):  # a flip in the padding or a stream's numbers goes unseen
            read_weights_file(damaged, name="weights.pth")
