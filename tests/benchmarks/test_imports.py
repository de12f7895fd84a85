import importlib
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.mark.parametrize("name", sorted(path.stem for path in BENCHMARKS.glob("*.py")))
def test_every_benchmark_can_be_imported(name: str) -> None:
    module = importlib.import_module(name)
    assert Path(module.__file__ or "").parent == BENCHMARKS


def test_the_readme_lists_every_benchmark() -> None:
    listed = (BENCHMARKS / "README.md").read_text()
    runnable = [path.name for path in BENCHMARKS.glob("*.py") if "__main__" in path.read_text()]
    assert [name for name in runnable if name not in listed] == []
