from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from dfdm_ray.testing import VideoRecipe, numbered_frame, write_video
from dfdm_ray.video.encode import QualityWriter, recode

QUALITIES = (0, 10, 23)


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


def test_times_are_kept_with_gaps_and_all(tmp_path: Path) -> None:
    frames = [frame(number) for number in (0, 1, 5, 6, 20)]
    for path in write(tmp_path, frames).values():
        assert [float(one.pts * one.time_base) * 25 for one in decoded(path)] == pytest.approx(
            [0, 1, 5, 6, 20]
        )


def test_an_odd_size_loses_its_last_row_and_column(tmp_path: Path) -> None:
    path = write(tmp_path, [frame(0, (161, 97))], size=(161, 97))[10]
    assert (decoded(path)[0].width, decoded(path)[0].height) == (160, 96)


def write_and_fail(path: Path) -> None:
    settings = {"size": (160, 96), "time_base": Fraction(1, 25), "rate": Fraction(25), "metadata": {}}
    with QualityWriter({10: path}, **settings) as writer:  # type: ignore[arg-type]
        writer.write(frame(0))
        raise RuntimeError("stop")


def test_after_an_error_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="stop"):
        write_and_fail(tmp_path / "v.mp4")
    assert list(tmp_path.iterdir()) == []


def test_scenes_are_cut_once_and_start_at_zero(tmp_path: Path) -> None:
    source = write_video(tmp_path / "s.mp4", VideoRecipe(num_frames=60))
    paths = {10: tmp_path / "scene.mp4"}
    recode(source, [(range(20, 50), paths)], metadata={})
    frames = decoded(paths[10])
    assert len(frames) == 30
    assert frames[0].pts == 0
    made = paths[10].stat().st_mtime_ns
    recode(source, [(range(20, 50), paths)], metadata={})
    assert paths[10].stat().st_mtime_ns == made
