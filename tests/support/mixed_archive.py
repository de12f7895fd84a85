"""Nine inputs of a run: four good ones, five that end as rejects."""

import os
import shutil
from pathlib import Path

EXPECTED = {
    "a.mp4": None,
    "b.mp4": None,
    "c.mp4": None,
    "ü 1%.mp4": None,
    "sky.mp4": "no_face",
    "empty.mp4": "empty_file",
    "text.mp4": "not_a_video",
    "cut.mp4": "not_a_video",  # its moov stands at the end
    "link.mp4": "unreadable",
}
"""The reject code of each."""


def write_archive(folder: Path, *, face: Path, no_face: Path) -> Path:
    for name, code in EXPECTED.items():
        if code is None:
            shutil.copy(face, folder / name)
    shutil.copy(no_face, folder / "sky.mp4")
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("not a video, though it says so\n" * 50)
    (folder / "cut.mp4").write_bytes(face.read_bytes()[:20_000])
    os.symlink(folder / "gone", folder / "link.mp4")
    return folder
