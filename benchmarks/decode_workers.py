"""How long a decode worker of `score` takes for a video when every core has one, without Ray."""

import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
from floor import checkpoint
from same_work import load, spec_of

from dfdm_ray.clips.cut import load_detector
from dfdm_ray.clips.prepare_clips import PrepareClips
from dfdm_ray.config import FaceConfig, LimitsConfig
from dfdm_ray.engine.shares import file_limits
from dfdm_ray.schemas import MANIFEST, SCORED

_BLOCK = 8


def seconds_of_a_video(videos: Mapping[int, Sequence[Path]], *, rounds: int) -> dict[int, list[float]]:
    """Return wall seconds of one worker for a video, by crf, once for each of ``rounds``.

    Each worker decodes in a process of its own, as ``score`` does; its rows are made, its crops stay.
    """
    spec = spec_of(load(str(checkpoint("resnet50"))))
    _, weights = load_detector(FaceConfig())
    count = os.cpu_count() or 1
    limits = file_limits(LimitsConfig(), {}, workers=count)
    workers = [
        PrepareClips(faces=FaceConfig(), spec=spec, weights=lambda: weights, **limits) for _ in range(count)
    ]
    seconds: dict[int, list[float]] = {crf: [] for crf in videos}
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(_run, workers, [_block(videos[23])] * count))  # starts the processes
        for _ in range(rounds):
            for crf, paths in videos.items():
                block = _block(paths)
                started = time.monotonic()
                list(pool.map(_run, workers, [block] * count))
                seconds[crf].append((time.monotonic() - started) / block.num_rows)
    return seconds


def _block(paths: Sequence[Path]) -> pa.Table:
    uris = [str(paths[number % len(paths)].absolute()) for number in range(_BLOCK)]
    rows = [
        {**dict.fromkeys(MANIFEST.names), "video_id": uri, "uri": uri, "size_bytes": os.path.getsize(uri)}
        for uri in uris
    ]
    return pa.Table.from_pylist(rows, schema=MANIFEST)


def _run(worker: PrepareClips, block: pa.Table) -> None:
    statuses = set(worker(block)["status"].to_pylist())
    if statuses != {SCORED}:
        raise SystemExit(f"videos of the benchmark were not all prepared: {statuses}")
