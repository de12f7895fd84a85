"""Every frame of these videos shows its own number: what comes out is exactly what was planned."""

import gc
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.video.frame import PictureType
from support.recipes import RECIPES, write
from support.videos import VideoRecipe, frame_number, is_upright, numbered_frame, remux, write_video, x264

from dfdm_ray.video import source
from dfdm_ray.video.decode import VideoReader
from dfdm_ray.video.frames import FrameBatch
from dfdm_ray.video.plan import Run, Runs, plan_frames

pytestmark = pytest.mark.slow

STRATEGIES = ("keyframe_runs", "head", "uniform")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("videos")


@lru_cache(maxsize=2)
def plain_frames(path: Path) -> tuple[list[int], list[np.ndarray]]:
    """Return the numbers of the key frames and all frames as stored, by a plain decode of the stream."""
    with av.open(str(path)) as container:
        decoded = [(frame.key_frame, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    frames = [rgb for _, rgb in decoded]
    assert [frame_number(rgb) for rgb in frames] == list(range(len(frames)))
    return [number for number, (is_key, _) in enumerate(decoded) if is_key], frames


def key_numbers(path: Path) -> list[int]:
    return plain_frames(path)[0]


def numbers(batch: FrameBatch, *, rotation: int = 0) -> list[int]:
    return [frame_number(stored(frame, rotation)) for frame in batch.rgb]


def stored(shown: np.ndarray, rotation: int) -> np.ndarray:
    """Turn a frame back by the degrees, counterclockwise, by which the container turns it."""
    return np.ascontiguousarray(np.rot90(shown, k=-rotation // 90))


def check_pixels(shown: np.ndarray, plain: np.ndarray, *, is_progressive: bool) -> None:
    """Check that a frame is that of a plain decode, as closely as scaling and deinterlacing allow."""
    if is_progressive and shown.shape == plain.shape:
        np.testing.assert_array_equal(shown, plain)
    else:
        again = cv2.resize(shown, plain.shape[1::-1], interpolation=cv2.INTER_AREA)
        assert np.abs(again.astype(int) - plain).mean() < 6  # the next frame differs by more than 10


def planned(reader: VideoReader, strategy: str, wanted: int = 10) -> Runs:
    plan = plan_frames(strategy, reader.index.keys, num_frames=len(reader.index), wanted=wanted, runs=2)
    assert plan is not None
    return plan


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", RECIPES)
def test_exactly_the_planned_frames_come_with_their_times(name: str, strategy: str, folder: Path) -> None:
    recipe = RECIPES[name]
    path = write(folder, name)
    with VideoReader(str(path)) as reader:
        assert len(reader.index) == recipe.num_frames
        keys = dict(zip(reader.index.keys.tolist(), key_numbers(path), strict=True))
        plan = planned(reader, strategy)
        batches = list(reader.read_planned(plan, flexible=False))
    assert len(batches) == len(plan)
    for run, batch in zip(plan, batches, strict=True):
        wanted = [keys[run.key] + offset for offset in run.offsets]
        shown = numbers(batch, rotation=recipe.rotation)
        # after an open GOP's last key frame there are fewer frames than packets
        assert shown == [number for number in wanted if number < recipe.num_frames]
        times = recipe.pts or [1000 * number / recipe.fps for number in range(recipe.num_frames)]
        expected = [(times[number] - times[0]) / 1000 for number in shown]
        rounded = recipe.pts or path.suffix in {".mkv", ".webm", ".flv", ".wmv", ".asf"}  # to milliseconds
        np.testing.assert_allclose(batch.pts_s, expected, atol=1.1e-3 if rounded else 1e-4)
        for frame, number in zip(batch.rgb, shown, strict=True):
            turned_back = stored(frame, recipe.rotation)
            is_progressive = "first" not in name
            check_pixels(turned_back, plain_frames(path)[1][number], is_progressive=is_progressive)
            assert is_upright(turned_back) or recipe.pix_fmt == "gray"


@pytest.mark.parametrize("name", [name for name in RECIPES if name.endswith((".mp4", ".mov"))])
def test_opening_without_a_look_at_frames_changes_nothing(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(write(folder, name))

    def read() -> tuple[list[int], FrameBatch]:
        with VideoReader(path) as reader:
            (batch,) = reader.read_planned(planned(reader, "head"), flexible=True)
            return reader.index.seek_time.tolist(), batch

    seek_times, batch = read()
    monkeypatch.setattr(source, "_SELF_DESCRIBING", ())
    probed_seek_times, probed = read()
    assert seek_times == probed_seek_times
    np.testing.assert_array_equal(batch.rgb, probed.rgb)
    np.testing.assert_array_equal(batch.pts_s, probed.pts_s)


@pytest.mark.parametrize("name", RECIPES)
def test_reading_onwards_gives_every_frame_in_order_even_after_a_run(name: str, folder: Path) -> None:
    with VideoReader(str(write(folder, name))) as reader:
        middle = int(reader.index.keys[len(reader.index.keys) // 2])
        assert reader.read_run(Run(key=middle, offsets=(0, 1))) is not None
        frames = list(reader.read_onwards())
        recipe = RECIPES[name]
        shown = [number for frame in frames for number in numbers(frame, rotation=recipe.rotation)]
        assert shown == list(range(recipe.num_frames))
        assert all(a.pts_s[0] < b.pts_s[0] for a, b in pairwise(frames))
        assert reader.read_run(Run(key=middle, offsets=(1,))) is not None


FLEXIBLE = (
    "pyramid.mp4",
    "adaptive.mp4",
    "open_gop.mp4",
    "variable.mp4",
    "transport.ts",
    "x264.avi",
    "hevc.mkv",
)


@pytest.mark.parametrize("name", FLEXIBLE)
def test_flexible_runs_are_consecutive_frames_from_key_frames_and_sum_up(name: str, folder: Path) -> None:
    path = write(folder, name)
    with VideoReader(str(path)) as reader:
        plan = planned(reader, "keyframe_runs")
        batches = list(reader.read_planned(plan, flexible=True))
        keys = dict(zip(reader.index.keys.tolist(), key_numbers(path), strict=True))
    assert sum(len(batch) for batch in batches) == 10
    for run, batch in zip(plan, batches, strict=True):
        assert numbers(batch) == list(range(keys[run.key], keys[run.key] + len(batch)))


def write_with_types(path: Path, types: str) -> Path:
    """Write a video whose frames are encoded as ``types`` says."""
    options = {"crf": "18", "g": "250", "sc_threshold": "0", "bf": "2", "b_strategy": "0", "forced-idr": "1"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for number, kind in enumerate(types):
            frame = av.VideoFrame.from_ndarray(numbered_frame(number, size=(160, 96)), format="rgb24")
            frame = frame.reformat(format="yuv420p")
            frame.pts, frame.pict_type = number, PictureType[kind]
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_flexible_runs_share_no_frame_where_key_frames_are_close(tmp_path: Path) -> None:
    """Two B-frames stand before the last of six frames: the cheapest lengths are 7 and 3."""
    with VideoReader(str(write_with_types(tmp_path / "v.mp4", "IPPBBP" * 2))) as reader:
        plan = planned(reader, "keyframe_runs")
        assert [run.key for run in plan] == [0, 6]
        found = [number for batch in reader.read_planned(plan, flexible=True) for number in numbers(batch)]
    assert len(found) == len(set(found)) == 10


def test_lossless_video_is_high_444_predictive_as_dfdm_has_it(folder: Path) -> None:
    with av.open(str(write(folder, "lossless.mp4"))) as container:
        assert container.streams.video[0].codec_context.profile == "High 4:4:4 Predictive"


@pytest.mark.parametrize("crf", [0, 10, 23])
def test_the_default_plan_decodes_hardly_more_than_it_uses(crf: int, tmp_path: Path) -> None:
    """400 frames, key frames 250 apart, x264's default B-frames: at most 1.1 frames decoded for each used."""
    options = {"crf": str(crf), "preset": "medium", "g": "250"}
    path = write_video(tmp_path / "long.mp4", VideoRecipe(num_frames=400, options=options), draw=moving)
    with VideoReader(str(path)) as reader:
        assert reader.index.keys.tolist() == [0, 250]
        plan = planned(reader, "keyframe_runs")
        assert sum(run.num_decoded for run in plan) == sum(len(run.offsets) for run in plan) == 10
        used = sum(len(batch) for batch in reader.read_planned(plan, flexible=True))
        assert used == 10
        assert reader.num_frames_decoded <= 11


def moving(number: int) -> np.ndarray:
    """Something that moves and changes, so that x264 places B-frames as in a real video."""
    y, x = np.mgrid[0:96, 0:160]
    wave = 110 + 60 * np.sin((x + 2 * number) / 9) + 40 * np.sin((y - number) / 7)
    return np.repeat(wave[..., None], 3, axis=2).clip(0, 255).astype(np.uint8)


def test_the_decoder_is_counted_frame_by_frame(folder: Path) -> None:
    with VideoReader(str(write(folder, "no_b_frames.mp4"))) as reader:
        reader.read_run(Run(key=25, offsets=(0, 3)))
        assert reader.num_frames_decoded == 4
        assert len(list(reader.read_onwards())) == 60
        assert reader.num_frames_decoded == 64


@pytest.mark.parametrize("name", ["no_b_frames.mp4", "pyramid.mp4", "hevc_ten_bit.mov"])
def test_frames_cut_off_by_an_edit_list_are_not_shown(name: str, folder: Path, tmp_path: Path) -> None:
    path = remux(write(folder, name), tmp_path / name, late_by_frames=7)
    with VideoReader(str(path)) as reader:
        first = reader.read_run(Run(key=0, offsets=(0, 1, 2, 17)))
        second = reader.read_run(Run(key=25, offsets=(0, 1)))
        onwards = [number for frame in reader.read_onwards() for number in numbers(frame)]
    assert first is not None
    assert second is not None
    assert (numbers(first), numbers(second)) == ([7, 8, 9, 24], [25, 26])
    np.testing.assert_allclose(first.pts_s, [0, 0.04, 0.08, 0.68], atol=1e-4)
    np.testing.assert_allclose(second.pts_s, [0.72, 0.76], atol=1e-4)
    assert onwards == list(range(7, 60))


@pytest.mark.usefixtures("_no_garbage_collector")
def test_frames_are_freed_as_reading_goes_on(tmp_path: Path) -> None:
    path = write_video(tmp_path / "video.mp4", VideoRecipe(num_frames=60))
    with VideoReader(str(path)) as reader:
        for _ in reader.read_onwards():
            alive = sum(isinstance(one, av.VideoFrame) for one in gc.get_objects())
            assert alive < 5  # of 60; the decoder gives its last ones at once


@pytest.fixture
def _no_garbage_collector() -> Iterator[None]:
    gc.collect()
    gc.freeze()  # what is there already is not looked at
    gc.disable()
    yield
    gc.enable()
    gc.unfreeze()


def test_recordings_put_together_are_not_mixed(tmp_path: Path) -> None:
    """The second has the times of the first again."""
    options = x264(bf="2", g="50", sc_threshold="0")
    first = write_video(tmp_path / "1.ts", VideoRecipe(options=options))
    second = write_video(
        tmp_path / "2.ts",
        VideoRecipe(options=options),
        draw=lambda number: numbered_frame(number + 512, size=(160, 96)),
    )
    both = tmp_path / "both.ts"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    with VideoReader(str(both)) as reader:
        assert len(reader.index) == 120
        for key, number in ((0, 0), (60, 512), (110, 562)):
            batch = reader.read_run(Run(key=key, offsets=(0, 1, 2, 3)))
            assert batch is not None
            assert numbers(batch) == list(range(number, number + 4))
        last = reader.read_run(Run(key=50, offsets=tuple(range(12))))
        assert last is None or max(numbers(last)) < 60
