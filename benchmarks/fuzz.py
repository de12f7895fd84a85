"""Thousands of damaged files through `dfdm-ray score`: each must become a row, and open no other file.

The archive has MP4, Matroska, AVI, WebM and QuickTime files changed by a seeded mutator, files that refer to
a canary file on this disk and to an address on this machine, and undamaged files, which must be scored.
With ``--trace`` (the default if strace is installed) the decoding processes run under strace, and the
benchmark checks every file and address in their system calls.

python benchmarks/fuzz.py [--mutants 2400] [--seed 0] [--no-trace]
"""

import json
import random
import re
import shutil
import sys
import tempfile
import threading
import time
from argparse import BooleanOptionalAction
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from report import Table, parser, save, show

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support import faults, killed
from support.checkpoints import write_untrained
from support.hostile_files import POINTERS, external_track, mutated, write_seeds

from dfdm_ray import assets

_TRACED = Path(__file__).parent / "traced"
_INTERNET = re.compile(r"^\d+ +(?:socket|connect|sendto|sendmsg|bind)\(.*AF_INET")
_NAMED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_LIMIT_S = 20.0


@dataclass(kw_only=True)
class Outcome:
    """Counts from the rows, the traces and the server."""

    mutants: int
    planned: int
    scored: int
    rejected: dict[str, int] = field(default_factory=dict)
    sound_unharmed: str = ""
    faults: dict[str, int] = field(default_factory=dict)
    slowest_s: float = 0.0
    seconds: float = 0.0
    processes_traced: int | None = None
    """``None`` without ``--trace``."""
    calls_traced: int = 0
    canaries_touched: list[str] = field(default_factory=list)
    addresses_named: list[str] = field(default_factory=list)
    requests_received: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every file has a row and, if traced, no process named a canary or an internet address."""
        whole = self.planned == self.scored + sum(self.rejected.values()) and self.processes_traced != 0
        return whole and not (self.canaries_touched or self.addresses_named or self.requests_received)


@contextmanager
def listening() -> Iterator[tuple[str, list[str]]]:
    """Serve on this machine; yield the address and the list of paths requested so far."""
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
    """Write the archive; return the names of the undamaged files."""
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
    """Add the canaries and addresses that the decoding processes named to ``outcome``."""
    outcome.processes_traced = 0
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
    write_untrained(root / "tiny.pt", backbone="resnet10", num_frames=4, crop_size=64)
    command = ["score", "--videos", str(root / "videos"), "--checkpoint", str(root / "tiny.pt")]
    limits = ["--limits.seconds", str(_LIMIT_S), "--max-reject-fraction", "1"]
    workers = ["--resources.decode-workers", "2", "--resources.model-workers", "1"]
    variables: dict[str, str] = {}
    if traces:
        traces.mkdir(parents=True)
        shutil.copy(_TRACED / "sitecustomize.py", traces.parent)
        variables["PYTHONPATH"] = f"{traces.parent}:{':'.join(filter(None, sys.path))}"
    started = time.perf_counter()
    with killed.dfdm_ray(*command, *limits, *workers, "--out", str(root / "out"), variables=variables) as job:
        killed.finish(job, limit_s=3600)
    return time.perf_counter() - started


def outcome_of(root: Path, sound: list[str], mutants: int) -> Outcome:
    """Return the counts from the rows."""
    rows = faults.read(root / "out").to_pylist()
    planned = faults.planned(root / "out")
    assert sorted(planned) == [row["video_id"] for row in rows], "rows are missing or duplicated"
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
    options = parser(__doc__)
    options.add_argument("--mutants", type=int, default=2400)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--trace", action=BooleanOptionalAction, default=bool(shutil.which("strace")))
    args = options.parse_args()
    with tempfile.TemporaryDirectory() as folder, listening() as (address, asked):
        root, canary = Path(folder), Path(folder, "canary.mp4")
        traces = root / "traced" / "traces" if args.trace else None
        sound = make_archive(root / "videos", canary, address, number=args.mutants, seed=args.seed)
        seconds = score(root, traces)
        outcome = outcome_of(root, sound, args.mutants)
        outcome.seconds = round(seconds, 1)
        outcome.requests_received = asked
        if traces:
            look_at(traces, canary, outcome)
    rows = [[name, json.dumps(value)[:2000]] for name, value in asdict(outcome).items()]
    show(Table(headings=["figure", "value"], rows=rows, remark="ok" if outcome.ok else "NOT OK"))
    save("fuzz", rows=[asdict(outcome)])
    sys.exit(not outcome.ok)


if __name__ == "__main__":
    main()
