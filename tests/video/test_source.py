import os
from collections.abc import Callable
from io import FileIO
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from support.videos import VideoRecipe, frame_number, numbered_frame, write_audio, write_video

from dfdm_ray.errors import RejectCode, VideoRejectedError
from dfdm_ray.io import storage
from dfdm_ray.video.decode import VideoReader
from dfdm_ray.video.plan import Run


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


def image(path: Path) -> None:
    made = write_video(
        path.with_suffix(".png"), VideoRecipe(num_frames=1, codec="png", pix_fmt="rgb24", options={})
    )
    made.rename(path)


def audio_only(path: Path) -> None:
    write_audio(path.with_suffix(".m4a")).rename(path)


def cover_art(path: Path) -> None:
    """Sound with a picture that is no video."""
    cover = av.VideoFrame.from_ndarray(numbered_frame(0, size=(160, 96)), format="rgb24")
    with av.open(str(path), "w") as container:
        sound, picture = container.add_stream("aac", rate=16000), container.add_stream("mjpeg", rate=1)
        picture.width, picture.height, picture.pix_fmt = 160, 96, "yuvj420p"
        picture.disposition = Disposition.attached_pic
        container.mux(picture.encode(cover.reformat(format="yuvj420p")))
        container.mux(picture.encode(None))
        for start in range(0, 16000, 1024):
            silence = av.AudioFrame.from_ndarray(
                np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
            )
            silence.sample_rate, silence.pts = 16000, start
            container.mux(sound.encode(silence))
        container.mux(sound.encode(None))


def unknown_codec(path: Path) -> None:
    write_video(path, VideoRecipe())
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzz1"))


BAD_FILES: dict[str, tuple[Callable[[Path], object], RejectCode]] = {
    "missing": (lambda path: None, RejectCode.UNREADABLE),
    "folder": (Path.mkdir, RejectCode.UNREADABLE),
    "pipe": (os.mkfifo, RejectCode.UNREADABLE),  # opening it would block for ever
    "dangling": (lambda path: path.symlink_to("gone"), RejectCode.UNREADABLE),
    "loop": (lambda path: path.symlink_to(path), RejectCode.UNREADABLE),
    "device": (lambda path: path.symlink_to("/dev/zero"), RejectCode.UNREADABLE),  # has no end
    "empty": (Path.touch, RejectCode.EMPTY_FILE),
    "text": (text, RejectCode.NOT_A_VIDEO),
    "one_byte": (lambda path: path.write_bytes(b"x"), RejectCode.NOT_A_VIDEO),
    "random": (lambda path: path.write_bytes(os.urandom(50_000)), RejectCode.NOT_A_VIDEO),
    "image": (image, RejectCode.NOT_A_VIDEO),
    "moov_missing": (moov_missing, RejectCode.NOT_A_VIDEO),
    "playlist": (playlist, RejectCode.NOT_A_VIDEO),  # would open another file
    "concat": (concat_script, RejectCode.NOT_A_VIDEO),  # would open another file
    "audio_only": (audio_only, RejectCode.NO_VIDEO_STREAM),
    "cover_art": (cover_art, RejectCode.NO_VIDEO_STREAM),
    "unknown_codec": (unknown_codec, RejectCode.UNSUPPORTED_CODEC),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_bad_file_is_rejected_with_its_code(kind: str, tmp_path: Path) -> None:
    make, code = BAD_FILES[kind]
    path = tmp_path / "bad.mp4"
    make(path)
    with pytest.raises(VideoRejectedError) as rejection:
        VideoReader(str(path))
    assert rejection.value.code == code
    assert rejection.value.detail
    assert "\n" not in rejection.value.detail


@pytest.mark.parametrize(
    ("make", "only"), [(audio_only, "only audio"), (cover_art, "only a cover picture and audio")]
)
def test_a_file_without_video_is_rejected_with_its_content(
    make: Callable[[Path], object], only: str, tmp_path: Path
) -> None:
    make(tmp_path / "bad.mp4")
    with pytest.raises(VideoRejectedError, match=f"the file has no video stream, {only}$"):
        VideoReader(str(tmp_path / "bad.mp4"))


def test_a_uri_nobody_can_read_is_rejected_and_not_a_crash() -> None:
    with pytest.raises(VideoRejectedError) as rejection:
        VideoReader("gopher://host/video.mp4")
    assert rejection.value.code == RejectCode.UNREADABLE


@pytest.mark.parametrize(
    "name",
    ["ü ñ 漢字.mp4", "a:b.mp4", "http:%2F%2Fx.mp4", "50% #1.mp4", "-dash.mp4", "new\nline.mp4", "none"],
)
def test_strange_names_are_just_names(name: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", VideoRecipe()).rename(tmp_path / name)
    with VideoReader(str(path)) as reader:
        assert reader.read_run(Run(key=0, offsets=(0,))) is not None


def test_a_relative_name_that_looks_like_a_protocol_is_just_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "v.mp4", VideoRecipe()).rename("concat:a|b.mp4")
    with VideoReader("concat:a|b.mp4") as reader:
        assert len(reader.index) == 60


def test_a_name_that_is_not_utf8_is_just_a_name(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/bad\xff.mp4"
    os.rename(write_video(tmp_path / "v.mp4", VideoRecipe()), path)
    with VideoReader(storage.local_uri(os.fsdecode(path))) as reader:
        assert len(reader.index) == 60


def test_the_first_moving_picture_is_taken(tmp_path: Path) -> None:
    """A file of two video streams, of 160x96 and 80x48 pixels."""
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", rate=25) for _ in range(2)]
        for stream, (width, height) in zip(streams, [(160, 96), (80, 48)], strict=True):
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(20):
            frame = av.VideoFrame.from_ndarray(numbered_frame(number, size=(160, 96)), format="rgb24")
            for stream in streams:
                scaled = frame.reformat(width=stream.width, height=stream.height, format="yuv420p")
                scaled.pts = number
                container.mux(stream.encode(scaled))
        for stream in streams:
            container.mux(stream.encode(None))
    with VideoReader(str(path)) as reader:
        assert len(reader.index) == 20
        batch = reader.read_run(Run(key=0, offsets=(0, 1, 2)))
    assert batch is not None
    assert batch.rgb.shape == (3, 96, 160, 3)
    assert [frame_number(frame) for frame in batch.rgb] == [0, 1, 2]


class FailingFile(FileIO):
    """A file that can only be read up to ``limit``, as when the network goes away."""

    limit = 1 << 40

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() >= FailingFile.limit:
            raise OSError(5, "the storage went away")
        return super().read(size) or b""


def read_last_run(reader: VideoReader) -> object:
    return reader.read_run(Run(key=int(reader.index.keys[-1]), offsets=(0, 1)))


@pytest.fixture
def noisy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A video larger than what is read ahead, on storage that can fail."""

    def noise(number: int) -> np.ndarray:
        return np.random.default_rng(number).integers(0, 255, (96, 160, 3), dtype=np.uint8)

    path = write_video(tmp_path / "v.mkv", VideoRecipe(num_frames=100), draw=noise)
    assert path.stat().st_size > 400_000
    monkeypatch.setattr(storage, "open_input", FailingFile)
    return path


@pytest.mark.parametrize("use", [read_last_run, lambda reader: list(reader.read_onwards())])
def test_storage_that_fails_on_the_way_rejects_the_video(
    use: Callable[[VideoReader], object], noisy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with VideoReader(str(noisy)) as reader:
        monkeypatch.setattr(FailingFile, "limit", 100_000)
        with pytest.raises(VideoRejectedError, match="unreadable: the storage went away"):
            use(reader)


def test_storage_that_fails_at_once_rejects_the_video(noisy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FailingFile, "limit", 100_000)
    with pytest.raises(VideoRejectedError, match="unreadable: the storage went away"):
        VideoReader(str(noisy))


def test_a_closed_reader_has_closed_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[FileIO] = []

    def open_input(uri: str) -> FileIO:
        opened.append(FileIO(uri))
        return opened[-1]

    monkeypatch.setattr(storage, "open_input", open_input)
    path = write_video(tmp_path / "v.mp4", VideoRecipe())
    with VideoReader(str(path)):
        assert not opened[0].closed
    assert opened[0].closed
    path.write_bytes(b"no video at all")
    with pytest.raises(VideoRejectedError):
        VideoReader(str(path))
    assert opened[1].closed
