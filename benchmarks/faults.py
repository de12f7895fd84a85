"""Which videos a run loses, duplicates or processes again when something fails.

The benchmark scores an archive once without a fault and once with each fault, on a local Ray or on a cluster
of three nodes, and compares the rows. Each video takes ``--delay`` seconds longer than usual, so that the
fault strikes while videos are in progress.

python benchmarks/faults.py [--videos 240] [--cases driver-killed ...]
"""

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from report import Table, parser, save, show

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support import faults, killed
from support.checkpoints import write_untrained
from support.flaky_s3 import KINDS, FlakyS3, client, serving

from dfdm_ray import assets
from dfdm_ray.clips.stage import MakeClips
from dfdm_ray.jobs.score.attribute_clips import AttributeClips

_RESOURCES = ("--resources.decode-workers", "2", "--resources.model-workers", "1")


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Archive and checkpoint shared by all cases."""

    root: Path
    names: list[str]
    """File names of the videos without a fault."""
    delay_s: float

    @property
    def videos(self) -> Path:
        """Folder of the archive."""
        return self.root / "videos"

    def command(self, case: str, *options: str, videos: str | None = None) -> list[str]:
        """Return the arguments of `dfdm-ray` for a case."""
        out = ["--out", str(self.root / case), "--checkpoint", str(self.root / "tiny.pt")]
        return ["score", "--videos", videos or str(self.videos), *out, *_RESOURCES, *options]

    def log(self, case: str) -> Path:
        """Return the file in which a case records which videos it opens."""
        return self.root / f"{case}.log"

    def variables(self, case: str) -> dict[str, str]:
        """Return the environment variables that cause the faults."""
        return faults.environment(self.log(case), delay_s=self.delay_s)

    def half_done(self, case: str) -> bool:
        """Return whether half of the videos were opened and results are on disk."""
        begun = any((self.root / case / "predictions").glob("*.parquet"))
        return begun and faults.openings(self.log(case)).total() > len(self.names) // 2


@dataclass(kw_only=True)
class Outcome:
    """One row of the table."""

    case: str
    planned: int
    scored: int = 0
    rejected: int = 0
    missing: int = 0
    doubled: int = 0
    differing: int = 0
    """Videos without a fault whose answer differs from that of the run without faults."""
    again: float = 0.0
    """Repeated openings of videos without a fault, as a fraction of these videos."""
    seconds: float = 0.0
    survived: dict[str, int] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether every video has one row, equal to that without faults, and under 10% were opened again."""
        whole = self.planned == self.scored + self.rejected and not (self.missing or self.doubled)
        return whole and not self.differing and self.again < 0.1


def untouched(bench: Bench, case: str) -> None:
    with killed.dfdm_ray(*bench.command(case), variables=bench.variables(case)) as job:
        killed.finish(job)


def kill_one(bench: Bench, case: str, stage: type) -> None:
    with killed.dfdm_ray(*bench.command(case), variables=bench.variables(case)) as job:
        killed.wait_until(lambda: bench.half_done(case), job)
        assert killed.kill_worker(f"MapWorker(MapBatches({stage.__name__}))")
        killed.finish(job)


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


def add_faulty(bench: Bench, case: str, kind: str, number: int, *options: str) -> None:
    videos = bench.root / f"{case}-videos"
    shutil.copytree(bench.videos, videos)
    for copy in range(number):
        shutil.copy(videos / bench.names[copy], videos / f"{kind}_{copy}.mp4")
    with killed.dfdm_ray(
        *bench.command(case, *options, videos=str(videos)), variables=bench.variables(case)
    ) as job:
        killed.finish(job)


def failing_store(bench: Bench, case: str) -> None:
    # Few stalls: each holds a worker for 20 s, until the request times out.
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


CASES: dict[str, tuple[Callable[..., None], *tuple[Any, ...]]] = {
    "untouched": (untouched,),
    "decode-worker-killed": (kill_one, MakeClips),
    "model-worker-killed": (kill_one, AttributeClips),
    "node-killed": (kill_raylet,),
    "driver-killed": (kill_driver,),
    "segfault-on-3-files": (add_faulty, "segfault", 3),
    "one-file-hangs": (add_faulty, "hang", 1, "--limits.seconds", "10"),
    "one-file-swells": (add_faulty, "swell", 1, "--limits.memory-gib", "1"),
    "s3-fails-at-10-percent": (failing_store,),
}
"""Function of each case and its further arguments."""


def outcome(bench: Bench, case: str, seconds: float) -> Outcome:
    """Return the outcome from the rows and the log of a case, compared with the case ``untouched``."""
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
    """Make an archive and an untrained checkpoint; both are deleted afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        names = faults.write_archive(
            root / "videos", assets.get("carphone_pristine.mp4"), num_videos=num_videos
        )
        write_untrained(root / "tiny.pt", backbone="resnet18", num_frames=4, crop_size=64)
        yield Bench(root=root, names=names, delay_s=delay_s)


def table_of(outcomes: Sequence[Outcome]) -> Table:
    headings = ["case", "planned", "scored", "rejected", "missing", "doubled", "differing", "done again"]
    rows = []
    for one in outcomes:
        numbers = (one.planned, one.scored, one.rejected, one.missing, one.doubled, one.differing)
        survived = ", ".join(f"{number} {what}" for what, number in one.survived.items())
        cells = (f"{one.again:.1%}", f"{one.seconds:g}", survived, "ok" if one.ok else "NOT OK")
        rows.append([one.case, *map(str, numbers), *cells])
    return Table(headings=[*headings, "seconds", "survived", ""], rows=rows)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--videos", type=int, default=240)
    options.add_argument("--delay", type=float, default=0.4, help="extra seconds for each video")
    options.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    args = options.parse_args()
    cases = ["untouched", *(case for case in args.cases if case != "untouched")]
    outcomes: list[Outcome] = []
    with bench(args.videos, args.delay) as shared:
        for case in cases:
            print(case, flush=True)
            started = time.perf_counter()
            run, *further = CASES[case]
            run(shared, case, *further)
            outcomes.append(outcome(shared, case, time.perf_counter() - started))
            save("faults", rows=[asdict(one) for one in outcomes])
    show(table_of(outcomes), repeats="one run of each case")
    sys.exit(not all(one.ok for one in outcomes))


if __name__ == "__main__":
    main()
