import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from rich.console import Console
from support.videos import VideoRecipe, write_video

from dfdm_ray import assets
from dfdm_ray.clips.cut import load_detector
from dfdm_ray.config import FaceConfig
from dfdm_ray.errors import UserError
from dfdm_ray.io import storage
from dfdm_ray.jobs.demo import job, pasted
from dfdm_ray.jobs.demo.config import DemoConfig
from dfdm_ray.jobs.demo.splits import write_manifests
from dfdm_ray.jobs.generate.extract import find_faces
from dfdm_ray.jobs.generate.faces import Subject
from dfdm_ray.video.decode import VideoReader


def test_without_a_connection_and_media_the_demo_ends_in_one_line_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DFDM_RAY_CACHE", str(tmp_path / "cache"))
    with pytest.raises(UserError) as raised:
        job.run_demo(DemoConfig(out=str(tmp_path / "out")), Console(file=io.StringIO()))
    text = str(raised.value)
    assert text.startswith("step 1 of 7, people: carphone_pristine.mp4 is not in ")
    assert "run `dfdm-ray assets get carphone_pristine.mp4` where that source is reachable" in text
    assert "repeat the same command" in text
    assert "\n" not in text


def test_one_damaged_medium_is_named_and_the_others_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for asset in assets.REGISTRY:
        if asset.kind == "media":
            (tmp_path / "cache").mkdir(exist_ok=True)
            (tmp_path / "cache" / asset.name).write_bytes(assets.get(asset.name).read_bytes())
    damaged = tmp_path / "cache" / "single_face.mp4"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    monkeypatch.setenv("DFDM_RAY_CACHE", str(tmp_path / "cache"))
    with pytest.raises(UserError, match=r"^step 1 of 7, people: single_face\.mp4 is not in "):
        job.run_demo(DemoConfig(out=str(tmp_path / "out")), Console(file=io.StringIO()))
    assert assets.cached(assets.find("carphone_pristine.mp4"))


@pytest.mark.parametrize("inside", ["", "/demo"])
def test_an_out_that_can_be_no_folder_is_one_line(tmp_path: Path, inside: str) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(
        UserError, match=r"^cannot make the folder .*notes\.txt.*: (File exists|Not a directory)$"
    ):
        job.run_demo(DemoConfig(out=f"{tmp_path}/notes.txt{inside}"), Console(file=io.StringIO()))
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_networks_that_draw_no_face_are_named(tmp_path: Path) -> None:
    card = {"psnr_db": {"id1_id3 iae": {"a": 26.1, "b": 9.2}, "id1_id3 dfaker": {"a": 26.0, "b": 25.0}}}
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "dataset.json").write_text(json.dumps(card))
    with pytest.raises(UserError, match=r"draw no face: id1_id3 iae \(9\.2 dB\); delete .*id1_id3/iae to"):
        job._require_faces(tmp_path)
    card["psnr_db"]["id1_id3 iae"]["b"] = 25.0
    (tmp_path / "videos" / "dataset.json").write_text(json.dumps(card))
    job._require_faces(tmp_path)


def test_a_finished_demo_is_only_shown_again(tmp_path: Path) -> None:
    facts = {
        "made_with": job._MADE_WITH,
        "kinds": {"known": {"videos": 2, "right": [0.5, 0.1, 0.9], "verdicts": {"attributed": 2}}},
        "attributions": [["known", 10, 2, [0.5, 0.1, 0.9]]],
        "classes": 6,
        "swaps": 2,
        "rejected": 0,
        "seconds": {"train": 5.0},
        "total_s": 5.0,
        "paths": dict.fromkeys(("contact sheet", "report page", "triage page", "measures"), "page.html"),
        "next": "dfdm-ray score --videos FOLDER",
    }
    (tmp_path / "demo.json").write_text(json.dumps(facts))
    out = io.StringIO()
    job.run_demo(DemoConfig(out=str(tmp_path)), Console(file=out, width=80))
    assert "known network, crf 10: 50% of 2" in out.getvalue()
    assert [path.name for path in tmp_path.iterdir()] == ["demo.json"]


def test_a_pasted_face_changes_the_face_and_nothing_far_from_it(tmp_path: Path, carphone: Path) -> None:
    detector, _ = load_detector(FaceConfig())
    *parts, subject = find_faces(str(carphone), detector, size_px=64, max_frames=24, smoothing=1)
    assert isinstance(subject, Subject)
    (tmp_path / "id1_0000.npz").write_bytes(subject.to_bytes())
    faces = [face for part in parts if isinstance(part, list) for face in part]
    np.save(tmp_path / "id1_0000.npy", np.stack(faces)[:, ::-1])  # upside down, so that it differs
    found = tmp_path / "id1_0000.npz"
    made = pasted.paste_into(str(carphone), found, found, tmp_path / "out", scene_frames=8)
    assert len(made) == 2
    with VideoReader(str(carphone)) as reader, VideoReader(str(made[0])) as swapped:
        before = [frame.rgb[0][:, :192] for frame in reader.read_onwards()][8:16]  # codecs take even sides
        after = [frame.rgb[0] for frame in swapped.read_onwards()]
    assert len(after) == 8
    changed = np.abs(np.stack(before).astype(int) - np.stack(after)).mean(axis=(0, 3))
    eye = subject.landmarks[8:16, 0].mean(axis=0).astype(int)
    assert changed[eye[1], eye[0]] > 20
    assert changed[-20:, :20].mean() < 4  # the coding alone


def test_manifests_keep_the_unseen_pair_out_of_training(tmp_path: Path) -> None:
    names = (
        *("DFDM_crf10/iae/id1_id3_0000_3iae.mp4", "DFDM_crf10/iae/id1_id3_0012_3iae.mp4"),
        *("DFDM_crf0/iae/id3_id1_0013_3iae.mp4", "DFDM_crf10/iae/id0_id2_0000_3iae.mp4"),
        "DFDM_crf23/iae/id0_id2_0000_3iae.mp4",
        *("real/crf10/id1_0007.mp4", "real/crf10/id2_0001.mp4", "real/crf23/id1_0008.mp4"),
    )
    for name in (*(f"videos/{name}" for name in names), "others/originals/a.mp4", "others/pasted/b.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write_video(tmp_path / name, VideoRecipe(num_frames=1))
    learned, scored = (storage.read_parquet(path, what="m") for path in write_manifests(tmp_path))
    splits = dict(zip(learned["video_id"].to_pylist(), learned["split"].to_pylist(), strict=True))
    assert splits == {names[0]: "train", names[5]: "val", names[7]: "calibration", names[1]: "test"}
    found = {
        row["video_id"]: (row["split"], row["generator"])
        for row in scored.select(["video_id", "split", "generator"]).to_pylist()
    }
    assert found == {
        names[1]: ("test", "iae"),
        names[3]: ("unseen", "iae"),
        names[6]: ("unseen", "real"),
        "originals/a.mp4": ("originals", "real"),
        "pasted/b.mp4": ("pasted", "pasted"),
    }
    assert pc.all(pc.is_in(scored["crf"].drop_null(), pa.array([10, 23], pa.int32()))).as_py()
