from pathlib import Path

import pytest
from support.mixed_archive import write_archive


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory, carphone: Path, sky: Path) -> Path:
    return write_archive(tmp_path_factory.mktemp("archive"), face=carphone, no_face=sky)
