"""Thousands of damaged files through ``score``: is each a row, does the run go on, is nothing else opened?

``python benchmarks/fuzz.py`` changes sound MP4, Matroska, AVI, WebM and QuickTime files with a seeded
mutator, adds files that point to a canary on this disk and to an address on this machine, and sound ones to
see that nobody suffers from his neighbours. With strace on the machine (``--trace``, the default) the
decoding processes run under it, and every file and address they named is looked at.
"""

import argparse
import json
import platform
import random
import re
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support import faults, killed
from support.hostile_files import POINTERS, external_track, mutated, write_seeds

from dfdm_ray import assets
from dfdm_ray.labels import GENERATORS
from dfdm_ray.models.checkpoint import Preprocessing, random_model, save_checkpoint
from dfdm_ray.models.dma_sta import DmaStaConfig

_TRACED = Path(__file__).parent / "traced"
_INTERNET = re.compile(r"^\d+ +(?:socket|connect|sendto|sendmsg|bind)\(.*AF_INET")
_NAMED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_LIMIT_S = 20.0


@dataclass(kw_only=True)
class Outcome:
    """What came of it."""

    mutants: int
    planned: int
    scored: int
    rejected: dict[str, int] = field(default_factory=dict)
    sound_unharmed: str = ""
    faults: dict[str, int] = field(default_factory=dict)
    slowest_s: float = 0.0
    seconds: float = 0.0
    processes_traced: int = 0
    calls_traced: int = 0
    canaries_touched: list[str] = field(default_factory=list)
    addresses_named: list[str] = field(default_factory=list)
    requests_received: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing was lost and nothing else touched."""
        whole = self.planned == self.scored + sum(self.rejected.values())
        return whole and not (self.canaries_touched or self.addresses_named or self.requests_received)


@contextmanager
def listening() -> Iterator[tuple[str, list[str]]]:
    """Serve on this machine; yield the address and a list that gets what was asked for."""
    asked: list[str] = []

    class Note(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Note)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()


def make_archive(folder: Path, canary: Path, address: str, *, number: int, seed: int) -> list[str]:
    """Write the archive; return the names of the sound files."""
    seeds = write_seeds(folder.with_name("seeds"), assets.get("carphone_pristine.mp4"))
    folder.mkdir()
    contents = [path.read_bytes() for path in seeds]
    rng = random.Random(seed)
    for mutant in range(number):
        kind = mutant % len(seeds)
        content = mutated(contents[kind], rng, others=contents)
        (folder / f"mutant_{mutant:05d}{seeds[kind].suffix}").write_bytes(content)
    shutil.copy(seeds[0], canary)
    for target_kind, target in (
        ("path", str(canary)),
        ("file", f"file:{canary}"),
        ("http", f"{address}/canary.mp4"),
    ):
        for kind, make in POINTERS.items():
            (folder / f"pointer_{kind}_{target_kind}.mp4").write_bytes(make(target))
        (folder / f"pointer_track_{target_kind}.mov").write_bytes(external_track(contents[0], target))
    (folder / "loop.mp4").symlink_to(folder / "loop.mp4")
    sound = [f"sound_{copy:03d}_{path.name}" for copy in range(number // 100) for path in seeds]
    for name, path in zip(sound, seeds * (number // 100), strict=True):
        shutil.copy(path, folder / name)
    return sound


def look_at(traces: Path, canary: Path, outcome: Outcome) -> None:
    """Write into ``outcome`` which canaries and addresses the decoding processes named."""
    for trace in traces.glob("*.txt"):
        outcome.processes_traced += 1
        for line in trace.read_text(errors="replace").splitlines():
            outcome.calls_traced += 1
            if _INTERNET.search(line):
                outcome.addresses_named.append(line)
            if any(canary.name in name for name in _NAMED.findall(line)):
                outcome.canaries_touched.append(line)


def score(root: Path, traces: Path | None) -> float:
    """Score ``root / videos`` into ``root / out``; return the seconds."""
    model = random_model(DmaStaConfig(backbone="resnet10", num_frames=4), seed=0)
    save_checkpoint(
        root / "tiny.pt", model, classes=GENERATORS, preprocessing=Preprocessing(crop_size=64), note=""
    )
    command = ["score", "--videos", str(root / "videos"), "--checkpoint", str(root / "tiny.pt")]
    limits = ["--limits.seconds", str(_LIMIT_S), "--max-reject-fraction", "1"]
    workers = ["--resources.decode-workers", "2", "--resources.model-workers", "1"]
    variables = {}
    if traces:
        traces.mkdir()
        variables = faults.environment(root / "log") | {"TRACE_FOLDER": str(traces)}
        variables["PYTHONPATH"] = f"{_TRACED}:{':'.join(filter(None, sys.path))}"
    started = time.perf_counter()
    with killed.dfdm_ray(*command, *limits, *workers, "--out", str(root / "out"), variables=variables) as job:
        killed.finish(job, limit_s=3600)
    return time.perf_counter() - started


def outcome_of(root: Path, sound: list[str], mutants: int) -> Outcome:
    """Return what the rows say."""
    rows = faults.read(root / "out").to_pylist()
    planned = faults.planned(root / "out")
    assert sorted(planned) == [row["video_id"] for row in rows], "rows are missing or doubled"
    assert len(planned) == len([*(root / "videos").iterdir()]), "files were not planned"
    found = {row["video_id"]: row for row in rows}
    unharmed = sum(found[name]["status"] == "scored" for name in sound)
    kinds = Counter(fault.partition(":")[0] for row in rows for fault in row["faults"])
    return Outcome(
        mutants=mutants,
        planned=len(planned),
        scored=sum(row["status"] == "scored" for row in rows),
        rejected=dict(Counter(row["reject_code"] for row in rows if row["reject_code"]).most_common()),
        sound_unharmed=f"{unharmed} of {len(sound)}",
        faults=dict(kinds),
        slowest_s=round(max(row["seconds_decode"] + row["seconds_detect"] for row in rows), 2),
    )


def main() -> None:
    """Make the archive, score it, print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=2400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--trace", action=argparse.BooleanOptionalAction, default=bool(shutil.which("strace"))
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, listening() as (address, asked):
        root, canary = Path(folder), Path(folder, "canary.mp4")
        traces = root / "traces" if options.trace else None
        sound = make_archive(root / "videos", canary, address, number=options.mutants, seed=options.seed)
        seconds = score(root, traces)
        outcome = outcome_of(root, sound, options.mutants)
        outcome.seconds = round(seconds, 1)
        outcome.requests_received = asked
        if traces:
            look_at(traces, canary, outcome)
    report(outcome)
    sys.exit(not outcome.ok)


def report(outcome: Outcome) -> None:
    """Print the outcome and write it down."""
    machine = f"{platform.machine()}, {psutil.cpu_count()} CPUs"
    table = Table("what", "", title=f"{' '.join(sys.argv)}; {machine}")
    for name, value in asdict(outcome).items():
        table.add_row(name, json.dumps(value)[:2000])
    Console(width=160).print(table, "ok" if outcome.ok else "NOT OK")
    out = Path("build/bench")
    out.mkdir(parents=True, exist_ok=True)
    content = {"command": sys.argv, "machine": machine, "rows": [asdict(outcome)]}
    (out / "fuzz.json").write_text(json.dumps(content, indent=2))


if __name__ == "__main__":
    main()
