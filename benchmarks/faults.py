"""What a run loses, doubles and does again when something dies: nothing, nothing and little.

``python benchmarks/faults.py`` scores an archive once untouched and once with each fault, on local Rays and
on a cluster of three nodes, and compares. Each video takes ``--delay`` seconds longer than it would, so
that there is something to kill.
"""

import argparse
import json
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support import faults, killed
from support.flaky_s3 import KINDS, FlakyS3, client, serving

from dfdm_ray import assets
from dfdm_ray.labels import GENERATORS
from dfdm_ray.models.checkpoint import Preprocessing, random_model, save_checkpoint
from dfdm_ray.models.dma_sta import DmaStaConfig

_POOLS = {"decode": "MapWorker(MapBatches(PrepareClips))", "model": "MapWorker(MapBatches(AttributeClips))"}
_RESOURCES = ("--resources.decode-workers", "2", "--resources.model-workers", "1")


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What all cases share."""

    root: Path
    names: list[str]
    """Sound videos."""
    delay_s: float

    @property
    def videos(self) -> Path:
        """Folder of the archive."""
        return self.root / "videos"

    def command(self, case: str, *options: str, videos: str | None = None) -> list[str]:
        """Arguments of the command line for a case."""
        out = ["--out", str(self.root / case), "--checkpoint", str(self.root / "tiny.pt")]
        return ["score", "--videos", videos or str(self.videos), *out, *_RESOURCES, *options]

    def log(self, case: str) -> Path:
        """Where a case notes which videos it opens."""
        return self.root / f"{case}.log"

    def variables(self, case: str) -> dict[str, str]:
        """Environment in which the faults strike."""
        return faults.environment(self.log(case), delay_s=self.delay_s)

    def half_done(self, case: str) -> bool:
        """Whether half of the videos were opened and results are on disk."""
        begun = any((self.root / case / "predictions").glob("*.parquet"))
        return begun and faults.openings(self.log(case)).total() > len(self.names) // 2


@dataclass(kw_only=True)
class Outcome:
    """One line of the table."""

    case: str
    planned: int
    scored: int = 0
    rejected: int = 0
    missing: int = 0
    doubled: int = 0
    differing: int = 0
    """Sound videos with another answer than in the run without faults."""
    again: float = 0.0
    """Openings of sound videos beyond the first of each, over the videos."""
    seconds: float = 0.0
    survived: dict[str, int] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether every video has one row, that of the run without faults, and little was done again."""
        whole = self.planned == self.scored + self.rejected and not (self.missing or self.doubled)
        return whole and not self.differing and self.again < 0.1


def untouched(bench: Bench, case: str) -> None:
    with killed.dfdm_ray(*bench.command(case), variables=bench.variables(case)) as job:
        killed.finish(job)


def kill_one(pool: str) -> Callable[[Bench, str], None]:
    def run(bench: Bench, case: str) -> None:
        with killed.dfdm_ray(*bench.command(case), variables=bench.variables(case)) as job:
            killed.wait_until(lambda: bench.half_done(case), job)
            assert killed.kill_worker(job, _POOLS[pool])
            killed.finish(job)

    return run


def kill_driver(bench: Bench, case: str) -> None:
    command, variables = bench.command(case), bench.variables(case)
    with killed.dfdm_ray(*command, variables=variables) as job:
        killed.wait_until(lambda: bench.half_done(case), job)
        killed.kill_driver(job, worker="MapWorker")
    with killed.dfdm_ray(*command, variables=variables) as job:
        killed.finish(job)


def kill_raylet(bench: Bench, case: str) -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "env_vars": bench.variables(case)})
    try:
        node, _ = (cluster.add_node(num_cpus=2, env_vars=bench.variables(case)) for _ in range(2))
        address = ["--ray-address", cluster.address]
        with killed.dfdm_ray(*bench.command(case, *address), variables=bench.variables(case)) as job:
            killed.wait_until(lambda: bench.half_done(case), job)
            cluster.remove_node(node, allow_graceful=False)
            cluster.add_node(num_cpus=2, env_vars=bench.variables(case))
            killed.finish(job)
    finally:
        cluster.shutdown()


def poisoned(kind: str, number: int, *options: str) -> Callable[[Bench, str], None]:
    def run(bench: Bench, case: str) -> None:
        videos = bench.root / f"{case}-videos"
        shutil.copytree(bench.videos, videos)
        for copy in range(number):
            shutil.copy(videos / bench.names[copy], videos / f"{kind}_{copy}.mp4")
        command = bench.command(case, *options, videos=str(videos))
        with killed.dfdm_ray(*command, variables=bench.variables(case)) as job:
            killed.finish(job)

    return run


def failing_store(bench: Bench, case: str) -> None:
    # Few stalls: each holds a worker until the request times out, for 20 s.
    app = FlakyS3(share=0.0, kinds=(*KINDS[:2] * 4, "stall"), stall_s=30.0)
    with serving(app) as bucket:
        uri = bucket.format("videos")
        endpoint = f"http://{uri.split('endpoint_override=')[1].partition('&')[0]}"
        for name in bench.names:
            client(endpoint).upload_file(str(bench.videos / name), "archive", f"videos/{name}")
        app.share = 0.1
        keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
        variables = {**bench.variables(case), **keys, "AWS_EC2_METADATA_DISABLED": "true"}
        with killed.dfdm_ray(*bench.command(case, videos=uri), variables=variables) as job:
            killed.finish(job, limit_s=1200)


CASES: dict[str, Callable[[Bench, str], None]] = {
    "untouched": untouched,
    "decode-worker-killed": kill_one("decode"),
    "model-worker-killed": kill_one("model"),
    "node-killed": kill_raylet,
    "driver-killed": kill_driver,
    "segfault-on-3-files": poisoned("segfault", 3),
    "one-file-hangs": poisoned("hang", 1, "--limits.seconds", "10"),
    "one-file-swells": poisoned("swell", 1, "--limits.memory-gib", "1"),
    "s3-fails-at-10-percent": failing_store,
}


def outcome(bench: Bench, case: str, seconds: float) -> Outcome:
    """Return what the rows and the log of a case say, against the case ``untouched``."""
    rows, manifest = faults.read(bench.root / case), faults.planned(bench.root / case)
    record = json.loads((bench.root / case / "run.json").read_text())
    names = rows["video_id"].to_pylist()
    sound = {
        row["video_id"]: row for row in faults.answers(faults.read(bench.root / "untouched")).to_pylist()
    }
    found = {row["video_id"]: row for row in faults.answers(rows).to_pylist()}
    opened = faults.openings(bench.log(case))
    survived: dict[str, int] = {}
    for run in record["runs"]:
        for what, number in run.get("faults_survived", {}).items():
            survived[what] = survived.get(what, 0) + number
    return Outcome(
        case=case,
        planned=len(manifest),
        scored=faults.count(rows, "scored"),
        rejected=faults.count(rows, "rejected"),
        missing=len(set(manifest) - set(names)),
        doubled=len(names) - len(set(names)),
        differing=sum(found.get(name) != sound[name] for name in bench.names),
        again=sum(max(0, opened[name] - 1) for name in bench.names) / len(bench.names),
        seconds=round(seconds, 1),
        survived=survived,
    )


@contextmanager
def bench(num_videos: int, delay_s: float) -> Iterator[Bench]:
    """Make an archive and a checkpoint of random weights; both are gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        names = faults.write_archive(
            root / "videos", assets.get("carphone_pristine.mp4"), num_videos=num_videos
        )
        model = random_model(DmaStaConfig(backbone="resnet18", num_frames=4), seed=0)
        settings = Preprocessing(crop_size=64)
        save_checkpoint(
            root / "tiny.pt", model, classes=GENERATORS, preprocessing=settings, note="random weights"
        )
        yield Bench(root=root, names=names, delay_s=delay_s)


def show(outcomes: Sequence[Outcome], console: Console) -> None:
    table = Table(*("case", "planned", "scored", "rejected", "missing", "doubled", "differing", "done again"))
    for heading in ("seconds", "survived", ""):
        table.add_column(heading)
    for one in outcomes:
        numbers = (one.planned, one.scored, one.rejected, one.missing, one.doubled, one.differing)
        survived = ", ".join(f"{number} {what}" for what, number in one.survived.items())
        cells = (f"{one.again:.1%}", f"{one.seconds:g}", survived, "ok" if one.ok else "NOT OK")
        table.add_row(one.case, *map(str, numbers), *cells)
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=240)
    parser.add_argument("--delay", type=float, default=0.4, help="seconds that each video takes longer")
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    options = parser.parse_args()
    cases = ["untouched", *(case for case in options.cases if case != "untouched")]
    console, outcomes = Console(width=160), []
    with bench(options.videos, options.delay) as shared:
        for case in cases:
            started = time.perf_counter()
            CASES[case](shared, case)
            outcomes.append(outcome(shared, case, time.perf_counter() - started))
            show(outcomes[-1:], console)
    machine = (
        f"{platform.machine()}, {psutil.cpu_count()} CPUs, {psutil.virtual_memory().total / 2**30:.0f} GiB"
    )
    console.print(f"{machine}; {' '.join(sys.argv)}; one run of each")
    show(outcomes, console)
    out = Path("build/bench")
    out.mkdir(parents=True, exist_ok=True)
    content = {"command": sys.argv, "machine": machine, "rows": [asdict(one) for one in outcomes]}
    (out / "faults.json").write_text(json.dumps(content, indent=2))
    sys.exit(not all(one.ok for one in outcomes))


if __name__ == "__main__":
    main()
