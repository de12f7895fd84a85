"""An archive as large as DFDM: does the memory stay flat, and do kills at random change the table?

``python benchmarks/soak.py`` makes 6,450 short videos in DFDM's layout and scores them on a local Ray three
times: the first 500, all of them untouched, and all of them while the driver is killed every few minutes and
started again.
"""

import argparse
import json
import platform
import random
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil
from memory import Memory, Watch
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support import faults, killed

from dfdm_ray import assets
from dfdm_ray.labels import DFDM_TAGS, GENERATORS
from dfdm_ray.models.checkpoint import Preprocessing, random_model, save_checkpoint
from dfdm_ray.models.dma_sta import DmaStaConfig

_QUALITIES = (0, 10, 23)
_IDENTITIES = 20
_LARGEST_GROWTH = 0.1


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
    """Videos decoded more than once, over all."""
    peak: Memory


def make_archive(folder: Path, num_videos: int) -> None:
    """Write short videos of faces as DFDM names and files them."""
    flat = folder.with_name("flat")
    names = faults.write_archive(flat, assets.get("carphone_pristine.mp4"), num_videos=num_videos)
    pairs = [(a, b) for a in range(_IDENTITIES) for b in range(_IDENTITIES) if a != b]
    for number, name in enumerate(names):
        rest, kind = divmod(number, len(GENERATORS))
        rest, quality = divmod(rest, len(_QUALITIES))
        scene, pair = divmod(rest, len(pairs))
        generator, (target, source) = GENERATORS[kind], pairs[pair]
        place = folder / f"DFDM_crf{_QUALITIES[quality]}" / str(generator)
        place.mkdir(parents=True, exist_ok=True)
        tag = DFDM_TAGS[generator]
        (flat / name).rename(place / f"id{target}_id{source}_{scene:04d}_{tag}.mp4")


def run(
    root: Path, name: str, manifest: Path, rng: random.Random | None, every_s: tuple[float, float]
) -> Outcome:
    """Score the videos of ``manifest``; kill the driver at random times that ``rng`` gives, if any."""
    out, log = root / name, root / f"{name}.log"
    command = ["score", "--manifest", str(manifest), "--checkpoint", str(root / "tiny.pt"), "--out", str(out)]
    workers = ["--resources.decode-workers", "1", "--resources.model-workers", "1"]
    started, kills, peaks = time.monotonic(), 0, []
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
    )


def require_same(root: Path, first: str, second: str) -> None:
    """Raise unless two runs wrote the same table."""
    left, right = faults.read(root / first), faults.read(root / second)
    assert faults.answers(left).equals(faults.answers(right)), "the tables differ"
    for column in ("logits", "probabilities"):
        pairs = zip(left[column].to_pylist(), right[column].to_pylist(), strict=True)
        assert all(np.allclose(one, other, atol=1e-4) for one, other in pairs), column


def show(outcomes: list[Outcome], console: Console) -> None:
    """Print the table."""
    table = Table(*("run", "videos", "scored", "rejected", "kills", "seconds", "first row after s"))
    for heading in ("decoded again", "processes, MiB", "object store, MiB"):
        table.add_column(heading)
    for one in outcomes:
        sizes = (one.peak.processes, one.peak.object_store)
        table.add_row(
            *(one.name, str(one.videos), str(one.scored), str(one.rejected), str(one.kills)),
            *(f"{one.seconds:.0f}", f"{one.first_row_s:.1f}", f"{one.again:.1%}"),
            *(f"{size / 2**20:.0f}" for size in sizes),
        )
    console.print(table)


def grown(few: Outcome, many: Outcome) -> dict[str, float]:
    """Return by which share the peaks of the long run are above those of the short one."""
    names = ("processes", "object_store")
    return {name: getattr(many.peak, name) / getattr(few.peak, name) - 1 for name in names}


def main() -> None:
    """Make the archive, run it three times, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=6450)
    parser.add_argument("--few", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kill-after", type=float, nargs=2, default=(60.0, 240.0), help="seconds")
    options = parser.parse_args()
    console, outcomes = Console(width=160), []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_archive(root / "archive", options.videos)
        model = random_model(DmaStaConfig(backbone="resnet10", num_frames=10), seed=0)
        settings = Preprocessing(crop_size=112)
        save_checkpoint(
            root / "tiny.pt", model, classes=GENERATORS, preprocessing=settings, note="random weights"
        )
        plan(root, options.few)
        every_s = tuple(options.kill_after)
        for name, manifest, rng in (
            ("few", root / "few.parquet", None),
            ("all", root / "all.parquet", None),
            ("killed", root / "all.parquet", random.Random(options.seed)),
        ):
            outcomes.append(run(root, name, manifest, rng, every_s))
            show(outcomes[-1:], console)
        require_same(root, "all", "killed")
    memory = grown(outcomes[0], outcomes[1])
    machine = f"{platform.machine()}, {psutil.cpu_count()} CPUs"
    console.print(f"{machine}; {' '.join(sys.argv)}; one run of each")
    show(outcomes, console)
    growth = ", ".join(f"{name} {share:+.1%}" for name, share in memory.items())
    console.print(f"tables of all and killed: the same. Peak of all against few: {growth}")
    out = Path("build/bench")
    out.mkdir(parents=True, exist_ok=True)
    content = {"command": sys.argv, "machine": machine, "rows": [asdict(one) for one in outcomes]}
    (out / "soak.json").write_text(json.dumps(content, indent=2))
    sys.exit(any(share > _LARGEST_GROWTH for share in memory.values()))


def plan(root: Path, few: int) -> None:
    """Write the manifest of all videos, and that of the first ones."""
    import pyarrow.parquet as pq

    from dfdm_ray.manifest.build import build_manifest

    table = build_manifest(str(root / "archive")).table
    pq.write_table(table, root / "all.parquet")
    pq.write_table(table.slice(0, few), root / "few.parquet")


if __name__ == "__main__":
    main()
