import ast
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from support.hidden_package import hide_package

from dfdm_ray import __version__
from dfdm_ray.jobs.doctor import probe
from dfdm_ray.jobs.doctor.facts import Told


def test_a_node_tells_what_it_is(tmp_path: Path) -> None:
    storage = {"reads": [str(tmp_path)], "writes": [], "marks": [], "name": "mark"}
    plain = probe.look(session=str(tmp_path), timeout_s=100.0, modules=("numpy",), storage=storage)
    told = Told.from_plain(pickle.loads(pickle.dumps(plain)))
    assert told.package == __version__
    assert told.import_errors == {}
    assert told.versions["python"] == sys.version.split()[0]
    assert all(told.versions.values())
    assert told.disks[str(tmp_path)][0] > 0
    assert told.storage[0].num_names == 0


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("raise OSError('libGL.so.1: cannot open')", "OSError: libGL.so.1: cannot open"),
        ("import os; os.kill(os.getpid(), 11)", "the process died with -11"),
        ("import time; time.sleep(60)", "not done after 3 s"),
        ("print('{not json'[1:]); import gone", "ModuleNotFoundError: No module named 'gone'"),
    ],
)
def test_a_module_that_cannot_be_imported_is_told_however_it_fails(
    code: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    told = probe.look(session=None, timeout_s=6.0, modules=("json", "broken"))
    assert told["import_errors"] == {"broken": says}


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
    told = probe.look(session=None, timeout_s=60.0, modules=("torch",))
    assert (told["gpus"], told["cuda_build"], told["import_errors"]) == (2, "12.8", {})
    assert told["gpu_error"] == "cuda:1: no kernel image is available"


def test_it_needs_nothing_but_the_standard_library() -> None:
    imports = list(ast.walk(ast.parse(Path(probe.__file__).read_text())))
    roots = {
        alias.name.split(".")[0] for one in imports if isinstance(one, ast.Import) for alias in one.names
    }
    roots |= {str(one.module).split(".")[0] for one in imports if isinstance(one, ast.ImportFrom)}
    assert roots <= sys.stdlib_module_names


def test_it_tells_that_the_package_is_missing(tmp_path: Path) -> None:
    hide_package(tmp_path)
    code = f"import runpy, json; m = runpy.run_path({probe.__file__!r})\n"
    code += "print(json.dumps(m['look'](session=None, timeout_s=60.0, modules=('numpy', 'dfdm_ray.stages'))))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    told = ast.literal_eval(done.stdout.replace("null", "None"))
    assert (told["package"], told["code"], told["import_errors"]) == (None, None, {})
