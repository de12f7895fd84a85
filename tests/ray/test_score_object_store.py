"""Archive, checkpoint and results on S3: a real protocol server, started here."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import av
import numpy as np
import pytest
from rich.console import Console

from dfdm_ray import assets
from dfdm_ray.clips.crops_dataset import read_crops, read_index
from dfdm_ray.clips.cut import ClipFacts
from dfdm_ray.config import CropConfig, DecodeConfig, ResourceConfig
from dfdm_ray.errors import UserError
from dfdm_ray.io import storage
from dfdm_ray.io.lending import Files
from dfdm_ray.jobs.manifest import job as manifest
from dfdm_ray.jobs.manifest.config import ManifestConfig
from dfdm_ray.jobs.png_tree.config import PngTreeExport
from dfdm_ray.jobs.png_tree.job import export_png_tree
from dfdm_ray.jobs.png_tree.read import ReadFolders, list_tree
from dfdm_ray.jobs.preprocess.config import PreprocessConfig
from dfdm_ray.jobs.preprocess.job import preprocess
from dfdm_ray.jobs.score.config import ScoreConfig
from dfdm_ray.jobs.score.job import score
from dfdm_ray.manifest.build import build_manifest
from dfdm_ray.video.decode import VideoReader
from dfdm_ray.video.plan import plan_frames

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

CONSOLE = Console(quiet=True)


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """URI of a bucket with one DFDM-named video, one without a face and one broken; and its options."""
    import boto3  # two seconds for every process that collects tests
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1")
    client.create_bucket(Bucket="archive")
    folder = "data/DFDM_crf10"
    for key, source in (("id0_id1_0000_3iae.mp4", "carphone_pristine.mp4"), ("a #1%.mp4", "no_face.mp4")):
        client.upload_file(str(assets.get(source)), "archive", f"{folder}/{key}")
    client.put_object(Bucket="archive", Key=f"{folder}/broken.mp4", Body=b"no video")
    yield f"s3://archive/{{}}?endpoint_override={host}:{port}&scheme=http&region=us-east-1"
    server.stop()


def test_a_prefix_is_listed_read_and_scored_and_the_results_go_back(
    bucket: str, tiny_checkpoint: Path
) -> None:
    table, checkpoint, out = bucket.format("m.parquet"), bucket.format("tiny.pt"), bucket.format("runs/1")
    storage.write_atomic(checkpoint, tiny_checkpoint.read_bytes())
    manifest.write(ManifestConfig(videos=bucket.format("data"), out=table, split="none"), CONSOLE)
    job = ScoreConfig(
        manifest=table,
        checkpoint=checkpoint,
        out=out,
        resources=ResourceConfig(decode_workers=1, model_workers=1),
    )
    rows = {row["video_id"]: row for row in score(job, CONSOLE).predictions.to_pylist()}
    assert {name: row["reject_code"] for name, row in rows.items()} == {
        "DFDM_crf10/a #1%.mp4": "no_face",
        "DFDM_crf10/broken.mp4": "not_a_video",
        "DFDM_crf10/id0_id1_0000_3iae.mp4": None,
    }
    assert rows["DFDM_crf10/id0_id1_0000_3iae.mp4"]["true_generator"] == "iae"
    again = score(job, CONSOLE)
    assert again.predictions.num_rows == 3
    assert "seconds" not in again.record["runs"][1]  # nothing was left to do


def test_crops_are_written_to_the_store_by_the_workers_and_read_back(bucket: str) -> None:
    out, tree = bucket.format("crops"), bucket.format("tree")
    job = PreprocessConfig(
        videos=bucket.format("data"),
        out=out,
        frames=4,
        crop=CropConfig(size=64),
        resources=DecodeConfig(decode_workers=1),
    )
    index = preprocess(job, CONSOLE)
    assert index["reject_code"].to_pylist() == ["no_face", "not_a_video", None]
    assert read_index(out).equals(index)
    crops = read_crops(out, index["file"][2].as_py())
    assert crops.shape == (2, 4, 64, 64, 3)
    export_png_tree(PngTreeExport(crops=out, tree=tree), CONSOLE)
    rows = list_tree(tree)[0].to_pylist()
    assert [row["video_id"] for row in rows] == ["none/DF_class3/Video1", "none/DF_class3/Video2"]
    work = ReadFolders(num_frames=4, size=64)
    (clips,) = work.clips(Files(work.files(rows[1]["uri"])), ClipFacts())
    assert np.array_equal(clips.crops, crops[1:])


class CountingFile(io.RawIOBase):
    """Passes reads on and notes how many bytes each asked for."""

    def __init__(self, source: Any, reads: list[int]) -> None:
        self._source, self._reads = source, reads

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._source.read(len(buffer))
        self._reads.append(len(content))
        buffer[: len(content)] = content
        return len(content)

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._source.seek(offset, whence))

    def tell(self) -> int:
        return int(self._source.tell())


def noise_video() -> bytes:
    """A hundred lossless frames of noise, key frames 50 apart: eleven megabytes."""
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        stream.options = {"crf": "0", "preset": "ultrafast", "g": "50", "sc_threshold": "0"}
        for _ in range(100):
            noise = np.random.randint(0, 255, (360, 320), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="yuv420p")))
        container.mux(stream.encode(None))
    return out.getvalue()


def test_only_the_parts_of_a_remote_video_that_are_used_are_read(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file's index and two runs of five frames out of a hundred."""
    uri, video = bucket.format("long.mp4"), noise_video()
    storage.write_atomic(uri, video)
    reads: list[int] = []
    open_input = storage.open_input

    def counting(uri: str) -> BinaryIO:
        return cast(BinaryIO, io.BufferedReader(CountingFile(open_input(uri), reads), buffer_size=1 << 20))

    monkeypatch.setattr(storage, "open_input", counting)
    with VideoReader(uri) as reader:
        plan = plan_frames(
            "keyframe_runs", reader.index.keys, num_frames=len(reader.index), wanted=10, runs=2
        )
        assert plan is not None
        assert sum(len(batch) for batch in reader.read_planned(plan, flexible=True)) == 10
    assert 0 < sum(reads) < len(video) / 2


def test_a_bucket_that_is_not_there_is_the_users_mistake(bucket: str) -> None:
    with pytest.raises(UserError, match="cannot list"):
        build_manifest(bucket.format("x").replace("archive", "nowhere"))
