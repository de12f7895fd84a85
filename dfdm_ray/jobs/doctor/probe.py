"""Looks at the machine it runs on.

Sent to nodes by value, so that it works where this package is missing or old. It therefore imports only the
standard library, and what it returns is made of plain types; :mod:`dfdm_ray.jobs.doctor.facts` names them.
"""

import hashlib
import importlib
import json
import os
import platform
import queue
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")

PACKAGES = ("ray", "torch", "pyarrow", "av", "onnxruntime", "opencv", "numpy")
"""Whose versions are told, besides Python's and this package's."""
_DISTRIBUTIONS = {"opencv": ("opencv-python-headless", "opencv-python", "opencv-contrib-python-headless")}
MODULES = (
    *("torch", "pyarrow", "av", "onnxruntime", "cv2", "numpy"),
    *("dfdm_ray.clips.prepare_clips", "dfdm_ray.jobs.score.attribute_clips"),
)
"""What workers import."""
_STORAGE_SHARE, _IMPORTS_SHARE = 0.4, 0.5
"""Of the time that a node has to answer."""
_SMI_S = 10.0

# Run in a process of its own: a library that kills its process is a finding too.
_IMPORT_ALL = """
import importlib, json, sys, warnings
def tell(**facts):
    print(json.dumps(facts), flush=True)
warnings.simplefilter("always")
for name in sys.argv[1:]:
    tell(begun=name)
    try:
        importlib.import_module(name)
    except BaseException as error:
        tell(failed=name, why=f"{type(error).__name__}: {error}")
torch = sys.modules.get("torch")
if torch is not None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
    found = 0
    error = "" if usable else " ".join(str(one.message) for one in said)
    for index in range(torch.cuda.device_count() if usable else 0):
        try:
            torch.ones(1, device=f"cuda:{index}").add(1).item()
        except torch.cuda.OutOfMemoryError:
            pass  # others use it
        except Exception as problem:
            error = f"cuda:{index}: {problem}"
            continue
        found += 1
    tell(gpus=found, gpu_error=error, cuda_build=torch.version.cuda)
tell(begun=None)
"""


def look(
    *,
    session: str | None,
    timeout_s: float,
    modules: Sequence[str] = MODULES,
    storage: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the fields of :class:`dfdm_ray.jobs.doctor.facts.Told`.

    Args:
        session: Folder of Ray's session, where objects are spilled and logs lie.
        timeout_s: How long the caller waits.
        modules: What is imported, in a process of its own.
        storage: Arguments of :func:`dfdm_ray.jobs.doctor.storage_probe.look_at`.
    """
    package = _package()
    told: dict[str, Any] = {
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "package": getattr(package, "__version__", None),
        "code": _sha256(package),
        "auth_mode": os.environ.get("RAY_AUTH_MODE", "disabled").lower(),
        "shm_bytes": shutil.disk_usage("/dev/shm").total if os.path.isdir("/dev/shm") else None,
        "disks": dict(_disks(session)),
        "gpu_driver": _gpu_driver(),
        "storage": [],
    }
    if package is not None and storage:
        told["storage"] = _look_at_storage(storage, timeout_s * _STORAGE_SHARE)
    wanted = [name for name in modules if package is not None or not name.startswith("dfdm_ray")]
    return {**told, **_imports(wanted, timeout_s * _IMPORTS_SHARE)}


def within(seconds: float, call: Callable[[], T]) -> T:
    """Return ``call()``, or raise ``TimeoutError``; what hangs is left behind in a thread of its own."""
    answers: queue.SimpleQueue[tuple[T | None, Exception | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            answers.put((call(), None))
        except Exception as error:  # noqa: BLE001  # raised below
            answers.put((None, error))

    Thread(target=run, daemon=True).start()
    try:
        value, error = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds:.0f} s") from None
    if error is not None:
        raise error
    return value  # type: ignore[return-value]  # there is an error or a value


def _package() -> Any:
    try:
        return importlib.import_module("dfdm_ray")
    except ImportError:
        return None


def _sha256(package: Any) -> str | None:
    if package is None:
        return None
    root, digest = Path(package.__file__).parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def _version(name: str) -> str | None:
    for distribution in _DISTRIBUTIONS.get(name, (name,)):
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return None


def _disks(session: str | None) -> Iterator[tuple[str, list[int]]]:
    """Return total and free bytes of the folders that fill up."""
    for folder in (session, tempfile.gettempdir()):
        if folder and os.path.isdir(folder):
            usage = shutil.disk_usage(folder)
            yield folder, [usage.total, usage.free]


def _gpu_driver() -> str | None:
    """Return the version of the NVIDIA driver, ``None`` if there is none."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    asked = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=_SMI_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"unknown ({error})"
    return None if done.returncode else " ".join(sorted(set(done.stdout.split()))) or None


def _look_at_storage(storage: Mapping[str, Any], seconds: float) -> list[dict[str, Any]]:
    try:
        probe = importlib.import_module("dfdm_ray.jobs.doctor.storage_probe")
    except ImportError:
        return []  # other code than the driver's, or a library is missing: findings of their own
    found: list[dict[str, Any]] = probe.look_at(**storage, seconds=seconds)
    return found


def _imports(modules: Sequence[str], seconds: float) -> dict[str, Any]:
    """Import ``modules`` and try the GPUs; return what failed, and the GPUs that torch can use."""
    told: dict[str, Any] = {"import_errors": {}, "gpus": None, "gpu_error": "", "cuda_build": None}
    if not modules:
        return told
    command = [sys.executable, "-c", _IMPORT_ALL, *modules]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=seconds, check=False
        )
        said, end = done.stdout, f"the process died with {done.returncode}"
    except subprocess.TimeoutExpired as late:
        said, end = (late.stdout or b"").decode(), f"not done after {seconds:.0f} s"
    begun: str | None = modules[0]
    for line in said.splitlines():
        if not line.startswith("{"):
            continue  # a library's own words
        facts = json.loads(line)
        if "failed" in facts:
            told["import_errors"][facts["failed"]] = facts["why"]
        elif "begun" in facts:
            begun = facts["begun"]
        else:
            told |= facts
    if begun is not None:
        told["import_errors"][begun] = end
    return told
