"""Archives with files that kill, hang or swell a decoder, through the whole job."""

import json
import shutil
from pathlib import Path

import pytest
from support import faults, killed

pytestmark = [pytest.mark.ray, pytest.mark.e2e]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, carphone: Path) -> Path:
    folder = tmp_path_factory.mktemp("archives") / "videos"
    names = faults.write_archive(folder, carphone, num_videos=10)
    for kind in ("segfault", "hang", "swell", "once"):
        shutil.copy(folder / names[0], folder / f"{kind}_0.mp4")
    return folder


def test_deadly_files_end_as_rows_and_all_others_are_scored(
    archive: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    job = ["score", "--videos", str(archive), "--checkpoint", str(tiny_checkpoint), "--out", str(out)]
    limits = ["--limits.seconds", "20", "--limits.memory-gib", "0.7"]
    with killed.dfdm_ray(*job, *limits, variables=faults.environment(tmp_path / "log")) as run:
        printed = killed.finish(run)
    rows = faults.read(out)
    faults.require_whole(rows, [path.name for path in archive.iterdir()])
    codes = {row["video_id"]: row["reject_code"] for row in rows.to_pylist() if row["reject_code"]}
    assert codes == {
        "segfault_0.mp4": "crashed",
        "hang_0.mp4": "timed_out",
        "swell_0.mp4": "out_of_memory",
    }
    opened = faults.openings(tmp_path / "log")
    assert {name: times for name, times in opened.items() if times > 1} == {
        "segfault_0.mp4": 2,
        "swell_0.mp4": 2,
        "once_0.mp4": 2,
    }
    survived = json.loads((out / "run.json").read_text())["runs"][0]["faults_survived"]
    assert survived == {"crashed": 3, "timed_out": 1, "out_of_memory": 2}
    assert "survived" in printed
