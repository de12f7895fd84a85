"""DFDM-like videos: 942x500, 30 frames a second, 300 to 400 frames, key frames 250 apart, crf 0, 10 and 23.

The faces are those of the demo media, played forward and backward, scaled up and sharpened so that the files
are about as large as DFDM's: 25, 11 and 2 MB on average at crf 0, 10 and 23 (82 GB, 6,450 videos; Jia, Li,
Lyu, ICIP 2022).
"""

import itertools
import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt

from dfdm_ray import assets
from dfdm_ray.labels import QUALITIES
from dfdm_ray.video.encode import QualityWriter

SIZE = (942, 500)
_SOURCES = ("WolfgangLanger_Pexels.mp4", "single_face.mp4")
_NUM_FRAMES = (300, 400, 333, 366)
_SHARPEN = 1.0
"""Chosen by file size: 0 gives 1 MB at crf 23 and 27 MB at crf 0; 2 gives 2 MB and 45 MB."""

Frame = npt.NDArray[np.uint8]


def originals(folder: Path, *, num_scenes: int) -> dict[int, list[Path]]:
    """Return ``num_scenes`` videos of each quality by crf; missing ones are made."""
    scenes = range(num_scenes)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        made = list(pool.map(_make_scene, itertools.repeat(folder), scenes))
    return {crf: [paths[crf] for paths in made] for crf in QUALITIES}


def archive(folder: Path, videos: Mapping[int, Sequence[Path]], *, num_videos: int) -> Path:
    """Return a folder of ``num_videos`` hard links to ``videos``, with the qualities in turn."""
    root = folder / f"archive_{num_videos}"
    root.mkdir(parents=True, exist_ok=True)
    for number in range(num_videos):
        crf = list(videos)[number % len(videos)]
        source = videos[crf][number // len(videos) % len(videos[crf])]
        name = root / f"{number:05d}_{source.name}"
        if not name.exists():
            os.link(source, name)
    return root


def sizes_mb(videos: Mapping[int, Sequence[Path]]) -> dict[int, float]:
    """Return the mean file size by crf, MB."""
    return {crf: statistics.mean(p.stat().st_size for p in paths) / 1e6 for crf, paths in videos.items()}


def _make_scene(folder: Path, number: int) -> dict[int, Path]:
    paths = {crf: folder / f"scene{number}_crf{crf}.mp4" for crf in QUALITIES}
    if all(path.exists() for path in paths.values()):
        return paths
    cv2.setNumThreads(1)
    rate = Fraction(30)
    with QualityWriter(paths, size=SIZE, time_base=1 / rate, rate=rate, metadata={}) as writer:
        for pts, picture in enumerate(_pictures(number)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = pts
            writer.write(frame)
    return paths


def _pictures(number: int) -> Iterator[Frame]:
    """Yield the frames of a scene; every second pair of scenes is mirrored."""
    with av.open(str(assets.get(_SOURCES[number % len(_SOURCES)]))) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    there_and_back = itertools.cycle([*frames, *frames[-2:0:-1]])
    start = 40 * (number // (2 * len(_SOURCES)))
    count = _NUM_FRAMES[number % len(_NUM_FRAMES)]
    for frame in itertools.islice(there_and_back, start, start + count):
        large = cv2.resize(frame, SIZE, interpolation=cv2.INTER_CUBIC)
        blurred = cv2.GaussianBlur(large, (0, 0), 2)
        sharp = cv2.addWeighted(large, 1 + _SHARPEN, blurred, -_SHARPEN, 0)
        mirrored = number // len(_SOURCES) % 2
        yield np.ascontiguousarray(sharp[:, ::-1] if mirrored else sharp, dtype=np.uint8)
