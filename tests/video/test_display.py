"""Pictures are those that a viewer sees: square pixels, one instant, colours of BT.709."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
import pytest
from av.video.stream import VideoStream
from support.videos import VideoRecipe, frame_number, is_upright, numbered_frame, write_video, x264

from dfdm_ray.errors import RejectCode, VideoRejectedError
from dfdm_ray.video.decode import VideoReader
from dfdm_ray.video.frames import FrameBatch
from dfdm_ray.video.plan import Run

pytestmark = pytest.mark.slow

TWO = Fraction(2)


def read(path: Path) -> tuple[FrameBatch, list[str]]:
    """Read two frames, and what was corrected in them."""
    with VideoReader(str(path)) as reader:
        batch = reader.read_run(Run(key=0, offsets=(0, 1)))
        assert batch is not None
        return batch, reader.corrections


def numbers(batch: FrameBatch) -> list[int]:
    return [frame_number(frame) for frame in batch.rgb]


@pytest.mark.parametrize("name", ["v.mp4", "v.mov", "v.mkv", "v.ts", "v.h264", "v.avi"])
def test_pixels_are_square_whatever_the_container(name: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / name, VideoRecipe(pixel_aspect=TWO))
    batch, corrections = read(path)
    assert batch.rgb.shape == (2, 96, 320, 3)
    assert corrections == ["square_pixels"]
    assert numbers(batch) == [0, 1]
    assert all(is_upright(frame) for frame in batch.rgb)
    with VideoReader(str(path)) as reader:
        assert {frame.rgb.shape for frame in reader.read_onwards()} == {(1, 96, 320, 3)}


def test_a_turned_video_with_wide_pixels_gets_taller(tmp_path: Path) -> None:
    batch, _ = read(write_video(tmp_path / "v.mp4", VideoRecipe(pixel_aspect=TWO, rotation=90)))
    assert batch.rgb.shape == (2, 320, 96, 3)


@pytest.mark.parametrize("given", [(1, 1), (3, 2)])
def test_the_ratio_in_the_container_takes_precedence(given: tuple[int, int], tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", VideoRecipe(pixel_aspect=TWO))
    stored = b"pasp" + np.array([2, 1], ">u4").tobytes()
    content = path.read_bytes()
    assert stored in content
    path.write_bytes(content.replace(stored, b"pasp" + np.array(given, ">u4").tobytes()))
    batch, _ = read(path)
    assert batch.rgb.shape == (2, 96, 160 * given[0] // given[1], 3)


def test_the_ratio_may_change_within_a_broadcast(tmp_path: Path) -> None:
    both, options = tmp_path / "both.ts", x264(bf="0")
    for ratio in (TWO, Fraction(3, 2)):
        recipe = VideoRecipe(num_frames=25, pixel_aspect=ratio, options=options)
        part = write_video(tmp_path / "part.ts", recipe)
        both.write_bytes((both.read_bytes() if both.exists() else b"") + part.read_bytes())
    with VideoReader(str(both)) as reader:
        runs = [reader.read_run(Run(key=int(key), offsets=(0, 1))) for key in reader.index.keys]
    assert [run.rgb.shape[2] for run in runs if run is not None] == [320, 240]


def test_square_pixels_are_not_touched(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", VideoRecipe(num_frames=2))
    with av.open(str(path)) as container:
        stored = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    batch, corrections = read(path)
    np.testing.assert_array_equal(batch.rgb, stored)
    assert corrections == []


def test_square_pixels_count_for_the_largest_frame(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", VideoRecipe(pixel_aspect=TWO))
    with (
        VideoReader(str(path), max_pixels=192 * 96) as reader,
        pytest.raises(VideoRejectedError, match="320 x 96 square pixels; the limit is 18432") as rejected,
    ):
        reader.read_run(Run(key=0, offsets=(0,)))
    assert rejected.value.code == RejectCode.TOO_LARGE


FIELDS = {"flags": "+ildct+ilme"}
INTERLACED = {
    "v.mp4": VideoRecipe(options={**x264(bf="2"), "x264-params": "tff=1"}),
    "lower_first.mkv": VideoRecipe(options={**x264(), "x264-params": "bff=1"}),
    "v.h264": VideoRecipe(options={**x264(), "x264-params": "tff=1"}),  # its frames have no times
    "v.mpg": VideoRecipe(codec="mpeg2video", options={**FIELDS, "qscale": "2", "g": "25"}),
    "studio.mov": VideoRecipe(codec="prores_ks", pix_fmt="yuv422p10le", options=FIELDS),
}


def two_instants(number: int) -> np.ndarray:
    """A numbered frame with a bar that has moved between the two fields."""
    frame = numbered_frame(number, size=(160, 96))
    frame[26:46:2, 60:80] = frame[27:46:2, 80:100] = 255
    return frame


@pytest.mark.parametrize("name", INTERLACED)
def test_an_interlaced_frame_shows_one_instant(name: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / name, INTERLACED[name], draw=two_instants)
    with VideoReader(str(path)) as reader:
        run = reader.read_run(Run(key=0, offsets=(3, 4, 5)))
        assert run is not None
        batches = [run, *reader.read_onwards()]
        assert reader.corrections == ["deinterlaced"]
    assert [numbers(batch) for batch in batches] == [[3, 4, 5], *([number] for number in range(60))]
    np.testing.assert_allclose(run.pts_s, np.array([3, 4, 5]) / 25, atol=1e-3)
    for rgb in np.concatenate([batch.rgb for batch in batches]):
        assert rgb.shape == (96, 160, 3)
        assert rgb[29:43, 63:77].min() > 190  # the bar in the upper field
        assert rgb[29:43, 83:97].max() < 160  # and where it is in the lower one


def test_fields_that_are_stored_apart_get_the_height_of_the_frame(tmp_path: Path) -> None:
    recipe = VideoRecipe(codec="libx265", options={"x265-params": "interlace=tff:log-level=none"})
    batch, corrections = read(write_video(tmp_path / "v.mp4", recipe))
    assert batch.rgb.shape == (2, 192, 160, 3)
    assert corrections == ["deinterlaced"]
    assert numbers(batch) == [0, 1]


def test_the_pixels_of_an_interlaced_broadcast_become_square_too(tmp_path: Path) -> None:
    options = {**x264(), "x264-params": "tff=1"}
    recipe = VideoRecipe(pixel_aspect=Fraction(64, 45), options=options)
    batch, corrections = read(write_video(tmp_path / "v.ts", recipe, draw=two_instants))
    assert batch.rgb.shape == (2, 96, 228, 3)
    assert corrections == ["deinterlaced", "square_pixels"]
    assert numbers(batch) == [0, 1]


Curve = Callable[[np.ndarray], np.ndarray]

BARS = np.array([[20, 60, 110], [190, 140, 115], [90, 160, 60], [150, 30, 40], [128] * 3, [40] * 3])
"""Ordinary colours; the second is that of skin."""
TO_BT2020 = [[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]
"""Linear RGB of BT.709 to that of BT.2020 (ITU-R BT.2087)."""
TO_P3 = [[0.8225, 0.1774, 0.0], [0.0332, 0.9669, 0.0], [0.0171, 0.0724, 0.9108]]


def pq(nits: np.ndarray) -> np.ndarray:
    power = (nits / 10_000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def hlg(nits: np.ndarray) -> np.ndarray:
    luminance = nits @ [0.2627, 0.6780, 0.0593]
    scene = nits / 1000 * (luminance[..., None] / 1000) ** (1 / 1.2 - 1)
    bright = 0.17883277 * np.log(np.maximum(12 * scene, 1) - 0.28466892) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), bright)


def gamma(nits: np.ndarray) -> np.ndarray:
    return (nits / 203) ** (1 / 2.4)


WIDE: dict[str, tuple[int, int, Curve, list[list[float]]]] = {
    "pq": (16, 9, pq, TO_BT2020),
    "hlg": (18, 9, hlg, TO_BT2020),
    "bt2020": (14, 9, gamma, TO_BT2020),
    "p3": (1, 12, gamma, TO_P3),
}
"""Transfer characteristics and primaries (ITU-T H.273), curve, and matrix."""


def write_bars(path: Path, name: str, params: str) -> Path:
    """Write two frames of vertical bars in ``WIDE[name]``, with 10 bits."""
    transfer, primaries, curve, matrix = WIDE[name]
    codes = curve((BARS / 255) ** 2.4 * 203 @ np.transpose(matrix)) * 65535
    bars = codes.round().astype(np.uint16)[None].repeat(64, axis=0).repeat(32, axis=1)
    options = x264(crf="4", x264_params=params)
    with av.open(str(path), "w") as container:
        stream = cast(VideoStream, container.add_stream("libx264", rate=25, options=options))
        stream.height, stream.width = bars.shape[:2]
        stream.pix_fmt = "yuv420p10le"
        context = stream.codec_context
        context.color_trc, context.color_primaries = transfer, primaries
        context.colorspace, context.color_range = 9, 1
        for number in range(2):
            frame = av.VideoFrame.from_ndarray(bars, format="rgb48le")
            frame = frame.reformat(format="yuv420p10le", dst_colorspace=9, dst_color_range=1)
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("name", WIDE)
@pytest.mark.parametrize("params", ["threads=1", "transfer=undef:colorprim=undef"])  # in the container only
def test_colours_are_those_of_an_ordinary_video(name: str, params: str, tmp_path: Path) -> None:
    batch, corrections = read(write_bars(tmp_path / "v.mp4", name, params))
    assert corrections == [f"bt709_from_{name}"]
    np.testing.assert_allclose(np.stack(batch.rgb)[:, 32, 16::32].astype(int), [BARS] * 2, atol=5)
