"""Four people of the demo: three in videos of public packages, one in a photograph that is moved.

The photograph of Grace Hopper (US Navy, public domain) is part of matplotlib. She does not blink or speak:
the scenes of her show what turning, zooming and shifting a picture shows, and no more.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from fractions import Fraction
from importlib.resources import files
from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np

from dfdm_ray import assets
from dfdm_ray.io import storage
from dfdm_ray.io.images import Image
from dfdm_ray.video.decode import VideoReader
from dfdm_ray.video.encode import QualityWriter

KNOWN = ("driver", "woman")
"""The pair whose networks the model learns from."""
UNSEEN = ("admiral", "man")
"""The pair that only the test has: neither person nor network is in training."""

IDS = {name: f"id{number}" for number, name in enumerate(sorted((*KNOWN, *UNSEEN)))}
"""Ids that ``generate`` gives the people."""

_PHOTO = "mpl-data/sample_data/grace_hopper.jpg"
_PHOTO_FRAMES, _PHOTO_PX, _PHOTO_CENTRE = 48, 480, (256, 235)
_WOMAN = range(232, 352)
"""Frames in which no hand covers her face."""
_CRF = 10


def write_people(root: Path) -> str:
    """Write the list of people and their videos below ``root``; return its path."""
    woman, moved = root / "people" / "woman.mp4", root / "people" / "admiral.mp4"
    if not woman.exists():
        with VideoReader(str(assets.get("WolfgangLanger_Pexels.mp4"))) as reader:
            frames = islice(reader.read_onwards(), _WOMAN.start, _WOMAN.stop)
            _write(woman, [frame.rgb[0] for frame in frames], reader.rate)
    if not moved.exists():
        photo = np.frombuffer(files("matplotlib").joinpath(_PHOTO).read_bytes(), np.uint8)
        rgb = np.asarray(cv2.imdecode(photo, cv2.IMREAD_COLOR_RGB), np.uint8)
        _write(moved, [*moved_photo(rgb)], Fraction(24))
    videos = (
        ("driver", assets.get("carphone_pristine.mp4")),
        ("woman", woman),
        ("man", assets.get("single_face.mp4")),
        ("man", assets.get("face_noface.mov")),
        ("admiral", moved),
    )
    listed = io.StringIO()
    csv.writer(listed).writerows((("identity", "video"), *((name, path.absolute()) for name, path in videos)))
    storage.write_atomic(str(root / "people.csv"), listed.getvalue().encode())
    return str(root / "people.csv")


def moved_photo(photo: Image) -> Iterator[Image]:
    """Yield frames in which a photograph, ``(H, W, 3)``, turns, zooms and shifts a little; all differ."""
    for time in np.linspace(0, 2 * np.pi, _PHOTO_FRAMES, endpoint=False):
        turned = cv2.getRotationMatrix2D(_PHOTO_CENTRE, 4 * np.sin(2 * time), 0.95 + 0.06 * np.sin(3 * time))
        turned[0, 2] += _PHOTO_PX / 2 - _PHOTO_CENTRE[0] + 14 * np.sin(time)
        turned[1, 2] += _PHOTO_PX / 2 - _PHOTO_CENTRE[1] - 20 + 9 * np.cos(time)
        frame = cv2.warpAffine(photo, turned, (_PHOTO_PX, _PHOTO_PX), borderMode=cv2.BORDER_REFLECT)
        yield frame.astype(np.uint8)


def _write(path: Path, frames: Sequence[Image], rate: Fraction) -> None:
    height, width = frames[0].shape[:2]
    with QualityWriter(
        {_CRF: path}, size=(width, height), time_base=1 / rate, rate=rate, metadata={}
    ) as writer:
        for number, rgb in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts = number
            writer.write(frame)
