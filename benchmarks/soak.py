"""Memory and results of scoring as many videos as DFDM has, with and without random kills.

The benchmark makes 6,450 short videos in DFDM's layout and scores them on a local Ray three times: the first
500; all; and all while the driver is killed every few minutes and started again. It compares the peak memory
of the first two runs and the tables of the last two.

Ray never returns a page of the object store, so its peak is the largest number of blocks that were ever in
progress at once, and a maximum over thirteen times as many blocks is larger. A growth that goes on would be a
fault: the second half of a run may add two blocks of crops.

python benchmarks/soak.py [--videos 6450] [--few 500] [--kill-after 60 240]
"""

import json
import random
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from memory import Memory, Watch
from report import Table, parser, save, show

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support import faults, killed
from support.checkpoints import write_untrained

from dfdm_ray import assets
from dfdm_ray.labels import DFDM_TAGS, GENERATORS, QUALITIES
from dfdm_ray.manifest.build import build_manifest

_IDENTITIES = 20
_LARGEST_GROWTH = 0.1
"""Fraction by which the peak memory of processes in the long run may exceed that in the short one."""
_FRAMES, _SIZE_PX = 10, 112
_LATE_BYTES = 2 * 8 * _FRAMES * _SIZE_PX**2 * 3
"""Bytes by which the object store may grow in the second half of a run: two blocks of eight videos."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One run."""

    name: str
    videos: int
    scored: int
    rejected: int
    kills: int
    seconds: float
    first_row_s: float
    again: float
    """Repeated openings of videos, as a fraction of all videos."""
    peak: Memory
    late_bytes: int
    """Growth of the object store in the second half."""


def make_archive(folder: Path, num_videos: int) -> None:
    """Write short videos of faces with the names and folders of DFDM."""
    flat = folder.with_name("flat")
    names = faults.write_archive(flat, assets.get("carphone_pristine.mp4"), num_videos=num_videos)
    pairs = [(a, b) for a in range(_IDENTITIES) for b in range(_IDENTITIES) if a != b]
    for number, name in enumerate(names):
        rest, kind = divmod(number, len(GENERATORS))
        rest, quality = divmod(rest, len(QUALITIES))
        scene, pair = divmod(rest, len(pairs))
        generator, (target, source) = GENERATORS[kind], pairs[pair]
        place = folder / f"DFDM_crf{QUALITIES[quality]}" / str(generator)
        place.mkdir(parents=True, exist_ok=True)
        tag = DFDM_TAGS[generator]
        (flat / name).rename(place / f"id{target}_id{source}_{scene:04d}_{tag}.mp4")


def run(
    root: Path, name: str, manifest: Path, rng: random.Random | None, every_s: tuple[float, float]
) -> Outcome:
    """Score the videos of ``manifest``; with ``rng``, kill the driver at random times within ``every_s``."""
    out, log = root / name, root / f"{name}.log"
    command = ["score", "--manifest", str(manifest), "--checkpoint", str(root / "tiny.pt"), "--out", str(out)]
    workers = ["--resources.decode-workers", "1", "--resources.model-workers", "1"]
    started, kills, peaks, late = time.monotonic(), 0, [], 0
    while True:
        variables = faults.environment(log)
        with killed.dfdm_ray(*command, *workers, variables=variables) as job, Watch(job) as watch:
            end = time.monotonic() + (rng.uniform(*every_s) if rng else float("inf"))
            while job.poll() is None and time.monotonic() < end:
                time.sleep(0.5)
            if over := job.poll() is not None:
                text = killed.finish(job)
            else:
                kills += 1
                killed.kill_driver(job, worker="MapWorker")
        peaks.append(watch.peak)
        store = [one.object_store for one in watch.samples]
        late = max(late, max(store, default=0) - max(store[: len(store) // 2], default=0)) if over else late
        if over:
            break
    (root / f"{name}.txt").write_text(text)
    rows, opened = faults.read(out), faults.openings(log)
    faults.require_whole(rows, faults.planned(out))
    record = json.loads((out / "run.json").read_text())
    return Outcome(
        name=name,
        videos=rows.num_rows,
        scored=faults.count(rows, "scored"),
        rejected=faults.count(rows, "rejected"),
        kills=kills,
        seconds=round(time.monotonic() - started, 1),
        first_row_s=record["runs"][-1]["seconds_to_first_row"],
        again=opened.total() / rows.num_rows - 1,
        peak=Memory(
            after_s=sum(peak.after_s for peak in peaks),
            processes=max(peak.processes for peak in peaks),
            object_store=max(peak.object_store for peak in peaks),
        ),
        late_bytes=late,
    )


def require_same(root: Path, first: str, second: str) -> None:
    """Raise unless both runs wrote the same table."""
    left, right = faults.read(root / first), faults.read(root / second)
    assert faults.answers(left).equals(faults.answers(right)), "the tables differ"
    for column in ("logits", "probabilities"):
        pairs = zip(left[column].to_pylist(), right[column].to_pylist(), strict=True)
        assert all(np.allclose(one, other, atol=1e-4) for one, other in pairs), column


def table_of(outcomes: list[Outcome], remark: str) -> Table:
    headings = ["run", "videos", "scored", "rejected", "kills", "seconds", "first row after s"]
    headings += ["decoded again", "processes, MiB", "object store, MiB", "in the second half, MiB"]
    rows = [
        [
            *(one.name, str(one.videos), str(one.scored), str(one.rejected), str(one.kills)),
            *(f"{one.seconds:.0f}", f"{one.first_row_s:.1f}", f"{one.again:.1%}"),
            *(f"{size / 2**20:.0f}" for size in (one.peak.processes, one.peak.object_store, one.late_bytes)),
        ]
        for one in outcomes
    ]
    return Table(headings=headings, rows=rows, remark=remark)


def growth(few: Outcome, many: Outcome) -> dict[str, float]:
    """Return how far the peaks of the long run exceed those of the short one, as fractions."""
    names = ("processes", "object_store")
    return {name: getattr(many.peak, name) / getattr(few.peak, name) - 1 for name in names}


def write_manifests(root: Path, few: int) -> None:
    """Write the manifest of all videos and that of the first ``few``."""
    table = build_manifest(str(root / "archive")).table
    pq.write_table(table, root / "all.parquet")
    pq.write_table(table.slice(0, few), root / "few.parquet")


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--videos", type=int, default=6450)
    options.add_argument("--few", type=int, default=500)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--kill-after", type=float, nargs=2, default=(60.0, 240.0), help="seconds")
    args = options.parse_args()
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_archive(root / "archive", args.videos)
        write_untrained(root / "tiny.pt", backbone="resnet10", num_frames=_FRAMES, crop_size=_SIZE_PX)
        write_manifests(root, args.few)
        rng = random.Random(args.seed)
        for name, manifest, kills in (("few", "few", None), ("all", "all", None), ("killed", "all", rng)):
            print(name, flush=True)
            outcomes.append(run(root, name, root / f"{manifest}.parquet", kills, tuple(args.kill_after)))
            save("soak", rows=[asdict(one) for one in outcomes])
        require_same(root, "all", "killed")
    grown = growth(outcomes[0], outcomes[1])
    shares = ", ".join(f"{name} {share:+.1%}" for name, share in grown.items())
    remark = f"The tables of all and killed are the same. Peak of all compared with few: {shares}."
    show(table_of(outcomes, remark), repeats="one run of each")
    sys.exit(grown["processes"] > _LARGEST_GROWTH or any(one.late_bytes > _LATE_BYTES for one in outcomes))


if __name__ == "__main__":
    main()
