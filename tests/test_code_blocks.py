"""The Python code in the documents runs, fence after fence, in a folder that has what they name."""

import contextlib
import io
import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.cluster_files import REPOSITORY

import dfdm_ray

pytestmark = pytest.mark.slow

_FENCE = re.compile(r"(<!-- not run: .+? -->\n)?^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
DOCUMENTS = {
    str(path.relative_to(REPOSITORY)): path
    for path in (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md")))
    if any(not mark for mark, _ in _FENCE.findall(path.read_text()))
}


@pytest.fixture
def folder(
    carphone: Path, sky: Path, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    for name, file in {"a.mp4": carphone, "b.mp4": sky, "dma_sta.pt": tiny_checkpoint}.items():
        (tmp_path / name).symlink_to(file)
    write_run(tmp_path / "out", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_run(out: Path, folder: Path) -> None:
    """Write what score stores of the videos in ``folder``."""
    with dfdm_ray.load(folder / "dma_sta.pt") as model:
        tables = [answer.table for answer in model.attribute_many([folder / "a.mp4", folder / "b.mp4"])]
        record = {"runs": [], "settings": {"classes": model.classes}}
    (out / "predictions").mkdir(parents=True)
    pq.write_table(pa.concat_tables(tables), out / "predictions" / "part-00000.parquet")
    (out / "run.json").write_text(json.dumps(record))


def run(document: Path) -> str:
    """Run the code of a document and return what it prints."""
    names: dict[str, object] = {}
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        for mark, code in _FENCE.findall(document.read_text()):
            if not mark:
                exec(compile(code, str(document), "exec"), names)
    return out.getvalue()


@pytest.mark.parametrize("name", DOCUMENTS)
@pytest.mark.usefixtures("folder")
def test_the_code_of_a_document_runs(name: str) -> None:
    run(DOCUMENTS[name])


@pytest.mark.usefixtures("folder")
def test_five_lines_of_the_readme_print_the_answer_for_a_video() -> None:
    shown = run(DOCUMENTS["README.md"])
    assert re.fullmatch(r"inconclusive [\w-]+ \{'faceswap': 0\.\d+, .*\}\n", shown)
