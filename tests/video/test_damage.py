"""Cut and damaged files: fewer frames, never wrong ones."""

from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest
from support.videos import VideoRecipe, frame_number, numbered_frame, remux, write_video, x264

from dfdm_ray.video.decode import VideoReader
from dfdm_ray.video.frames import FrameBatch
from dfdm_ray.video.plan import Run, plan_frames

pytestmark = pytest.mark.slow

B_FRAMES = x264(bf="3", b_strategy="0", b_pyramid="normal")
OPEN_GOP = {**B_FRAMES, "g": "23", "sc_threshold": "0", "x264-params": "open-gop=1"}

RECIPES = {
    "plain.mp4": VideoRecipe(options=x264(bf="0")),
    "b_frames.mp4": VideoRecipe(options=B_FRAMES),
    "open_gop.mp4": VideoRecipe(options=OPEN_GOP),
    "b_frames.mkv": VideoRecipe(options=B_FRAMES),
    "open_gop.ts": VideoRecipe(options=OPEN_GOP),
    "web.webm": VideoRecipe(codec="libvpx-vp9", options={"crf": "20", "g": "25", "deadline": "realtime"}),
    "old.avi": VideoRecipe(codec="mpeg4", options={"g": "25", "qscale": "3"}),
    "program.mpg": VideoRecipe(codec="mpeg2video", options={"g": "15", "bf": "2", "qscale": "3"}),
}


def moving(number: int) -> np.ndarray:
    """Its number, and waves so that every frame changes everywhere."""
    frame = numbered_frame(number, size=(160, 96)).astype(int)
    y, x = np.mgrid[0:48, 0:160]
    frame[:48] += (40 * np.sin((x + 3 * number) / 9) + 20 * np.sin((y - number) / 5)).astype(int)[..., None]
    return frame.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("whole")


def write(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.exists():
        plain = write_video(folder / f"plain_{name}", RECIPES[name], draw=moving)
        # in front, the index outlives a cut
        remux(plain, path, movflags="faststart") if path.suffix == ".mp4" else plain.rename(path)
    return path


@cache
def clean_frames(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24").tobytes() for frame in container.decode(video=0)]


def numbers(batch: FrameBatch) -> list[int]:
    return [frame_number(frame) for frame in batch.rgb]


def check_exact(batch: FrameBatch, clean: list[bytes]) -> None:
    """Each frame is, to the pixel, what the whole file gives at that time."""
    for frame, pts_s in zip(batch.rgb, batch.pts_s, strict=True):
        assert frame.tobytes() == clean[round(pts_s * 25)]


@pytest.mark.parametrize("fraction", [0.45, 0.6, 0.75, 0.9, 0.99])
@pytest.mark.parametrize("name", RECIPES)
def test_a_cut_file_gives_its_whole_frames_and_no_others(name: str, fraction: float, folder: Path) -> None:
    whole = write(folder, name)
    with VideoReader(str(whole)) as reader:
        first = int(reader.index.position[0])
    cut = folder / f"cut_{name}"
    cut.write_bytes(whole.read_bytes()[: first + int((whole.stat().st_size - first) * fraction)])
    clean = clean_frames(whole)
    with VideoReader(str(cut)) as reader:
        assert 0 < len(reader.index) <= 60
        assert whole.suffix != ".mp4" or len(reader.index) + reader.index.num_missing == 60
        for strategy in ("keyframe_runs", "head", "uniform"):
            plan = plan_frames(strategy, reader.index.keys, num_frames=len(reader.index), wanted=6, runs=2)
            assert plan is not None
            batches = list(reader.read_planned(plan, flexible=strategy == "keyframe_runs"))
            assert batches
            for batch in batches:
                check_exact(batch, clean)
        onwards = list(reader.read_onwards())
        for batch in onwards:
            check_exact(batch, clean)
        assert len(onwards) >= 0.5 * len(reader.index)


@pytest.mark.parametrize("key", [0, 25])
def test_a_run_at_a_cut_has_no_holes(key: int, folder: Path) -> None:
    """Of packets stored as I0 P4 B2 | B1 B3 the first three show only one frame that is next."""
    whole = write(folder, "b_frames.mp4")
    with VideoReader(str(whole)) as reader:
        position = reader.index.position.tolist()
    for kept in range(key + 1, key + 14):
        cut = folder / "holes.mp4"
        cut.write_bytes(whole.read_bytes()[: position[kept]])
        with VideoReader(str(cut)) as reader:
            assert len(reader.index) == kept
            batch = reader.read_run(Run(key=key, offsets=tuple(range(13))))
        if batch is not None:
            assert numbers(batch) == list(range(key, key + len(batch)))


def damage(path: Path, target: Path, frames: tuple[int, int], *, whole: bool = True) -> Path:
    """Overwrite the packets from one frame up to another with noise, or the second half of that."""
    content = bytearray(path.read_bytes())
    with VideoReader(str(path)) as reader:
        start, end = (int(reader.index.position[frame]) for frame in frames)
    start = start + 4 if whole else (start + end) // 2  # the size in front stays, so the packet is found
    content[start:end] = np.random.default_rng(1).bytes(end - start)
    target.write_bytes(content)
    return target


def test_damage_in_one_run_leaves_the_others(folder: Path, tmp_path: Path) -> None:
    path = damage(write(folder, "plain.mp4"), tmp_path / "d.mp4", (25, 30))
    with VideoReader(str(path)) as reader:
        runs = tuple(Run(key=key, offsets=(0, 1, 2)) for key in (0, 25, 50))
        batches = list(reader.read_planned(runs, flexible=True))
    assert [numbers(batch) for batch in batches] == [[0, 1, 2], [50, 51, 52]]


@pytest.mark.parametrize("whole", [True, False])  # the decoder gives up, or makes up the lower half
def test_frames_that_refer_to_a_damaged_one_are_damaged(whole: bool, folder: Path, tmp_path: Path) -> None:
    path = damage(write(folder, "plain.mp4"), tmp_path / "d.mp4", (30, 31), whole=whole)
    with VideoReader(str(path)) as reader:
        assert reader.read_run(Run(key=25, offsets=(20,))) is None
        before = reader.read_run(Run(key=25, offsets=(0, 4)))
        assert before is not None
        assert numbers(before) == [25, 29]


@pytest.mark.parametrize("part", ["whole", "half"])
@pytest.mark.parametrize("name", ["plain.mp4", "b_frames.mp4", "open_gop.mp4"])
def test_reading_onwards_passes_over_damage_up_to_the_next_key_frame(
    name: str, part: str, folder: Path, tmp_path: Path
) -> None:
    whole = write(folder, name)
    path = damage(whole, tmp_path / "d.mp4", (30, 31), whole=part == "whole")
    with VideoReader(str(path)) as reader:
        key = int(reader.index.keys[2])
        found = list(reader.read_onwards())
    shown = [number for batch in found for number in numbers(batch)]
    assert shown[:20] == list(range(20))
    assert len(shown) < 59
    assert set(range(key + 3, 60)) <= set(shown)
    clean = clean_frames(whole)
    for batch in found:
        check_exact(batch, clean)


def test_work_on_damaged_frames_is_counted_too(folder: Path, tmp_path: Path) -> None:
    path = damage(write(folder, "plain.mp4"), tmp_path / "d.mp4", (3, 4))
    with VideoReader(str(path)) as reader:
        assert reader.read_run(Run(key=0, offsets=tuple(range(10)))) is None
        assert 1 <= reader.num_frames_decoded <= 10
        before = reader.num_frames_decoded
        list(reader.read_onwards())
        assert reader.num_frames_decoded == before + 60
