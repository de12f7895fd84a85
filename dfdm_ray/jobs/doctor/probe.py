"""Report facts about the machine that this runs on.

The module is sent to nodes by value, so that it works where this package is missing or old. At import it
therefore needs the standard library alone, and it returns plain dictionaries. Its annotations stay strings,
because a ``TypedDict`` cannot be sent by value.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from threading import Thread
from typing import Any, Literal, TypedDict, TypeVar

T = TypeVar("T")

PACKAGES = ("ray", "torch", "pyarrow", "av", "onnxruntime", "opencv", "numpy")  # versions are compared
_DISTRIBUTIONS = {"opencv": ("opencv-python-headless", "opencv-python", "opencv-contrib-python-headless")}
MODULES = (
    *("torch", "pyarrow", "av", "onnxruntime", "cv2", "numpy"),
    *("dfdm_ray.clips.stage", "dfdm_ray.clips.sandbox", "dfdm_ray.jobs.score.attribute_clips"),
)
"""Modules that workers import."""
_STORAGE_SHARE, _IMPORTS_SHARE = 0.4, 0.5  # of the time limit
_SMI_S = 10.0  # for nvidia-smi
_FULL_FRACTION = "RAY_local_fs_capacity_threshold"  # Ray reads it when it starts; its default is 0.95
_DEEPEST = 6  # levels of folders that are searched for a file to read

# Runs in its own process, because a library may kill its process. Each line contains all facts so far.
_IMPORT_ALL = """
import importlib, json, sys, warnings
facts = {"import_errors": {}, "gpus": None, "gpu_error": "", "cuda_build": None, "sandbox": {}}
def report(current):
    print("\\nfacts", json.dumps([current, facts]), flush=True)
for name in sys.argv[1:]:
    report(name)
    try:
        importlib.import_module(name)
    except BaseException as error:
        facts["import_errors"][name] = f"{type(error).__name__}: {error}"
if "dfdm_ray.clips.sandbox" in sys.modules:
    facts["sandbox"] = sys.modules["dfdm_ray.clips.sandbox"].found()
if (torch := sys.modules.get("torch")) is not None:
    report("torch")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
    facts |= {"gpus": 0, "cuda_build": torch.version.cuda}
    facts["gpu_error"] = "" if usable else " ".join(str(one.message) for one in caught)
    for index in range(torch.cuda.device_count() if usable else 0):
        try:
            torch.ones(1, device=f"cuda:{index}").add(1).item()
        except torch.cuda.OutOfMemoryError:
            pass  # in use by others
        except Exception as error:
            facts["gpu_error"] = f"cuda:{index}: {error}"
            continue
        facts["gpus"] += 1
report(None)
"""


class Stored(TypedDict, total=False):
    """One URI as one machine sees it."""

    uri: str
    use: Literal["reads", "writes"]
    error: str  # if present, the fields below are absent
    content: str  # description of what is read
    num_names: int | None  # in a folder that is read; None for a file
    names_sha256: str
    shared: bool  # whether a folder to write to contains the driver's mark; absent if there is none


class Imports(TypedDict):
    """Report of a process that imported the modules of workers."""

    import_errors: dict[str, str]
    gpus: int | None  # that torch computes on; None if torch was not imported
    gpu_error: str
    cuda_build: str | None  # CUDA version that torch was built for
    sandbox: dict[str, str]  # reason why a layer does not hold, "" if it does; empty if not looked at


class Facts(Imports):
    """Report of one machine."""

    versions: dict[str, str | None]
    package: str | None  # version of dfdm-ray; None if it cannot be imported
    code: str | None  # SHA-256 of its modules
    gpu_driver: str | None
    auth_mode: str  # "token" or "disabled", as Ray was started
    shm_bytes: int | None  # size of /dev/shm; None if there is none
    disks: dict[str, tuple[int, int]]  # total and free bytes of the folders that fill up
    full_fraction: float  # share of a disk in use from which on Ray makes no objects there
    storage: list[Stored]


def look(
    *,
    timeout_s: float,
    session: str | None = None,
    modules: Sequence[str] = MODULES,
    reads: Sequence[str] = (),
    writes: Mapping[str, str | None] | None = None,
) -> Facts:
    """Return the facts about this machine.

    Args:
        session: Folder of Ray's session, which contains logs and spilled objects.
        modules: Modules to import, in a separate process.
        writes: Folders and prefixes to write to, with the name of the driver's mark in each, if there is one.
    """
    try:
        package: Any = importlib.import_module("dfdm_ray")
    except ImportError:
        package = None
    wanted = [name for name in modules if package or not name.startswith("dfdm_ray")]
    folders = [folder for folder in (session, tempfile.gettempdir()) if folder and os.path.isdir(folder)]
    usages = {folder: shutil.disk_usage(folder) for folder in folders}
    return {
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "package": getattr(package, "__version__", None),
        "code": _sha256(Path(package.__file__).parent) if package else None,
        "auth_mode": os.environ.get("RAY_AUTH_MODE", "disabled").lower(),
        "shm_bytes": shutil.disk_usage("/dev/shm").total if os.path.isdir("/dev/shm") else None,
        "disks": {folder: (usage.total, usage.free) for folder, usage in usages.items()},
        "full_fraction": float(os.environ.get(_FULL_FRACTION, "0.95")),
        "gpu_driver": _gpu_driver(),
        "storage": look_at_storage(reads, writes or {}, seconds=timeout_s * _STORAGE_SHARE),
        **_import_all(wanted, timeout_s * _IMPORTS_SHARE),
    }


def begin(call: Callable[..., T], *arguments: Any) -> futures.Future[T]:
    """Start ``call`` in a thread that does not keep the process alive when it hangs."""
    answer: futures.Future[T] = futures.Future()

    def run() -> None:
        try:
            answer.set_result(call(*arguments))
        except Exception as error:  # noqa: BLE001  # raised by result()
            answer.set_exception(error)

    Thread(target=run, daemon=True).start()
    return answer


def within(seconds: float, call: Callable[..., T], *arguments: Any) -> T:
    """Return ``call(*arguments)``, or raise ``TimeoutError``.

    Ray's time limits cannot replace it, because the driver itself must read and write its storage.
    """
    answer = begin(call, *arguments)
    if not futures.wait([answer], timeout=seconds).done:
        raise TimeoutError(f"no answer within {seconds:.0f} s")
    return answer.result()


def _sha256(root: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def _version(name: str) -> str | None:
    for distribution in _DISTRIBUTIONS.get(name, (name,)):
        with suppress(metadata.PackageNotFoundError):
            return metadata.version(distribution)
    return None


def _gpu_driver() -> str | None:
    """Return the version of the NVIDIA driver, ``None`` if there is none."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    with suppress(OSError, subprocess.SubprocessError):
        output = subprocess.check_output(command, stderr=subprocess.DEVNULL, text=True, timeout=_SMI_S)
        return " ".join(sorted(set(output.split()))) or None
    return None


def _import_all(modules: Sequence[str], seconds: float) -> Imports:
    """Import ``modules`` and compute on the GPUs."""
    command = [sys.executable, "-c", _IMPORT_ALL, *modules]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, timeout=seconds, check=False)
        output, end = done.stdout, f"the process died with {done.returncode}"
    except subprocess.TimeoutExpired as late:
        output, end = late.stdout or b"", f"not done after {seconds:.0f} s"
    facts: Imports = {"import_errors": {}, "gpus": None, "gpu_error": "", "cuda_build": None, "sandbox": {}}
    current = "python"
    for line in output.decode(errors="replace").splitlines():
        if line.startswith("facts "):  # other lines are output of libraries
            current, facts = json.loads(line.removeprefix("facts "))
    if current:
        facts["import_errors"][current] = end
    return facts


def look_at_storage(
    reads: Sequence[str], writes: Mapping[str, str | None], *, seconds: float
) -> list[Stored]:
    """Read and write storage as jobs do; a URI without answer after ``seconds`` for all URIs has an error.

    Nothing stays there, except the empty folder that ``pyarrow`` leaves when it deletes the last object.
    """
    until = time.monotonic() + seconds

    def seen(use: Literal["reads", "writes"], uri: str, call: Callable[..., Stored], *more: Any) -> Stored:
        try:
            facts = within(max(1.0, until - time.monotonic()), call, uri, *more)
        except Exception as error:  # noqa: BLE001  # any kind: the node's code may not be the driver's
            facts = {"error": reason(error)}
        return {**facts, "uri": uri, "use": use}

    try:
        importlib.import_module("dfdm_ray.io.storage")
    except ImportError:
        return []  # the package or a library is missing, which other facts show
    reading = [seen("reads", uri, _read) for uri in reads]
    return reading + [seen("writes", uri, _write, mark) for uri, mark in writes.items()]


def reason(error: BaseException) -> str:
    """Return the message of ``error`` in one line, without the path of a trial file."""
    return " ".join(str(getattr(error, "strerror", None) or error).split())


def _write(uri: str, mark: str | None) -> Stored:
    from dfdm_ray.io import storage

    seen: Stored = {} if mark is None else {"shared": storage.exists(storage.join(uri, mark))}
    with marked(uri, f".dfdm-ray-doctor-{uuid.uuid4().hex}"):
        return seen


@contextmanager
def marked(uri: str, name: str) -> Iterator[None]:
    """Keep a small file called ``name`` in the folder ``uri`` while the block runs."""
    from dfdm_ray.io import storage

    file, missing = storage.join(uri, name), []
    if not storage.is_remote(uri):
        folder = Path(os.path.abspath(storage.local_path(uri)))
        missing = [one for one in (folder, *folder.parents) if not os.path.lexists(one)]
    try:
        storage.write_atomic(file, name.encode())
        try:
            yield
        finally:
            storage.remove_file(file)
    finally:
        for one in missing:
            with suppress(OSError):  # it contains the file of another node, which removes the folder
                one.rmdir()


def _read(uri: str) -> Stored:
    import pyarrow.fs as pafs

    from dfdm_ray.io import storage

    filesystem, path = storage.resolve(uri)
    info = filesystem.get_file_info(path)
    if info.type == pafs.FileType.NotFound:
        raise FileNotFoundError("not there")
    is_folder = info.type == pafs.FileType.Directory
    first = inside = filesystem.get_file_info(pafs.FileSelector(path)) if is_folder else [info]
    for _ in range(_DEEPEST):
        files = [one.path for one in inside if one is info or (one.is_file and one.size)]
        folders = [one.path for one in inside if one.type == pafs.FileType.Directory]
        if files:
            with filesystem.open_input_file(files[0]) as file:
                file.read(1)
        if files or not folders:
            break
        inside = filesystem.get_file_info(pafs.FileSelector(folders[0]))
    if not is_folder:
        return {"content": f"a file of {info.size or 0:,} bytes", "num_names": None, "names_sha256": ""}
    names = sorted(one.base_name for one in first)
    digest = hashlib.sha256("\n".join(names).encode("utf-8", "surrogateescape")).hexdigest()
    entries = "1 entry" if len(names) == 1 else f"{len(names):,} entries"
    content = f"a folder with {entries}" if names else "an empty folder"
    return {"content": content, "num_names": len(names), "names_sha256": digest}
