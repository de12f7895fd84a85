"""Archives for runs in which something goes wrong, and what is known of a run from outside."""

import os
import sys
from collections import Counter
from pathlib import Path

import av
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dfdm_ray.schemas import REJECTED, SCORED

_FAULTY = Path(__file__).parent / "faulty"
_FRAMES = 24
_ANSWERS = ["video_id", "status", "reject_code", "generator", "pts_s", "boxes_xyxy", "num_frames_decoded"]
"""Columns that are the same however a run went; logits may differ in their last digits by batch."""


def write_archive(folder: Path, face: Path, *, num_videos: int) -> list[str]:
    """Cut ``num_videos`` different videos of 24 frames out of the video ``face``; return their names."""
    with av.open(str(face)) as container:
        frames = [frame.to_ndarray(format="yuv420p") for frame in container.decode(video=0)]
    folder.mkdir(parents=True)
    names = [f"video_{number:04d}.mp4" for number in range(num_videos)]
    for number, name in enumerate(names):
        start = number * 7 % (len(frames) - _FRAMES)
        with av.open(str(folder / name), "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.height, stream.width = frames[0].shape[0] * 2 // 3, frames[0].shape[1]
            stream.options = {"crf": str(10 + number % 14), "preset": "ultrafast", "g": "12"}
            for frame in frames[start : start + _FRAMES]:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="yuv420p")))
            container.mux(stream.encode(None))
    return names


def environment(log: Path, *, delay_s: float = 0.0) -> dict[str, str]:
    """Return variables under which decoding processes fail as the names of their videos say."""
    path = os.pathsep.join([str(_FAULTY), *filter(None, sys.path)])
    return {"PYTHONPATH": path, "FAULTS_LOG": str(log), "FAULTS_DELAY_S": str(delay_s)}


def openings(log: Path) -> Counter[str]:
    """Return how often each video was opened."""
    return Counter(log.read_text().splitlines()) if log.exists() else Counter()


def read(out: Path) -> pa.Table:
    """Return the rows of a run, sorted."""
    return pq.read_table(out / "predictions").sort_by("video_id")


def answers(rows: pa.Table) -> pa.Table:
    """Return what of ``rows`` is the same however the run went."""
    return rows.select(_ANSWERS)


def count(rows: pa.Table, status: str) -> int:
    return int(pc.sum(pc.equal(rows["status"], status)).as_py() or 0)


def require_whole(rows: pa.Table, names: list[str]) -> None:
    """Raise unless each of ``names`` has one row."""
    assert rows["video_id"].to_pylist() == sorted(names)
    assert count(rows, SCORED) + count(rows, REJECTED) == len(names)


def planned(out: Path) -> list[str]:
    """Return the ids of what a run planned."""
    names: list[str] = pq.read_table(out / "manifest.parquet")["video_id"].to_pylist()
    return names
