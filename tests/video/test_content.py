from collections.abc import Callable
from pathlib import Path

import pytest
from support.videos import VideoRecipe, write_video

from dfdm_ray.errors import RejectCode, VideoRejectedError
from dfdm_ray.video.content import content_of
from dfdm_ray.video.decode import VideoReader

HEADS = {
    b"GIF89a\xa0\x00": "a GIF picture",
    b"\x89PNG\r\n\x1a\n": "a PNG picture",
    b"\xff\xd8\xff\xe0\x00\x10JFIF": "a JPEG picture",
    b"RIFF\x24\x00\x00\x00WEBPVP8 ": "a WebP picture",
    b"RIFF\x24\x00\x00\x00WAVEfmt ": "a WAV sound file",
    b"ID3\x04\x00": "an MP3 sound file",
    b"fLaC\x00": "a FLAC sound file",
    b"PK\x03\x04\x14\x00": "a zip archive",
    b"a.mp4".ljust(257, b"\0") + b"ustar\x0000": "a tar archive",
    b"%PDF-1.7\n\xe2\xe3\x00": "a PDF document",
    b"YUV4MPEG2 W160 H96\n": "a video in a container that is not read (y4m, RealMedia or Flash)",
    b"\n<!DOCTYPE html><title>Sign in</title>": "a web page, as if the download had failed",
    b"version https://git-lfs.github.com/spec": "a Git LFS pointer; fetch its video with `git lfs pull`",
    b"#EXTM3U\n#EXT-X-TARGETDURATION:9": "a playlist",
    b"\xef\xbb\xbfWEBVTT\n\n": "subtitles",
    b"1\r\n00:00:01,000 --> 00:00:02,000\r\nHello": "subtitles",
    '{"error": "nicht gefunden: Fälschung"}'.encode(): "a text file",
    "hello".encode("utf-16"): "a text file",
    bytes(512): "zeros at least at its start, as if a download had not ended",
    b"\x00\x00\x00\x20ftypisom": "an mp4 or mov without a readable index (moov), as if cut off",
    b"\x17\x00\x9c\x01text": None,
    b"R\x00\x01": None,
}


@pytest.mark.parametrize(("head", "kind"), HEADS.items())
def test_a_file_is_named_by_its_first_bytes(head: bytes, kind: str | None) -> None:
    assert content_of(head) == kind


def gif(path: Path) -> None:
    recipe = VideoRecipe(codec="gif", pix_fmt="rgb8", options={})
    write_video(path.with_suffix(".gif"), recipe).rename(path)


def avif(path: Path) -> None:
    recipe = VideoRecipe(codec="libsvtav1", options={}, num_frames=1)
    write_video(path.with_suffix(".avif"), recipe).rename(path)


FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "animated GIF": (gif, "the file is a GIF picture"),
    "AVIF": (avif, "the file is a HEIF or AVIF picture"),
    "text": (lambda path: path.write_text("not a video\n" * 100), "the file is a text file"),
    "unknown": (
        lambda path: path.write_bytes(bytes(range(1, 256)) * 9),
        "the file has no known container of videos (FFmpeg: Invalid data found when processing input)",
    ),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_no_video_is_rejected_as_what_it_is(kind: str, tmp_path: Path) -> None:
    make, detail = FILES[kind]
    make(tmp_path / "v.mp4")
    with pytest.raises(VideoRejectedError) as rejection:
        VideoReader(str(tmp_path / "v.mp4"))
    assert (rejection.value.code, rejection.value.detail) == (RejectCode.NOT_A_VIDEO, detail)
