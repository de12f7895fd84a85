"""`report --check` runs `score` again, on Ray; pages and thumbnails of many videos are made there too."""

import io
import shutil
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from dfdm_ray.jobs.report import workers
from dfdm_ray.jobs.report.config import ReportConfig
from dfdm_ray.jobs.report.job import report
from dfdm_ray.jobs.report.page import name_of
from dfdm_ray.jobs.score.config import ScoreConfig
from dfdm_ray.jobs.score.job import score
from dfdm_ray.schemas import THUMBNAILS

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def run(out: Path, **options: Any) -> tuple[bool, list[str]]:
    text = io.StringIO()
    in_order = report(ReportConfig(out=str(out), **options), Console(file=text, width=200))
    return in_order, text.getvalue().splitlines()


def change_one_pixel(path: Path) -> None:
    """Encode the video anew without loss, with one pixel of its first frame changed."""
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="yuv420p") for frame in container.decode(video=0)]
    frames[0][40, 60] ^= 64
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"crf": "0"})
        stream.height, stream.width = frames[0].shape[0] * 2 // 3, frames[0].shape[1]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "yuv420p")))
        container.mux(stream.encode(None))


def test_the_same_videos_are_equal_and_a_changed_pixel_is_different(
    tmp_path: Path, carphone: Path, sky: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    videos, out = tmp_path / "videos", tmp_path / "out"
    videos.mkdir()
    for name, source in {"a.mp4": carphone, "b.mp4": carphone, "sky.mp4": sky}.items():
        shutil.copy(source, videos / name)
    config = ScoreConfig(videos=str(videos), checkpoint=str(tiny_checkpoint), out=str(out))
    score(config, Console(quiet=True))
    in_order, lines = run(out, check=True)
    assert in_order
    assert [line.partition(";")[0] for line in lines[-4:]] == [
        "equal: a.mp4",
        "equal: b.mp4",
        "equal: sky.mp4",
        "3 of 3 equal",
    ]
    change_one_pixel(videos / "b.mp4")
    in_order, lines = run(out, check=True, videos=("a.mp4", "b.mp4"))
    assert not in_order
    assert lines[-2].startswith("different: b.mp4: the file has changed since it was scored")
    assert lines[-3].startswith("equal: a.mp4; largest difference of a logit")

    monkeypatch.setattr(workers, "FEW", 0)  # as for a large archive: by Ray's workers
    run(out, occlusion=1, videos=("a.mp4", "sky.mp4"))
    for name in ("a.mp4", "sky.mp4"):
        assert "data:image/jpeg" in (out / "report" / "videos" / f"{name_of(name)}.html").read_text()
    _, lines = run(out, top=0)
    assert f"3 videos in {out}/report/index.html" in lines
    thumbnails = pq.read_table(out / "report" / "thumbnails" / "rows")
    assert thumbnails["thumbnail"].null_count == 0
    assert thumbnails.schema.names == THUMBNAILS.names
    _, lines = run(out, top=0)
    assert "continuing: 3 of 3 videos are finished" in lines
