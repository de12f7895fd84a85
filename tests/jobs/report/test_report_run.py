import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from support.score_here import score_here
from support.videos import remux

from dfdm_ray.errors import UserError
from dfdm_ray.jobs.report.config import ReportConfig
from dfdm_ray.jobs.report.job import report
from dfdm_ray.jobs.report.page import name_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def scored(
    tmp_path_factory: pytest.TempPathFactory, carphone: Path, sky: Path, tiny_checkpoint: Path
) -> Path:
    """Videos, a checkpoint and the answers; the folder must not be changed."""
    root = tmp_path_factory.mktemp("scored")
    videos = root / "videos"
    videos.mkdir()
    shutil.copy(carphone, videos / "a.mp4")
    remux(carphone, videos / "b.mkv")
    shutil.copy(sky, videos / "sky.mp4")
    (videos / "empty.mp4").touch()
    score_here(videos, tiny_checkpoint, root / "out")
    return root


@pytest.fixture
def copied(scored: Path, tmp_path: Path) -> Path:
    """A copy that may be changed, with videos at their old places."""
    shutil.copytree(scored / "out", tmp_path / "out")
    return tmp_path / "out"


def run(out: Path, **options: Any) -> tuple[bool, str]:
    text = io.StringIO()
    in_order = report(ReportConfig(out=str(out), **options), Console(file=text, width=200))
    return in_order, text.getvalue()


def content_of(folder: Path, video_id: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "videos" / f"{name_of(video_id)}.json").read_text())
    return content


def test_pages_show_the_crops_that_the_model_got_and_what_is_known_about_the_file(
    scored: Path, tmp_path: Path
) -> None:
    _, text = run(scored / "out", to=str(tmp_path), videos=("a.mp4", "b.mkv"), occlusion=2)
    assert "2 pages in" in text
    for name, container in (("a.mp4", "QuickTime / MOV"), ("b.mkv", "Matroska / WebM")):
        content = content_of(tmp_path, name)
        again = content["faces"][0]["seen_again"]
        assert again["largest_logit_difference"] < 1e-4  # cut from the stored boxes, without a detector
        assert len(again["occlusion"]) == 2
        assert len(again["attention"]) == 14
        assert content["file"]["container"] == container
        page = (tmp_path / "videos" / f"{name_of(name)}.html").read_text()
        assert page.count("data:image/jpeg;base64,") >= 2 + 4 + 4


def test_rejected_videos_have_a_page_with_the_reason(scored: Path, tmp_path: Path) -> None:
    run(scored / "out", to=str(tmp_path), verdict=("rejected",))
    names = sorted(path.name for path in (tmp_path / "videos").glob("*.html"))
    assert names == sorted(f"{name_of(name)}.html" for name in ("empty.mp4", "sky.mp4"))
    sky = (tmp_path / "videos" / f"{name_of('sky.mp4')}.html").read_text()
    assert "No face was found" in sky
    assert "data:image/jpeg" in sky
    assert "The file is empty." in (tmp_path / "videos" / f"{name_of('empty.mp4')}.html").read_text()


def test_another_video_id_is_named(scored: Path) -> None:
    with pytest.raises(UserError, match=r"has no row of the video c\.mp4"):
        run(scored / "out", videos=("a.mp4", "c.mp4"))


def test_a_run_that_is_not_complete_is_refused(copied: Path) -> None:
    (part,) = (copied / "predictions").glob("*.parquet")
    pq.write_table(pq.read_table(part).slice(1), part)
    with pytest.raises(UserError, match="not complete: 3 of 4 videos have a row"):
        run(copied)
    with pytest.raises(UserError, match="no output folder of `dfdm-ray score`"):
        run(copied / "predictions")


def test_a_run_that_was_interrupted_is_refused(copied: Path) -> None:
    record = json.loads((copied / "run.json").read_text())
    record["runs"][-1]["status"] = "interrupted"
    (copied / "run.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="its last run is 'interrupted'"):
        run(copied)


def test_another_job_is_refused(copied: Path) -> None:
    record = json.loads((copied / "run.json").read_text())
    (copied / "run.json").write_text(json.dumps({**record, "job": "crops"}))
    with pytest.raises(UserError, match="a run of another job"):
        run(copied)


def test_another_checkpoint_and_a_missing_one_are_refused(scored: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pt"
    other.write_bytes(b"another")
    with pytest.raises(UserError, match="is not the checkpoint of the run"):
        run(scored / "out", checkpoint=str(other))
    with pytest.raises(UserError, match="give its place now with --checkpoint"):
        run(scored / "out", checkpoint=str(tmp_path / "gone.pt"))


def moved_to(out: Path, videos: Path) -> None:
    """Give the rows and the manifest of ``out`` other places of their files."""
    (part,) = (out / "predictions").glob("*.parquet")
    for path in (part, out / "manifest.parquet"):
        table = pq.read_table(path)
        uris = [str(videos / name) for name in table["video_id"].to_pylist()]
        at = table.schema.get_field_index("uri")
        pq.write_table(table.set_column(at, table.schema.field(at), pa.array(uris)), path)


def test_a_file_that_is_gone_or_changed_has_a_line_and_a_page_that_says_so(
    scored: Path, copied: Path, tmp_path: Path
) -> None:
    videos = tmp_path / "videos"
    shutil.copytree(scored / "videos", videos)
    moved_to(copied, videos)
    (videos / "a.mp4").unlink()
    content = bytearray((videos / "b.mkv").read_bytes())
    content[-20] ^= 1
    (videos / "b.mkv").write_bytes(content)
    in_order, text = run(copied, to=str(tmp_path / "pages"), occlusion=0)
    assert in_order
    assert f"a.mp4: the file is no longer at {videos / 'a.mp4'}" in text
    assert "b.mkv: the file has changed since it was scored (same size, other content)" in text
    for name in ("a.mp4", "b.mkv"):
        page = (tmp_path / "pages" / "videos" / f"{name_of(name)}.html").read_text()
        assert "The file is not the one that was scored" in page
        assert not re.search("data:image", page)
    with pytest.raises(
        UserError, match=r"a\.mp4: the file is no longer at .*, and 1 others moved or changed"
    ):
        run(copied, videos=("a.mp4", "b.mkv"))
