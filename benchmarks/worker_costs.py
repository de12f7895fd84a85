"""What a decode worker of `dfdm-ray score` costs: seconds for a video, bytes and requests to its storage.

The seconds are wall time while every CPU has a decode worker, without Ray. The bytes and requests are those
that the default frame plan causes if the file is in an object store; the files are read from this disk.
``scale_formula.py`` predicts the throughput of a cluster from these figures.

python benchmarks/worker_costs.py [--quick] [--repeats 5]
"""

import io
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa
from corpus import originals, sizes_mb
from floor import checkpoint, planned
from report import OUT, Table, parser, save, show, spread
from same_work import load, spec_of

from dfdm_ray.clips.child import CutVideos
from dfdm_ray.clips.cut import load_detector
from dfdm_ray.clips.stage import MakeClips
from dfdm_ray.config import FaceConfig, LimitsConfig
from dfdm_ray.engine.shares import file_limits
from dfdm_ray.io import storage
from dfdm_ray.io.object_store import RemoteFile
from dfdm_ray.schemas import MANIFEST, SCORED
from dfdm_ray.video.decode import VideoReader

_BLOCK = 8


class CountedObject:
    """A local file that is read like an object in a store, with its bytes and requests counted."""

    def __init__(self) -> None:
        self.bytes_read, self.requests = 0, 2  # `score` first asks for existence and size

    def open(self, uri: str) -> BinaryIO:
        """Return ``uri`` opened as a remote file."""
        self._content = Path(uri).read_bytes()
        return cast(BinaryIO, io.BufferedReader(RemoteFile(cast(Any, self)), storage.READ_AHEAD_BYTES))

    def size(self) -> int:
        """Return the object's size, bytes."""
        return len(self._content)

    def read_at(self, count: int, start: int) -> bytes:
        """Return ``count`` bytes from ``start``."""
        content = self._content[start : start + count]
        self.bytes_read += len(content)
        self.requests += 1
        return content

    def close(self) -> None:
        """Do nothing: the content is in memory."""


def reading(path: Path) -> tuple[int, int]:
    """Return the bytes and requests of decoding ``path`` with the default frame plan."""
    opened, counted = storage.open_input, CountedObject()
    storage.open_input = counted.open
    try:
        with VideoReader(str(path)) as reader:
            for batch in reader.read_planned(planned(reader.index), flexible=True):
                assert len(batch.rgb)
    finally:
        storage.open_input = opened
    return counted.bytes_read, counted.requests


def seconds_of_a_video(videos: Mapping[int, Sequence[Path]], *, rounds: int) -> dict[int, list[float]]:
    """Return the wall seconds that one worker takes for a video, by crf, one value per round.

    Each worker decodes in a child process, as in ``score``, and builds its rows; nothing leaves the worker.
    """
    spec = spec_of(load(str(checkpoint("resnet50"))))
    _, weights = load_detector(FaceConfig())
    count = os.cpu_count() or 1
    limits = file_limits(LimitsConfig(), {}, workers=count)
    work = CutVideos(faces=FaceConfig(), spec=spec, weights=weights)
    workers = [
        MakeClips(work=work, detector=FaceConfig.detector, shape=spec.shape, **limits) for _ in range(count)
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


def _run(worker: MakeClips, block: pa.Table) -> None:
    statuses = set(worker(block)["status"].to_pylist())
    if statuses != {SCORED}:
        raise SystemExit(f"not all videos of the benchmark were prepared; their statuses: {statuses}")


def table_of(content: Mapping[str, Any]) -> Table:
    """Return the table of what this benchmark wrote as JSON."""
    costs = content["costs"].values()
    rows = [
        ["decode worker on each CPU, ms", *(spread([1000 * s for s in one["seconds"]]) for one in costs)],
        ["MB read", *(f"{one['read_mb']:.1f}" for one in costs)],
        ["requests", *(f"{one['requests']:g}" for one in costs)],
    ]
    sizes = [f"crf {crf} ({one['size_mb']:.1f} MB)" for crf, one in content["costs"].items()]
    return Table(title="Cost of a decode worker", headings=["per video", *sizes], rows=rows)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--quick", action="store_true", help="two scenes, one repeat")
    options.add_argument("--repeats", type=int, default=5)
    args = options.parse_args()
    repeats = 1 if args.quick else args.repeats
    videos = originals(OUT / "corpus", num_scenes=2 if args.quick else 4)
    seconds, sizes = seconds_of_a_video(videos, rounds=repeats), sizes_mb(videos)
    costs = {}
    for crf, paths in videos.items():
        read_bytes, requests = zip(*map(reading, paths), strict=True)
        read = {"read_mb": statistics.mean(read_bytes) / 1e6, "requests": statistics.mean(requests)}
        costs[str(crf)] = {"seconds": seconds[crf], "size_mb": sizes[crf], **read}
    content = {"repeats": repeats, "costs": costs}
    show(table_of(content), repeats=f"medians of {repeats}")
    save("worker_costs", **content)


if __name__ == "__main__":
    main()
