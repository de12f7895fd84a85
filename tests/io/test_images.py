import struct
import zlib

import cv2
import numpy as np
import pytest

from dfdm_ray.io.images import PNG_HEADER_BYTES, png, png_size, read_png

RED = np.zeros((4, 6, 3), np.uint8)
RED[..., 0] = 255


def test_a_picture_comes_back_bit_for_bit_and_in_the_same_order_of_colours() -> None:
    noise = np.random.randint(0, 256, (33, 20, 3), np.uint8)
    assert np.array_equal(read_png(png(noise)), noise)
    blue_green_red = cv2.imdecode(np.frombuffer(png(RED), np.uint8), cv2.IMREAD_COLOR)
    assert blue_green_red[0, 0].tolist() == [0, 0, 255]  # OpenCV's own order: red is last


@pytest.mark.parametrize(
    "stored",
    [
        np.full((4, 6), 200, np.uint8),  # grey
        np.full((4, 6, 4), 200, np.uint8),  # with alpha
        np.full((4, 6, 3), 200 * 257, np.uint16),  # 16 bit
    ],
)
def test_pictures_of_other_kinds_are_read_as_8_bit_rgb(stored: np.ndarray) -> None:
    content = cv2.imencode(".png", stored)[1].tobytes()
    assert np.array_equal(read_png(content), np.full((4, 6, 3), 200, np.uint8))


@pytest.mark.parametrize("kind", ["empty", "text", "cut", "end cut off", "a flipped bit"])
def test_a_damaged_picture_is_never_half_read(kind: str) -> None:
    whole = png(np.random.randint(0, 256, (64, 64, 3), np.uint8))
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    damaged = {
        "empty": b"",
        "text": b"no picture",
        "cut": whole[: len(whole) // 2],
        "end cut off": whole[:-14],
        "a flipped bit": bytes(flipped),
    }
    with pytest.raises(ValueError, match=r"an empty file|not an image that OpenCV can decode"):
        read_png(damaged[kind])


@pytest.mark.parametrize("side", [2**16, 2**20])
def test_a_picture_that_says_it_is_huge_is_refused_without_its_memory(side: int) -> None:
    small = png(np.zeros((8, 8, 3), np.uint8))
    header = b"IHDR" + struct.pack(">II", side, side) + small[24:29]
    huge = small[:12] + header + struct.pack(">I", zlib.crc32(header)) + small[33:]
    with pytest.raises(ValueError, match="OpenCV"):
        read_png(huge)


def test_the_header_of_a_png_file_tells_its_size_and_that_of_no_other_file_does() -> None:
    header = png(RED)[:PNG_HEADER_BYTES]
    assert png_size(header) == (6, 4)
    for other in (b"", header[:-1], b"GIF89a" + header, header[:16] + bytes(8)):
        with pytest.raises(ValueError, match="PNG file"):
            png_size(other)
