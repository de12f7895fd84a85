import ast
import importlib
import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import ray
from support.flaky_s3 import FlakyS3, serving
from support.hidden_package import hide_package

from dfdm_ray import __version__
from dfdm_ray.io import storage
from dfdm_ray.jobs.doctor import probe
from dfdm_ray.jobs.doctor.probe import Stored, marked, within

pytestmark = pytest.mark.slow


def test_sent_by_value_it_reports_what_the_machine_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_local_fs_capacity_threshold", "0.98")
    ray.cloudpickle.register_pickle_by_value(probe)
    try:
        look = pickle.loads(ray.cloudpickle.dumps(probe.look))
    finally:
        ray.cloudpickle.unregister_pickle_by_value(probe)
    assert look.__globals__ is not vars(probe)
    folder = str(tmp_path)
    facts = look(session=folder, timeout_s=100.0, modules=("numpy",), reads=[folder], writes={folder: None})
    assert pickle.loads(pickle.dumps(facts)) == facts
    assert set(facts) == set(probe.Facts.__annotations__) | set(probe.Imports.__annotations__)
    assert facts["package"] == __version__
    assert facts["import_errors"] == {}
    assert facts["versions"]["python"] == sys.version.split()[0]
    assert all(facts["versions"].values())
    assert facts["disks"][str(tmp_path)][0] > 0
    reads, writes = facts["storage"]
    assert facts["full_fraction"] == 0.98
    assert reads["num_names"] == 0
    assert writes == {"uri": folder, "use": "writes"}


def test_the_modules_of_workers_can_be_imported() -> None:
    for name in probe.MODULES:
        importlib.import_module(name)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("raise OSError('libGL.so.1: cannot open')", "OSError: libGL.so.1: cannot open"),
        ("import os; os.kill(os.getpid(), 11)", "the process died with -11"),
        ("import time; time.sleep(60)", "not done after 3 s"),
        ("print('{not json'[1:]); import gone", "ModuleNotFoundError: No module named 'gone'"),
    ],
)
def test_a_module_that_cannot_be_imported_is_reported_however_it_fails(
    code: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    facts = probe.look(timeout_s=6.0, modules=("json", "broken"))
    assert facts["import_errors"] == {"broken": says}


FAKE_TORCH = """
class version:
    cuda = "12.8"
class cuda:
    OutOfMemoryError = MemoryError
    is_available = staticmethod(lambda: True)
    device_count = staticmethod(lambda: 3)
class ones:
    def __init__(self, size, device):
        if device == "cuda:1":
            raise RuntimeError("no kernel image is available")
        if device == "cuda:2":
            raise MemoryError
    def add(self, number):
        return self
    def item(self):
        return 2.0
"""


def test_each_gpu_computes_something_and_a_full_one_is_none_the_worse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch.py").write_text(FAKE_TORCH)
    monkeypatch.syspath_prepend(tmp_path)
    facts = probe.look(timeout_s=60.0, modules=("torch",))
    assert (facts["gpus"], facts["cuda_build"], facts["import_errors"]) == (2, "12.8", {})
    assert facts["gpu_error"] == "cuda:1: no kernel image is available"


def test_it_imports_nothing_but_the_standard_library() -> None:
    imports = ast.parse(Path(probe.__file__).read_text()).body
    roots = {
        alias.name.split(".")[0] for one in imports if isinstance(one, ast.Import) for alias in one.names
    }
    roots |= {str(one.module).split(".")[0] for one in imports if isinstance(one, ast.ImportFrom)}
    assert "json" in roots
    assert roots <= sys.stdlib_module_names


def test_it_reports_that_the_package_is_missing(tmp_path: Path) -> None:
    hide_package(tmp_path)
    arguments = "timeout_s=60.0, modules=('numpy', 'dfdm_ray.gone'), reads=['/'], writes={'/tmp': None}"
    code = f"import runpy, json; look = runpy.run_path({probe.__file__!r})['look']\n"
    code += f"print(json.dumps(look({arguments})))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    facts = json.loads(done.stdout)
    assert (facts["package"], facts["code"], facts["import_errors"]) == (None, None, {})
    assert facts["storage"] == []


def look_at(
    *, reads: Sequence[Path] = (), writes: Sequence[Path] = (), mark: str | None = None
) -> list[Stored]:
    folders = {str(path): mark for path in writes}
    return probe.look_at_storage([str(path) for path in reads], folders, seconds=30.0)


def test_files_and_folders_are_read_and_compared_by_their_names(tmp_path: Path) -> None:
    deep = tmp_path / "DFDM" / "crf0"
    deep.mkdir(parents=True)
    (deep / "a.mp4").write_bytes(b"12345")
    folder, file = look_at(reads=[tmp_path / "DFDM", deep / "a.mp4"])
    assert (folder["num_names"], folder["content"]) == (1, "a folder with 1 entry")
    assert (file["num_names"], file["content"]) == (None, "a file of 5 bytes")
    before = folder["names_sha256"]
    (tmp_path / "DFDM" / "crf10").mkdir()
    assert look_at(reads=[tmp_path / "DFDM"])[0]["names_sha256"] != before


def test_what_is_not_there_or_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    gone, below = look_at(reads=[tmp_path / "gone"], writes=[tmp_path / "file" / "out"])
    assert gone["error"] == "not there"
    assert below["error"] == "Not a directory"


def test_trial_files_and_the_folders_made_for_them_are_removed(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b"
    assert look_at(writes=[out]) == [{"uri": str(out), "use": "writes"}]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_shared_if_the_file_of_the_driver_is_seen_there(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with marked(str(out), "mark"):
        assert look_at(writes=[out], mark="mark")[0]["shared"] is True
        assert [path.name for path in out.iterdir()] == ["mark"]
    assert look_at(writes=[out], mark="mark")[0]["shared"] is False
    assert not out.exists()


def test_a_call_that_hangs_is_left_behind() -> None:
    begun = time.monotonic()
    with pytest.raises(TimeoutError, match="no answer within"):
        within(0.1, lambda: time.sleep(30))
    assert time.monotonic() - begun < 5
    assert within(5.0, lambda: 3) == 3
    with pytest.raises(OSError, match="No such file"):
        within(5.0, os.stat, "/gone")


def test_storage_that_hangs_is_an_error_of_its_uri_alone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "hangs")  # until somebody writes into it
    (tmp_path / "file").touch()
    hangs, sound = probe.look_at_storage([str(tmp_path / "hangs"), str(tmp_path / "file")], {}, seconds=0.5)
    assert hangs["error"] == "no answer within 1 s"
    assert sound["content"] == "a file of 0 bytes"
    os.close(os.open(tmp_path / "hangs", os.O_RDWR))  # lets go of the thread that still waits


def test_object_stores_are_read_and_written_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with serving(FlakyS3(share=0.0)) as bucket:
        archive, out = bucket.format("archive"), bucket.format("new/out")
        storage.write_atomic(storage.join(archive, "crf0", "a.mp4"), b"12345")
        with marked(out, "mark"):
            seen = probe.look_at_storage([archive, bucket.format("gone")], {out: "mark"}, seconds=30.0)
        assert [one.get("error") for one in seen] == [None, "not there", None]
        assert seen[0]["num_names"] == 1
        assert seen[2]["shared"] is True
        assert storage.list_names(out) == []
