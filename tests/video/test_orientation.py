from pathlib import Path

import numpy as np
import pytest
from support.videos import VideoRecipe, frame_number, is_upright, numbered_frame, write_video

from dfdm_ray.video.decode import VideoReader
from dfdm_ray.video.plan import Run


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_a_turned_video_comes_out_upright(degrees: int, tmp_path: Path) -> None:
    turns = degrees // 90

    def stored(number: int) -> np.ndarray:
        shown = numbered_frame(number, size=(160, 96) if turns % 2 == 0 else (96, 160))
        return np.ascontiguousarray(np.rot90(shown, k=-turns))  # turning it counterclockwise shows it

    path = write_video(tmp_path / "turned.mp4", VideoRecipe(rotation=degrees), draw=stored)
    with VideoReader(str(path)) as reader:
        batch = reader.read_run(Run(key=0, offsets=(0, 1)))
    assert batch is not None
    assert is_upright(batch.rgb[0])
    assert batch.rgb.shape == ((2, 96, 160, 3) if turns % 2 == 0 else (2, 160, 96, 3))
    assert [frame_number(frame) for frame in batch.rgb] == [0, 1]


@pytest.mark.parametrize(("across", "down"), [(-1, 1), (1, -1), (-1, -1)])
def test_a_mirrored_video_comes_out_upright(across: int, down: int, tmp_path: Path) -> None:
    def stored(number: int) -> np.ndarray:
        return np.ascontiguousarray(numbered_frame(number, size=(160, 96))[::down, ::across])

    path = write_video(tmp_path / "mirrored.mp4", VideoRecipe(), draw=stored)
    content = path.read_bytes()
    track = content.index(b"tkhd")
    matrix = content.index(np.array([1 << 16, 0, 0, 0, 1 << 16], ">i4").tobytes(), track)
    turned = np.array([across << 16, 0, 0, 0, down << 16], ">i4").tobytes()
    path.write_bytes(content[:matrix] + turned + content[matrix + len(turned) :])
    with VideoReader(str(path)) as reader:
        batch = reader.read_run(Run(key=0, offsets=(0, 1)))
    assert batch is not None
    assert is_upright(batch.rgb[0])
    assert [frame_number(frame) for frame in batch.rgb] == [0, 1]
