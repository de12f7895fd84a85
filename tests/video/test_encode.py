import os
import resource
import subprocess
import sys
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.filter
import numpy as np
import pytest
from support.videos import numbered_frame

from dfdm_ray.errors import WriteError
from dfdm_ray.io import storage
from dfdm_ray.video.encode import QualityWriter

pytestmark = pytest.mark.slow

QUALITIES = (0, 10, 23)
SETTINGS: dict[str, Any] = {
    "size": (160, 96),
    "time_base": Fraction(1, 25),
    "rate": Fraction(25),
    "metadata": {},
}


def frame(number: int, size: tuple[int, int] = (160, 96)) -> av.VideoFrame:
    noise = np.random.default_rng(number).integers(0, 40, (size[1], size[0], 3), dtype=np.uint8)
    made = av.VideoFrame.from_ndarray(numbered_frame(number, size=size) // 2 + noise, format="rgb24")
    made.pts = number
    return made


def write(folder: Path, frames: list[av.VideoFrame], size: tuple[int, int] = (160, 96)) -> dict[int, Path]:
    paths = {crf: folder / f"crf{crf}" / "v.mp4" for crf in QUALITIES}
    settings = {"size": size, "time_base": Fraction(1, 25), "rate": Fraction(25)}
    with QualityWriter(paths, metadata={"comment": "synthetic"}, **settings) as writer:  # type: ignore[arg-type]
        for one in frames:
            writer.write(one)
    return paths


def clip(size: tuple[int, int]) -> list[av.VideoFrame]:
    return [frame(number, size) for number in range(20)]


def decoded(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def test_quality_0_gives_back_the_very_frames_in_444_predictive(tmp_path: Path) -> None:
    frames = [frame(number) for number in range(12)]
    path = write(tmp_path, frames)[0]
    for given, got in zip(frames, decoded(path), strict=True):
        plain = given.reformat(format="yuv420p").to_ndarray()
        np.testing.assert_array_equal(got.to_ndarray(), plain)
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.profile == "High 4:4:4 Predictive"
        assert container.metadata["comment"] == "synthetic"


def test_a_lower_quality_is_a_smaller_file_of_the_same_frames(tmp_path: Path) -> None:
    paths = write(tmp_path, [frame(number) for number in range(30)])
    sizes = [paths[crf].stat().st_size for crf in QUALITIES]
    assert sizes == sorted(sizes, reverse=True)
    assert len({len(decoded(path)) for path in paths.values()}) == 1


def test_the_same_frames_give_the_same_bytes_whatever_lies_in_memory(tmp_path: Path) -> None:
    """176 pixels: x264 takes 16 macroblocks at once with AVX-512, and a row has 11."""
    size = (176, 144)
    written = {crf: path.read_bytes() for crf, path in write(tmp_path / "here", clip(size), size).items()}
    code = f"from test_encode import *; write(Path({str(tmp_path / 'there')!r}), clip({size}), {size})"
    environment = {
        **os.environ,
        "MALLOC_PERTURB_": "1",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
    }
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    for crf, content in written.items():
        assert (tmp_path / "there" / f"crf{crf}" / "v.mp4").read_bytes() == content
        assert b" threads=1 " in content  # x264 signs with its settings


def test_times_are_kept_with_gaps_and_all(tmp_path: Path) -> None:
    frames = [frame(number) for number in (0, 1, 5, 6, 20)]
    for path in write(tmp_path, frames).values():
        assert [float(one.pts * one.time_base) * 25 for one in decoded(path)] == pytest.approx(
            [0, 1, 5, 6, 20]
        )


def cropped(given: av.VideoFrame, width: int, height: int) -> np.ndarray:
    """The planes of a frame after FFmpeg's own crop."""
    plain = given.reformat(format="yuv420p")
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=plain.width, height=plain.height, format=plain.format, time_base=Fraction(1, 25)
    )
    crop, sink = graph.add("crop", f"{width}:{height}:0:0"), graph.add("buffersink")
    source.link_to(crop)
    crop.link_to(sink)
    graph.configure()
    graph.push(plain)
    return graph.pull().to_ndarray()


@pytest.mark.parametrize("size", [(161, 97), (160, 97), (161, 96)])
def test_an_odd_size_loses_its_last_row_and_column_and_nothing_else(
    size: tuple[int, int], tmp_path: Path
) -> None:
    given = frame(3, size)
    (got,) = decoded(write(tmp_path, [given], size=size)[0])
    np.testing.assert_array_equal(got.to_ndarray(), cropped(given, 160, 96))


def test_a_frame_of_another_size_is_a_bug(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a frame of 80x48 in a video of 160x96"):
        write(tmp_path, [frame(0), frame(1, (80, 48))])
    assert not list(tmp_path.rglob("*.*"))


def test_two_writers_of_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    """As when a task is repeated though its first worker lives on."""
    path, frames = tmp_path / "v.mp4", [frame(number) for number in range(90)]
    with QualityWriter({10: path}, **SETTINGS) as first:
        for one in frames[:80]:  # x264 looks ahead before it writes
            first.write(one)
        assert list(tmp_path.iterdir()) != []
        with QualityWriter({10: path}, **SETTINGS) as second:
            for one in frames:
                second.write(one)
        whole = path.read_bytes()
        assert len(decoded(path)) == 90
        for one in frames[80:]:
            first.write(one)
    assert path.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_leaves_is_removed_as_unfinished(tmp_path: Path) -> None:
    writer = QualityWriter({10: tmp_path / "v.mp4"}, **SETTINGS)
    with suppress(FileNotFoundError), writer:  # a killed writer renames nothing
        for number in range(80):  # x264 looks ahead before it writes
            writer.write(frame(number))
        assert len(list(tmp_path.iterdir())) == 1
        storage.remove_unfinished(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def write_and_fail(path: Path) -> None:
    with QualityWriter({10: path}, **SETTINGS) as writer:
        writer.write(frame(0))
        raise RuntimeError("stop")


def test_after_an_error_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="stop"):
        write_and_fail(tmp_path / "v.mp4")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("num_bytes", [0, 10_000])
def test_a_full_disk_is_one_line_and_leaves_no_file(num_bytes: int, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    frames = [frame(number) for number in range(30)]
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))  # the disk is full after that
    try:
        with pytest.raises(
            WriteError, match=r"^cannot write .*crf\d+/v\.mp4.*: File too large; correct this"
        ):
            write(tmp_path, frames)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
