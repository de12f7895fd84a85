import hashlib
import io
from pathlib import Path

import pytest
from support.recipes import write

from dfdm_ray.errors import VideoRejectedError
from dfdm_ray.io.lending import OpenedFile
from dfdm_ray.jobs.report.file_facts import facts_of, has_c2pa, sha256_of

PIXELS = 2**26
C2PA = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")


def box(kind: bytes, content: bytes) -> bytes:
    return (8 + len(content)).to_bytes(4, "big") + kind + content


def test_facts_of_a_video_are_those_it_was_made_with(tmp_path: Path) -> None:
    path = write(tmp_path, "with_sound.mp4")
    facts = facts_of(str(path), max_pixels=PIXELS)
    assert (facts["width_px"], facts["height_px"], facts["frame_rate_hz"]) == (160, 96, 25.0)
    assert (facts["num_frames"], facts["num_audio_streams"], facts["pixel_format"]) == (60, 1, "yuv420p")
    assert facts["codec"].startswith("H.264")
    assert "crf=18.0" in facts["encoder_settings"]
    assert facts["tags"]["encoder"].startswith("Lavf")
    with path.open("rb") as stream:
        assert sha256_of(stream) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_settings_of_x265_are_found_too_and_other_encoders_have_none(tmp_path: Path) -> None:
    assert "x265" in facts_of(str(write(tmp_path, "hevc.mp4")), max_pixels=PIXELS)["encoder_settings"]
    assert facts_of(str(write(tmp_path, "web.webm")), max_pixels=PIXELS)["encoder_settings"] is None


def test_a_file_that_is_no_video_has_no_facts(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"text")
    with pytest.raises(VideoRejectedError):
        facts_of(str(tmp_path / "a.mp4"), max_pixels=PIXELS)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (box(b"ftyp", b"isom") + box(b"uuid", C2PA + b"manifest") + box(b"mdat", b"x"), True),
        (box(b"ftyp", b"isom") + box(b"uuid", bytes(16) + b"other") + box(b"mdat", C2PA), False),
        # the size has 64 bits, before and in the box itself
        (box(b"ftyp", b"isom") + b"\0\0\0\1mdat" + (17).to_bytes(8, "big") + b"x" + box(b"uuid", C2PA), True),
        (box(b"ftyp", b"isom") + b"\0\0\0\1uuid" + (32).to_bytes(8, "big") + C2PA, True),
        (box(b"ftyp", b"isom") + b"\0\0\0\0mdat" + box(b"uuid", C2PA), False),  # mdat reaches to the end
        (box(b"ftyp", b"isom") + b"\0\0\0\3free", False),  # damaged
        (b"\x1aE\xdf\xa3" + C2PA, None),  # Matroska
        (b"", None),
    ],
)
def test_c2pa_is_looked_for_in_the_boxes_of_iso_files(content: bytes, expected: bool | None) -> None:
    assert has_c2pa(OpenedFile(io.BytesIO(content), len(content))) is expected
