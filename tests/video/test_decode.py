"""Every frame of these videos shows its own number: what comes out is exactly what was planned."""

import os
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from dfdm_ray.errors import RejectCode, VideoRejectedError
from dfdm_ray.testing import VideoRecipe, frame_number, is_upright, write_audio, write_video
from dfdm_ray.video.decode import VideoReader
from dfdm_ray.video.plan import FramePlan, Run, plan_frames

STRATEGIES = ("keyframe_runs", "head", "uniform")
X264 = {"crf": "18", "preset": "veryfast", "g": "25"}


def x264(**options: str) -> dict[str, str]:
    return {**X264, **{name.replace("_", "-"): value for name, value in options.items()}}


RECIPES = {
    "no_b_frames.mp4": VideoRecipe(options=x264(bf="0")),
    "pyramid.mp4": VideoRecipe(options=x264(bf="3", b_pyramid="normal", b_strategy="0")),
    "adaptive.mp4": VideoRecipe(options={"crf": "23", "preset": "medium", "g": "25"}),
    "open_gop.mp4": VideoRecipe(options=x264(bf="3", b_strategy="0", x264_params="open-gop=1")),
    "lossless.mp4": VideoRecipe(options=x264(crf="0")),
    "yuv444.mp4": VideoRecipe(pix_fmt="yuv444p"),
    "ten_bit.mp4": VideoRecipe(pix_fmt="yuv420p10le"),
    "odd.mp4": VideoRecipe(pix_fmt="yuv444p", size=(161, 97)),
    "late.mp4": VideoRecipe(pts=[5000 + 40 * i for i in range(60)]),
    "variable.mp4": VideoRecipe(pts=[i * 40 + (i % 7) * 5 + (i // 30) * 900 for i in range(60)]),
    "hevc.mp4": VideoRecipe(
        codec="libx265", options={"x265-params": "keyint=25:log-level=none", "crf": "18"}
    ),
    "matroska.mkv": VideoRecipe(options=x264(bf="3", b_strategy="0")),
    "late.mkv": VideoRecipe(pts=[5000 + 40 * i for i in range(60)]),
    "web.webm": VideoRecipe(codec="libvpx-vp9", options={"crf": "20", "g": "25", "deadline": "realtime"}),
    "transport.ts": VideoRecipe(options=x264(bf="2", b_strategy="0")),
    "old.avi": VideoRecipe(codec="mpeg4", options={"g": "25", "qscale": "3"}),
    "quicktime.mov": VideoRecipe(codec="mjpeg", pix_fmt="yuvj420p", options={"qscale": "2"}),
    "with_sound.mp4": VideoRecipe(audio=True),
    "fragmented.mp4": VideoRecipe(options=x264(bf="2")),
}


def write(folder: Path, name: str) -> Path:
    recipe = RECIPES[name]
    if name.startswith("fragmented"):
        plain = write_video(folder / f"plain_{name}", recipe)
        return remux(plain, folder / name, movflags="frag_keyframe+empty_moov")
    return write_video(folder / name, recipe)


def remux(source: Path, target: Path, **options: str) -> Path:
    with av.open(str(source)) as old, av.open(str(target), "w", options=options) as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(old.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    return target


def planned(reader: VideoReader, strategy: str, wanted: int = 10) -> FramePlan:
    plan = plan_frames(strategy, reader.index.keys, num_frames=len(reader.index), wanted=wanted, runs=2)
    assert plan is not None
    return plan


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", RECIPES)
def test_exactly_the_planned_frames_come_with_their_times(name: str, strategy: str, tmp_path: Path) -> None:
    recipe = RECIPES[name]
    with VideoReader(str(write(tmp_path, name))) as reader:
        assert len(reader.index) == recipe.num_frames
        plan = planned(reader, strategy)
        batches = list(reader.read_planned(plan.runs, flexible=False))
    assert len(batches) == len(plan.runs)
    for run, batch in zip(plan.runs, batches, strict=True):
        numbers = [frame_number(frame) for frame in batch.rgb]
        # x265's GOPs are open: two frames stored after a key frame are shown before it
        first = run.key if not name.startswith("hevc") else -(-run.key // 25) * 25
        shown = [first + offset for offset in run.offsets]
        assert numbers == [number for number in shown if number < recipe.num_frames]
        times = recipe.pts or [1000 * number / recipe.fps for number in range(recipe.num_frames)]
        expected = [(times[number] - times[0]) / 1000 for number in numbers]
        np.testing.assert_allclose(
            batch.pts_s, expected, atol=1.1e-3 if recipe.pts or "mkv" in name else 1e-4
        )
        assert all(is_upright(frame) for frame in batch.rgb)


@pytest.mark.parametrize(
    "name", ["pyramid.mp4", "adaptive.mp4", "open_gop.mp4", "variable.mp4", "transport.ts"]
)
def test_flexible_runs_are_consecutive_frames_from_key_frames_and_sum_up(name: str, tmp_path: Path) -> None:
    with VideoReader(str(write(tmp_path, name))) as reader:
        plan = planned(reader, "keyframe_runs")
        batches = list(reader.read_planned(plan.runs, flexible=True))
        assert sum(len(batch) for batch in batches) == 10
        for run, batch in zip(plan.runs, batches, strict=True):
            assert [frame_number(frame) for frame in batch.rgb] == list(range(run.key, run.key + len(batch)))


def test_lossless_video_is_high_444_predictive_as_dfdm_has_it(tmp_path: Path) -> None:
    with av.open(str(write(tmp_path, "lossless.mp4"))) as container:
        assert container.streams.video[0].codec_context.profile == "High 4:4:4 Predictive"


@pytest.mark.parametrize("crf", [0, 10, 23])
def test_the_default_plan_decodes_hardly_more_than_it_uses(crf: int, tmp_path: Path) -> None:
    """400 frames, key frames 250 apart, x264's default B-frames: at most 1.1 frames decoded for each used."""
    options = {"crf": str(crf), "preset": "medium", "g": "250"}
    path = write_video(tmp_path / "long.mp4", VideoRecipe(num_frames=400, options=options), draw=moving)
    with VideoReader(str(path)) as reader:
        assert reader.index.keys.tolist() == [0, 250]
        plan = planned(reader, "keyframe_runs")
        assert plan.num_decoded == plan.num_used == 10
        used = sum(len(batch) for batch in reader.read_planned(plan.runs, flexible=True))
        assert used == 10
        assert reader.num_frames_decoded <= 11


def moving(number: int) -> np.ndarray:
    """Something that moves and changes, so that x264 places B-frames as in a real video."""
    y, x = np.mgrid[0:96, 0:160]
    wave = 110 + 60 * np.sin((x + 2 * number) / 9) + 40 * np.sin((y - number) / 7)
    return np.repeat(wave[..., None], 3, axis=2).clip(0, 255).astype(np.uint8)


def test_the_decoder_is_counted_frame_by_frame(tmp_path: Path) -> None:
    with VideoReader(str(write(tmp_path, "no_b_frames.mp4"))) as reader:
        reader.read_run(Run(key=25, offsets=(0, 3)))
        assert reader.num_frames_decoded == 4
        assert len(list(reader.read_onwards())) == 60
        assert reader.num_frames_decoded == 64


def test_reading_onwards_gives_every_frame_in_order_even_after_a_run(tmp_path: Path) -> None:
    with VideoReader(str(write(tmp_path, "pyramid.mp4"))) as reader:
        assert reader.read_run(Run(key=50, offsets=(0, 1))) is not None
        frames = list(reader.read_onwards())
        assert [frame_number(frame.rgb[0]) for frame in frames] == list(range(60))
        assert reader.read_run(Run(key=25, offsets=(2,))) is not None


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_a_turned_video_comes_out_upright(degrees: int, tmp_path: Path) -> None:
    turns = degrees // 90

    def stored(number: int) -> np.ndarray:
        from dfdm_ray.testing import numbered_frame

        shown = numbered_frame(number, size=(160, 96) if turns % 2 == 0 else (96, 160))
        return np.ascontiguousarray(np.rot90(shown, k=-turns))  # turning it counterclockwise shows it

    path = write_video(tmp_path / "turned.mp4", VideoRecipe(rotation=degrees), draw=stored)
    with VideoReader(str(path)) as reader:
        batch = reader.read_run(Run(key=0, offsets=(0, 1)))
    assert batch is not None
    assert is_upright(batch.rgb[0])
    assert batch.rgb.shape == ((2, 96, 160, 3) if turns % 2 == 0 else (2, 160, 96, 3))
    assert [frame_number(frame) for frame in batch.rgb] == [0, 1]


@pytest.mark.parametrize("fraction", [0.6, 0.8, 0.95])
def test_a_truncated_file_gives_its_whole_frames_and_counts_the_missing(
    fraction: float, tmp_path: Path
) -> None:
    whole = remux(write(tmp_path, "pyramid.mp4"), tmp_path / "front.mp4", movflags="faststart")
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * fraction)])
    with VideoReader(str(cut)) as reader:
        assert reader.index.num_missing > 0
        assert len(reader.index) + reader.index.num_missing == 60
        plan = planned(reader, "keyframe_runs", wanted=6)
        batches = list(reader.read_planned(plan.runs, flexible=False))
        assert batches
        for run, batch in zip(plan.runs, batches, strict=True):
            assert [frame_number(frame) for frame in batch.rgb] == [
                run.key + offset for offset in run.offsets
            ]


def test_damage_in_one_run_leaves_the_others(tmp_path: Path) -> None:
    path = write(tmp_path, "no_b_frames.mp4")
    content = bytearray(path.read_bytes())
    with VideoReader(str(path)) as reader:
        start, end = (int(reader.index.position[frame]) for frame in (25, 30))
    content[start:end] = os.urandom(end - start)
    path.write_bytes(content)
    with VideoReader(str(path)) as reader:
        runs = tuple(Run(key=key, offsets=(0, 1, 2)) for key in (0, 25, 50))
        numbers = [
            [frame_number(frame) for frame in batch.rgb] for batch in reader.read_planned(runs, flexible=True)
        ]
    assert numbers == [[0, 1, 2], [50, 51, 52]]


def text(path: Path) -> None:
    path.write_text("This is a note, not a video.\n" * 100)


def moov_missing(path: Path) -> None:
    whole = write_video(path.with_name("whole.mp4"), VideoRecipe())
    path.write_bytes(whole.read_bytes()[:4000])


def playlist(path: Path) -> None:
    secret = write_video(path.with_name("secret.ts"), VideoRecipe())
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{secret}\n#EXT-X-ENDLIST\n")


def concat_script(path: Path) -> None:
    write_video(path.with_name("secret.mp4"), VideoRecipe())
    path.write_text("ffconcat version 1.0\nfile secret.mp4\n")


def cover_art(path: Path) -> None:
    write_audio(path.with_suffix(".m4a"))
    path.with_suffix(".m4a").rename(path)


BAD_FILES: dict[str, tuple[Callable[[Path], object], RejectCode]] = {
    "missing": (lambda path: None, RejectCode.UNREADABLE),
    "folder": (Path.mkdir, RejectCode.UNREADABLE),
    "pipe": (os.mkfifo, RejectCode.UNREADABLE),  # opening it would block for ever
    "dangling": (lambda path: path.symlink_to("gone"), RejectCode.UNREADABLE),
    "empty": (Path.touch, RejectCode.EMPTY_FILE),
    "text": (text, RejectCode.NOT_A_VIDEO),
    "random": (lambda path: path.write_bytes(os.urandom(50_000)), RejectCode.NOT_A_VIDEO),
    "moov_missing": (moov_missing, RejectCode.NOT_A_VIDEO),
    "playlist": (playlist, RejectCode.NOT_A_VIDEO),  # would open another file
    "concat": (concat_script, RejectCode.NOT_A_VIDEO),  # would open another file
    "audio_only": (cover_art, RejectCode.NO_VIDEO_STREAM),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_bad_file_is_rejected_with_its_code(kind: str, tmp_path: Path) -> None:
    make, code = BAD_FILES[kind]
    path = tmp_path / "bad.mp4"
    make(path)
    with pytest.raises(VideoRejectedError) as rejection:
        VideoReader(str(path))
    assert rejection.value.code == code
    assert "\n" not in rejection.value.detail


def test_a_uri_nobody_can_read_is_rejected_and_not_a_crash() -> None:
    with pytest.raises(VideoRejectedError) as rejection:
        VideoReader("gopher://host/video.mp4")
    assert rejection.value.code == RejectCode.UNREADABLE


@pytest.mark.parametrize(
    "name", ["ü ñ 漢字.mp4", "a:b.mp4", "http:%2F%2Fx.mp4", "50% #1.mp4", "-dash.mp4", "new\nline.mp4"]
)
def test_strange_names_are_just_names(name: str, tmp_path: Path) -> None:
    path = write(tmp_path, "no_b_frames.mp4").rename(tmp_path / name)
    with VideoReader(str(path)) as reader:
        assert reader.read_run(Run(key=0, offsets=(0,))) is not None


def test_a_name_that_is_not_utf8_is_just_a_name(tmp_path: Path) -> None:
    from dfdm_ray.storage import local_uri

    path = os.fsencode(tmp_path) + b"/bad\xff.mp4"
    os.rename(write(tmp_path, "no_b_frames.mp4"), path)
    with VideoReader(local_uri(os.fsdecode(path))) as reader:
        assert len(reader.index) == 60
