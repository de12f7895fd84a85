"""Workers that exit: every video that can have a row gets one. Runs that fail: no worker outlives them."""

import io
import json
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray.cloudpickle
from ray.exceptions import RayError
from rich.console import Console
from support import killed
from support.elastic import until
from support.run_folders import rows, run_folder

from dfdm_ray.config import RunConfig
from dfdm_ray.engine.folder import RunFolder
from dfdm_ray.engine.run import open_run
from dfdm_ray.engine.session import ray_session
from dfdm_ray.engine.stage import Stage
from dfdm_ray.errors import IncompleteError
from dfdm_ray.schemas import MANIFEST, PREDICTIONS

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the workers cannot import tests

NAMES, CULPRIT = [f"{number:02}.mp4" for number in range(20)], "11.mp4"


class Leaves:
    """Makes rows, but exits with code 0 on one video."""

    def __init__(self, row: dict[str, Any]) -> None:
        self.row = row

    def __call__(self, batch: pa.Table) -> pa.Table:
        names = batch["video_id"].to_pylist()
        if CULPRIT in names:
            sys.exit(0)
        return pa.Table.from_pylist([{**self.row, "video_id": name} for name in names], schema=PREDICTIONS)


def test_a_video_on_which_each_worker_exits_costs_no_other_and_ends_the_run_in_one_line(
    tmp_path: Path,
) -> None:
    stage = Stage(fn=Leaves, kwargs={"row": rows("").to_pylist()[0]}, num_workers=1, num_cpus=0.5)
    videos = [{"video_id": name, "uri": f"/{name}", "size_bytes": 1} for name in NAMES]
    manifest = pa.Table.from_pylist(videos, schema=MANIFEST)
    printed = io.StringIO()
    console = Console(file=printed, width=200)
    with (
        pytest.raises(IncompleteError, match=r"^1 of 20 videos have no row in .*, as 11\.mp4: their"),
        open_run(RunConfig(), run_folder(tmp_path), manifest, console, verb="scored") as run,
        ray_session(None),
    ):
        run.through([stage], [{"CPU": 1.0}], {}, lambda nodes: [1])
    assert "a worker has exited; the " in printed.getvalue()
    there = sorted(run_folder(tmp_path).read()["video_id"].to_pylist())
    assert there == [name for name in NAMES if name != CULPRIT]
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["runs"][0]["status"].startswith("incomplete: 1 of 20 videos")


class Breaks:
    """Makes rows; one video shows a bug, and another takes all day."""

    def __init__(self, row: dict[str, Any], bug: str = "") -> None:
        self.row, self.bug = row, bug

    def __call__(self, batch: pa.Table) -> pa.Table:
        names = batch["video_id"].to_pylist()
        if self.bug in names:
            raise ZeroDivisionError("a bug in a stage")
        if "long.mp4" in names:
            time.sleep(80_000)
        return pa.Table.from_pylist([{**self.row, "video_id": name} for name in names], schema=PREDICTIONS)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT raises, as it does unless a shell has started the tests in the background."""
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, handler)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(
    ("fault", "error"), [("worker", RayError), ("driver", ArithmeticError), ("user", KeyboardInterrupt)]
)
def test_no_worker_outlives_a_run_that_ends_with_an_exception(
    fault: str, error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def add(folder: RunFolder, rows: pa.Table) -> None:
        if fault == "driver":
            raise ArithmeticError("a bug in the driver")
        if fault == "user":  # Ctrl-C, while the driver waits for rows
            main = threading.main_thread().ident
            threading.Timer(1, signal.pthread_kill, (main, signal.SIGINT)).start()
            monkeypatch.undo()

    monkeypatch.setattr(RunFolder, "add", add)
    bug = NAMES[10] if fault == "worker" else ""
    stage = Stage(fn=Breaks, kwargs={"row": rows("").to_pylist()[0], "bug": bug}, num_workers=2, num_cpus=1)
    videos = [{"video_id": name, "uri": f"/{name}", "size_bytes": 1} for name in ["long.mp4", *NAMES]]
    manifest = pa.Table.from_pylist(videos, schema=MANIFEST)
    with (
        pytest.raises(error) as caught,
        open_run(RunConfig(), run_folder(tmp_path), manifest, Console(quiet=True), verb="scored") as run,
        ray_session(None),
    ):
        run.through([stage], [{"CPU": 2.0}], {}, lambda nodes: [2])
    until(lambda: not killed.workers("MapWorker(MapBatches(Breaks))"), limit_s=30)
    assert caught.value  # what is still referred to: whoever catches it may keep it
