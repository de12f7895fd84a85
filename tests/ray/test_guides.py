"""The shell code of the guides runs, fence after fence, on a small archive."""

import shutil
from pathlib import Path

import pytest
from support.cluster_files import commands
from support.guides import guides

from dfdm_ray.cli import main

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, carphone: Path, sky: Path, tiny_checkpoint: Path
) -> Path:
    """A folder in which the guides run; /data of their text is below it."""
    root = tmp_path_factory.mktemp("guides")
    (root / "data" / "archive").mkdir(parents=True)
    shutil.copy(carphone, root / "data" / "archive" / "a.mp4")
    shutil.copy(sky, root / "data" / "archive" / "b.mp4")
    shutil.copy(tiny_checkpoint, root / "dma_sta.pt")
    return root


def test_the_commands_of_the_guides_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for guide in ("score", "tables"):  # the second needs what the first makes
        for code in guides()[guide]:
            for words in commands(code):
                assert words[0] == "dfdm-ray", code
                main([word.replace("/data/", f"{folder}/data/") for word in words[1:]])
    assert (folder / "crops.png").exists()
    assert len((folder / "out" / "predictions.csv").read_text().splitlines()) == 3
    assert len((folder / "predictions.jsonl").read_text().splitlines()) == 2


def test_no_guide_is_left_out() -> None:
    assert guides().keys() == {"score", "tables"}
