"""A made-up DFDM tree of empty files, in the counts of the release."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dfdm_ray.labels import DFDM_TAGS, QUALITIES, Generator
from dfdm_ray.manifest.build import ManifestBuild, build_manifest

FOLDERS = {
    Generator.FACESWAP: "FaceSwap",
    Generator.LIGHTWEIGHT: "LightWeight",
    Generator.IAE: "IAE",
    Generator.DFAKER: "DFaker",
    Generator.DFL_H128: "DFL-H128",
}


def triples() -> Iterator[str]:
    """430 swaps of 59 targets, made uneven: 1 to 17 for each, but 86 for one."""
    sizes = [1 + index * index * 16 // (58 * 58) for index in range(59)]
    sizes[30] += 430 - sum(sizes)
    for target, size in enumerate(sizes):
        for scene in range(size):
            yield f"id{target}_id{(target + scene + 1) % 59}_{scene:04d}"


def write_dfdm_tree(root: Path) -> None:
    names = list(triples())
    for crf in QUALITIES:
        for generator, tag in DFDM_TAGS.items():
            folder = root / f"DFDM_crf{crf}" / FOLDERS[generator]
            folder.mkdir(parents=True)
            for name in names:
                (folder / f"{name}_{tag}.mp4").touch()


@pytest.fixture(scope="session")
def dfdm_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """6,450 files; do not change it."""
    root = tmp_path_factory.mktemp("dfdm")
    write_dfdm_tree(root)
    return root


@pytest.fixture(scope="session")
def dfdm(dfdm_tree: Path) -> ManifestBuild:
    return build_manifest(str(dfdm_tree))
