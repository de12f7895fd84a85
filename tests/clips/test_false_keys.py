"""Containers whose key frames are not those of the stream: the right frames, and no sound video is lost."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.videos import ScriptedDetector, VideoRecipe, remux, steady_frame, write_video, x264

from dfdm_ray.clips.cut import ClipFacts, FaceClips, prepare_clips
from dfdm_ray.clips.spec import clip_spec
from dfdm_ray.config import CropConfig, FaceConfig, PlanConfig
from dfdm_ray.errors import RejectCode, VideoRejectedError
from dfdm_ray.video.decode import VideoReader

pytestmark = pytest.mark.slow

SPEC = clip_spec(PlanConfig(), FaceConfig(), CropConfig(size=32, margin=0.3), num_frames=10)

STREAMS = {
    "h264": VideoRecipe(options=x264(bf="3", b_pyramid="normal", b_strategy="0")),
    "h264_open_gop": VideoRecipe(options={**x264(bf="2", g="23"), "x264-params": "open-gop=1"}),
    "hevc": VideoRecipe(codec="libx265", options={"x265-params": "keyint=25:log-level=none", "crf": "18"}),
    "mpeg4": VideoRecipe(codec="mpeg4", options={"g": "25", "qscale": "3"}),  # makes frames from any packet
    "vp9": VideoRecipe(codec="libvpx-vp9", options={"crf": "20", "g": "25", "deadline": "realtime"}),
}
CONTAINERS = {
    "v.mp4": {},  # without stss if all samples are key frames
    "fragmented.mp4": {"movflags": "frag_keyframe+empty_moov"},
    "v.mkv": {},
}
CLAIMS: dict[str, Callable[[int], bool]] = {
    "all": lambda _: True,
    "none": lambda _: False,
    "others": lambda number: number % 25 == 7,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("streams")


def prepare(path: Path, facts: ClipFacts | None = None) -> tuple[FaceClips, list[int]]:
    """Return the crops, with the number of each frame by its picture: the box moves with it."""
    detector = ScriptedDetector(lambda number: [(20 + number / 2, 20, 60 + number / 2, 60)])
    clips = prepare_clips(str(path), detector, SPEC, facts or ClipFacts())
    return clips, ((clips.boxes_xyxy[:, 0] - 20) * 2).round().astype(int).tolist()


def facts_of(path: Path) -> ClipFacts:
    facts = ClipFacts()
    prepare(path, facts)
    return facts


@pytest.mark.parametrize("claimed", CLAIMS)
@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("stream", STREAMS)
def test_what_a_container_calls_key_frames_is_checked(
    stream: str, container: str, claimed: str, folder: Path, tmp_path: Path
) -> None:
    sound = folder / f"{stream}.mp4"
    if not sound.exists():
        write_video(sound, STREAMS[stream], draw=steady_frame)
    path = remux(sound, tmp_path / container, claims=CLAIMS[claimed], **CONTAINERS[container])
    facts = ClipFacts()
    clips, shown = prepare(path, facts)
    np.testing.assert_allclose(clips.pts_s, np.array(shown) / 25, atol=1.1e-3)
    assert len(set(shown)) == 10
    assert facts.plan == facts_of(sound).plan


def test_an_mp4_without_a_table_of_key_frames_gives_the_frames_of_one_with_it(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", STREAMS["h264"], draw=steady_frame)
    _, expected = prepare(path)
    path.write_bytes(path.read_bytes().replace(b"stss", b"free"))
    with VideoReader(str(path)) as reader:
        assert len(reader.index.keys) == 60
    _, shown = prepare(path)
    assert shown == expected


def test_key_frames_that_only_begin_a_refresh_are_none(tmp_path: Path) -> None:
    """x264's periodic intra refresh marks packets from which a picture becomes whole a while later."""
    options = x264(bf="0", **{"intra-refresh": "1"})
    path = write_video(tmp_path / "v.mp4", VideoRecipe(num_frames=120, options=options), draw=steady_frame)
    with VideoReader(str(path)) as reader:
        assert len(reader.index.keys) > 1
    _, shown = prepare(path)
    assert shown == list(range(10))


@pytest.mark.parametrize("codec", ["svq1", "cfhd"])
def test_a_decoder_that_marks_no_key_frames_is_not_asked_again(codec: str, tmp_path: Path) -> None:
    pix_fmt = {"svq1": "yuv410p", "cfhd": "yuv422p10le"}[codec]
    recipe = VideoRecipe(codec=codec, pix_fmt=pix_fmt, options={"g": "25"})
    clips, shown = prepare(write_video(tmp_path / "v.mov", recipe, draw=steady_frame))
    np.testing.assert_allclose(clips.pts_s, np.array(shown) / 25, atol=1e-4)


@pytest.mark.parametrize(("last_key", "num_usable"), [(0, 0), (15, 5)])
def test_frames_before_the_first_whole_key_frame_do_not_count(
    last_key: int, num_usable: int, tmp_path: Path
) -> None:
    """The first key frame is damaged, as where a recording begins between two."""
    recipe = VideoRecipe(num_frames=20, options=x264(g=str(last_key or 250), sc_threshold="0", bf="0"))
    path = write_video(tmp_path / "v.mp4", recipe, draw=steady_frame)
    content = path.read_bytes()
    with VideoReader(str(path)) as reader:
        assert reader.index.keys.tolist() == sorted({0, last_key})
        first, second = reader.index.position[:2].tolist()
    path.write_bytes(content[:first] + bytes(second - first) + content[second:])
    with pytest.raises(VideoRejectedError) as rejection:
        prepare(path)
    assert rejection.value.code == RejectCode.DECODE_ERROR
    detail = f"20 frames, {num_usable} of them from a whole key frame on, 10 are needed"
    assert rejection.value.detail == detail


def test_an_encrypted_video_is_named(tmp_path: Path) -> None:
    keys = {"encryption_key": "00" * 16, "encryption_kid": "11" * 16, "encryption_scheme": "cenc-aes-ctr"}
    path = remux(
        write_video(tmp_path / "plain.mp4", VideoRecipe(), draw=steady_frame), tmp_path / "v.mp4", **keys
    )
    with pytest.raises(VideoRejectedError, match=r"^encrypted: the video is encrypted$"):
        prepare(path)
