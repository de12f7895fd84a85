import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from support.mixed_archive import EXPECTED

from dfdm_ray.clips.crops_dataset import prepared, read_crops, read_index, read_settings
from dfdm_ray.clips.cut import ClipFacts, load_detector, prepare_clips
from dfdm_ray.clips.spec import clip_spec
from dfdm_ray.clips.stage import SaveCrops
from dfdm_ray.config import CropConfig, DecodeConfig, FaceConfig, PlanConfig
from dfdm_ray.engine import crops_run
from dfdm_ray.errors import UserError
from dfdm_ray.io.images import png, read_png
from dfdm_ray.jobs.png_tree.config import PngTreeExport, PngTreeImport
from dfdm_ray.jobs.png_tree.job import export_png_tree, import_png_tree
from dfdm_ray.jobs.preprocess import job as pipeline
from dfdm_ray.jobs.preprocess.config import PreprocessConfig
from dfdm_ray.manifest.build import build_manifest

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

GOOD = sorted(name for name, code in EXPECTED.items() if code is None)
FACTS = {"a.mp4": ("iae", 10, "train"), "b.mp4": ("faceswap", 10, "train"), "c.mp4": ("iae", 23, "test")}
"""Generator, quality and split in the manifest; nothing is known of the others."""
OF_THE_RUN = ["seconds_decode", "seconds_detect", "prepared_by"]
"""Columns that differ between two runs over the same videos."""


@pytest.fixture(scope="module")
def manifest(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    table = build_manifest(str(archive)).table
    known = [FACTS.get(name, (None, None, None)) for name in table["video_id"].to_pylist()]
    for column, values in zip(("generator", "crf", "split"), zip(*known, strict=True), strict=True):
        position = table.schema.get_field_index(column)
        table = table.set_column(
            position, table.schema.field(position), pa.array(values, table.schema.field(column).type)
        )
    path = tmp_path_factory.mktemp("manifest") / "m.parquet"
    pq.write_table(table, path)
    return path


def config(manifest: Path, out: Path | str, **values: Any) -> PreprocessConfig:
    small: dict[str, Any] = {
        "frames": 4,
        "crop": CropConfig(size=64),
        "resources": DecodeConfig(decode_workers=1),
    }
    return PreprocessConfig(manifest=str(manifest), out=str(out), **{**small, **values})


def run(job: PreprocessConfig) -> str:
    out = io.StringIO()
    pipeline.preprocess(job, Console(file=out, width=120))
    return out.getvalue()


@pytest.fixture(scope="module")
def made(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished dataset and what its run printed."""
    out = tmp_path_factory.mktemp("runs") / "crops ü"
    return out, run(config(manifest, out, resources=DecodeConfig(decode_workers=2)))


def files(out: Path) -> list[str]:
    return sorted(str(path.relative_to(out)) for path in (out / "crops").rglob("*") if path.is_file())


def test_every_video_is_a_row_and_every_prepared_one_a_file(made: tuple[Path, str]) -> None:
    out, _ = made
    index = read_index(str(out))
    assert dict(zip(index["video_id"].to_pylist(), index["reject_code"].to_pylist(), strict=True)) == EXPECTED
    with_crops = prepared(index)
    assert with_crops["video_id"].to_pylist() == GOOD
    assert files(out) == sorted(with_crops["file"].to_pylist())
    folders = {row["video_id"]: row["file"].rpartition("/")[0] for row in with_crops.to_pylist()}
    assert folders == {
        "a.mp4": "crops/crf=10/split=train",
        "b.mp4": "crops/crf=10/split=train",
        "c.mp4": "crops/crf=23/split=test",
        "ü 1%.mp4": "crops/crf=unknown/split=none",
    }
    assert index.filter(pc.equal(index["status"], "rejected"))["file"].null_count == len(EXPECTED) - len(GOOD)


def test_the_crops_are_those_that_scoring_would_cut(made: tuple[Path, str], carphone: Path) -> None:
    detector, _ = load_detector(FaceConfig())
    spec = clip_spec(PlanConfig(clips=2), FaceConfig(), CropConfig(size=64), num_frames=4)
    expected = prepare_clips(str(carphone), detector, spec, ClipFacts()).crops
    for file in prepared(read_index(str(made[0])))["file"].to_pylist():
        crops = read_crops(str(made[0]), file)
        assert crops.dtype == np.uint8
        assert np.array_equal(crops, expected)


def test_the_record_adds_up_and_says_what_training_must_know(made: tuple[Path, str]) -> None:
    out, text = made
    record = json.loads((out / "run.json").read_text())
    assert (record["planned"], record["prepared"], record["rejected"]) == (9, 4, 5)
    assert record["crops_bytes"] == sum((out / file).stat().st_size for file in files(out))
    settings = read_settings(str(out))
    assert settings["detector"] == "mobilenet0.25"
    assert (settings["num_frames"], settings["num_clips"], settings["crop_size"], settings["margin"]) == (
        4,
        2,
        64,
        0.3,
    )
    assert pq.read_table(out / "manifest.parquet").num_rows == 9
    assert "planned 9 = prepared 4 + rejected 5" in text
    assert "2 not_a_video" in text
    sheet = read_png((out / "contact_sheet.png").read_bytes())
    assert sheet.shape == (4 * (112 + 18), 640, 3)  # a line for each prepared video


def test_a_finished_run_does_nothing_when_run_again(made: tuple[Path, str], manifest: Path) -> None:
    out, _ = made
    before = {
        path: path.stat().st_mtime_ns for path in out.rglob("*.parquet") if path.name != "manifest.parquet"
    }
    assert "9 of 9 videos are finished" in run(config(manifest, out))
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_other_settings_and_other_splits_are_refused(
    made: tuple[Path, str], manifest: Path, tmp_path: Path
) -> None:
    out, _ = made
    with pytest.raises(UserError, match=r"other settings \(num_clips: 2 -> 3\)"):
        run(config(manifest, out, clips=3))
    table = pq.read_table(manifest)
    position = table.schema.get_field_index("split")
    swapped = table.set_column(position, table.schema.field(position), pa.array(["val"] * 9))
    pq.write_table(swapped, tmp_path / "m.parquet")
    with pytest.raises(UserError, match=r"contains 9 videos .* \(such as a\.mp4: split: train -> val\)"):
        run(config(tmp_path / "m.parquet", out))


def test_a_run_that_stopped_half_way_ends_as_if_it_had_not(
    made: tuple[Path, str], manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = read_index(str(made[0]))
    shutil.copytree(made[0], tmp_path / "out")
    done = whole.filter(pc.is_in(whole["video_id"], pa.array(["a.mp4", "b.mp4", "cut.mp4", "sky.mp4"])))
    for part in (tmp_path / "out" / "videos").iterdir():
        part.unlink()
    pq.write_table(done, tmp_path / "out" / "videos" / "part-00000.parquet")
    (tmp_path / "out" / "videos" / "part-00001.parquet.0123abcd.part").write_bytes(b"torn")
    of_a, of_b, of_c, last = (tmp_path / "out" / file for file in prepared(whole)["file"].to_pylist())
    kept_at = of_a.stat().st_mtime_ns
    of_b.unlink()
    of_c.write_bytes(b"torn")
    last.with_name("stray.parquet").write_bytes(b"of a worker that died")
    monkeypatch.chdir(tmp_path)  # the workers are elsewhere, and must write here all the same
    assert "the crops of 1 videos are gone, such as b.mp4" in run(config(manifest, "out"))
    result = read_index("out")
    assert result.drop_columns(OF_THE_RUN).equals(whole.drop_columns(OF_THE_RUN))
    kept = pa.array(["a.mp4", "cut.mp4", "sky.mp4"])
    assert result.filter(pc.is_in(result["video_id"], kept)).equals(
        done.filter(pc.is_in(done["video_id"], kept))
    )
    assert of_a.stat().st_mtime_ns == kept_at  # not decoded again
    assert not list((tmp_path / "out").rglob("*.part"))
    assert files(tmp_path / "out") == files(made[0])
    for file in files(made[0]):
        assert np.array_equal(read_crops("out", file), read_crops(str(made[0]), file))


def test_a_place_that_takes_no_crops_is_told_in_one_line(
    made: tuple[Path, str], manifest: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(made[0], out)
    shutil.rmtree(out / "crops")
    (out / "crops").touch()  # where a folder is wanted
    for part in (out / "videos").iterdir():
        part.unlink()
    with pytest.raises(UserError, match=r"^cannot write to --out .*; correct this and run the same command"):
        run(config(manifest, out))
    status = json.loads((out / "run.json").read_text())["runs"][-1]["status"]
    assert status.startswith("failed: cannot write to --out")


def test_after_a_bug_the_dataset_is_incomplete_until_run_again_and_overwrite_starts_anew(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class BrokenOnSky(SaveCrops):  # local, so that it travels to the workers by value
        """Has a bug that shows on one file."""

        def __call__(self, batch: pa.Table) -> pa.Table:
            if "sky.mp4" in batch["video_id"].to_pylist():
                raise ZeroDivisionError("a bug in a stage")
            return SaveCrops.__call__(self, batch)

    monkeypatch.setattr(crops_run, "SaveCrops", BrokenOnSky)
    job = config(manifest, tmp_path / "out")
    with pytest.raises(Exception, match="a bug in a stage"):
        run(job)
    with pytest.raises(UserError, match="is not complete: its last run is 'failed'"):
        read_index(job.out)
    monkeypatch.undo()
    anew = config(manifest, job.out, frames=5, overwrite=True)
    run(anew)
    index = read_index(job.out)
    assert index["video_id"].to_pylist() == sorted(EXPECTED)
    assert read_crops(job.out, prepared(index)["file"][0].as_py()).shape == (2, 5, 64, 64, 3)
    assert read_settings(job.out)["num_frames"] == 5


def test_an_archive_without_a_face_ends_as_rows_and_is_no_training_data(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    out = str(tmp_path / "out")
    job = PreprocessConfig(videos=str(tmp_path), out=out, resources=DecodeConfig(decode_workers=1))
    text = run(job)
    assert "rejected: 1 empty_file, such as empty.mp4" in text
    assert text.rstrip().endswith("planned 1 = prepared 0 + rejected 1; 0.0 MB of crops")
    with pytest.raises(UserError, match="has no crops: 1 videos, all rejected"):
        read_index(out)


def test_a_tree_of_frames_becomes_a_dataset_with_the_same_pixels(
    made: tuple[Path, str], tmp_path: Path
) -> None:
    console = Console(quiet=True)
    tree, out = tmp_path / "tree", str(tmp_path / "out")
    export_png_tree(PngTreeExport(crops=str(made[0]), tree=str(tree), crf=(10,)), console)
    spoilt = tree / "train" / "df6" / "Video1"
    shutil.copytree(tree / "train" / "DF_class3" / "Video1", spoilt)
    (tree / "train" / "DF_class3" / "Video2" / "Frame4.png").unlink()
    (tree / "train" / "DF_class1" / "Video9").mkdir()
    job = PngTreeImport(tree=str(tree), out=out, frames=4, crf=10, resources=DecodeConfig(decode_workers=1))
    import_png_tree(job, console)
    index = read_index(out)
    assert {
        row["video_id"]: (row["generator"], row["crf"], row["split"], row["reject_code"])
        for row in index.to_pylist()
    } == {
        "train/DF_class1/Video1": ("faceswap", 10, "train", None),
        "train/DF_class1/Video2": ("faceswap", 10, "train", None),
        "train/DF_class1/Video9": ("faceswap", 10, "train", "unfit_frames"),
        "train/DF_class3/Video1": ("iae", 10, "train", None),
        "train/DF_class3/Video2": ("iae", 10, "train", "unfit_frames"),
        "train/df6/Video1": (None, 10, "train", "unknown_class"),
    }
    assert read_settings(out) == {
        "strategy": "png_tree",
        "num_frames": 4,
        "num_clips": 1,
        "crop_size": 64,
        "margin": 0.3,
        "detector": "none",
    }
    original = read_crops(str(made[0]), prepared(read_index(str(made[0])))["file"][0].as_py())
    files_of = dict(zip(index["video_id"].to_pylist(), index["file"].to_pylist(), strict=True))
    for video, clip in (("train/DF_class1/Video2", 1), ("train/DF_class3/Video1", 0)):
        crops = read_crops(out, files_of[video])
        assert np.array_equal(crops, original[clip : clip + 1])  # all videos of the archive show the same
    import_png_tree(job, console)
    assert read_index(out).equals(index)
    (spoilt / "Frame1.png").write_bytes(png(original[0, 0]))
    import_png_tree(job, console)  # continued: a rejected folder that changed is read again
    again = read_index(out)
    assert again.slice(0, 5).equals(index.slice(0, 5))
    assert [row["reject_code"] for row in again.slice(5).to_pylist()] == ["unknown_class"]
    assert not again.slice(5).equals(index.slice(5))
