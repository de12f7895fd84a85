"""What generate takes from a decoding process, which a file may have taken over."""

import io
import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dfdm_ray import assets
from dfdm_ray.clips.isolation import ChildLostError
from dfdm_ray.config import FaceConfig
from dfdm_ray.errors import RejectCode, VideoRejectedError
from dfdm_ray.io.lending import Files
from dfdm_ray.jobs.generate import decoding
from dfdm_ray.jobs.generate.decoding import FindFaces, ReadScene, scene_of, take_faces

SIZE = 64


@pytest.mark.slow
def test_a_decoding_process_gives_what_this_process_would(carphone: Path, sky: Path) -> None:
    weights = assets.get("retinaface-mobilenet0.25.onnx").read_bytes()
    here = FindFaces(FaceConfig(), weights, size_px=SIZE, max_frames=20, smoothing=1.0)
    here.start()
    child = decoding.finder(FaceConfig(), weights, size_px=SIZE, max_frames=20, smoothing=1.0)
    one, other = io.BytesIO(), io.BytesIO()
    mine = take_faces(here.answer(Files([str(carphone)])), one, size_px=SIZE)
    theirs = take_faces(child.pieces(str(carphone)), other, size_px=SIZE)
    assert one.getvalue() == other.getvalue()
    assert len(one.getvalue()) > 20 * SIZE * SIZE * 3
    np.testing.assert_array_equal(mine.landmarks, theirs.landmarks)
    with pytest.raises(VideoRejectedError, match="no_face"):
        take_faces(child.pieces(str(sky)), io.BytesIO(), size_px=SIZE)
    span = range(10, 30)
    scenes = (
        scene_of(ReadScene().answer(Files([str(carphone)]), span, None)),
        scene_of(decoding.scene_reader().pieces(str(carphone), span, None)),
    )
    assert scenes[0][1:] == scenes[1][1:]
    for mine_, theirs_ in zip(scenes[0].frames, scenes[1].frames, strict=True):
        np.testing.assert_array_equal(mine_.rgb, theirs_.rgb)
        np.testing.assert_array_equal(mine_.pts_s, theirs_.pts_s)
    assert {"limits"} <= {*child.layers}
    decoding.end_processes()


def faces(pieces: list[bytes]) -> object:
    return take_faces(pieces, io.BytesIO(), size_px=SIZE)


def frames(pieces: list[bytes]) -> object:
    return list(scene_of(pieces).frames)


RATES = b"h" + struct.pack("<4q", 1, 25, 25, 1)
NONSENSE: list[tuple[Callable[[list[bytes]], object], list[bytes]]] = [
    (faces, []),
    (faces, [b"f" + bytes(SIZE * SIZE * 3)]),  # no subject
    (faces, [b"f123"]),
    (faces, [b"snot numpy"]),
    (faces, [b"!not json"]),
    (faces, [b"!" + json.dumps(["because", "so"]).encode()]),
    (frames, []),
    (frames, [b"h123"]),
    (frames, [b"h" + struct.pack("<4q", 1, 0, 25, 1)]),
    (frames, [RATES, b"p123"]),
    (frames, [RATES, b"p" + struct.pack("<dII", 0.0, 10, 10) + bytes(299)]),
]


@pytest.mark.parametrize(("take", "pieces"), NONSENSE)
def test_pieces_that_are_nonsense_cost_the_video(
    take: Callable[[list[bytes]], object], pieces: list[bytes]
) -> None:
    with pytest.raises(ChildLostError) as lost:
        take(pieces)
    assert lost.value.code == RejectCode.CRASHED
