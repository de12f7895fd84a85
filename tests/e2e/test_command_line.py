"""User mistakes are one line and exit code 2; nothing here starts Ray."""

import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from dfdm_ray import __version__
from dfdm_ray.cli import main
from dfdm_ray.schemas import MANIFEST

pytestmark = pytest.mark.slow

OK = 0
MISTAKE = 2


def run(arguments: Sequence[str | Path], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    try:
        main([str(argument) for argument in arguments])
        code = OK
    except SystemExit as stop:
        code = int(stop.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def mistake(arguments: Sequence[str | Path], capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line a mistake gives."""
    code, _, err = run(arguments, capsys)
    assert code == MISTAKE, err
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    return err


@pytest.fixture
def videos(tmp_path: Path, carphone: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / "a.mp4").symlink_to(carphone)
    return folder


def bad_checkpoint(kind: str, tmp_path: Path, good: Path) -> Path:
    path = tmp_path / f"{kind}.pt"
    if kind == "missing":
        return path
    content = torch.load(good, weights_only=True)
    if kind == "text":
        path.write_text("no checkpoint")
    elif kind == "empty":
        path.touch()
    elif kind == "truncated":
        path.write_bytes(good.read_bytes()[:5000])
    elif kind == "code":
        path.write_bytes(pickle.dumps(OSError("not weights")))
    elif kind == "wrong_keys":
        torch.save({"conv9.weight": torch.zeros(1)}, path)
    elif kind == "wrong_k":
        state = {**content["model"], "fc.weight": torch.zeros(7, 512), "fc.bias": torch.zeros(7)}
        torch.save(state, path)
    elif kind == "class_names":
        torch.save({**content, "classes": ["one", "two"]}, path)
    return path


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("missing", "No such file"),
        ("text", "text.pt"),
        ("empty", "empty"),
        ("truncated", "truncated.pt"),
        ("code", "code.pt"),
        ("wrong_keys", "wrong_keys.pt"),
        ("wrong_k", "7 classes"),
        ("class_names", "2 class names"),
    ],
)
def test_a_bad_checkpoint_is_told_before_any_work(
    kind: str,
    says: str,
    videos: Path,
    tiny_checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    checkpoint = bad_checkpoint(kind, tmp_path, tiny_checkpoint)
    out = tmp_path / "out"
    line = mistake(["score", "--videos", videos, "--checkpoint", checkpoint, "--out", out], capsys)
    assert says in line
    assert not out.exists()


def test_an_empty_folder_is_told(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "none").mkdir()
    job = ["--checkpoint", tiny_checkpoint, "--out", tmp_path / "out"]
    assert "no videos" in mistake(["score", "--videos", tmp_path / "none", *job], capsys)
    assert "no such" in mistake(["score", "--videos", tmp_path / "gone", *job], capsys).lower()


def test_an_output_folder_with_other_things_is_refused(
    videos: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = ["--videos", videos, "--checkpoint", tiny_checkpoint]
    assert "contains files but no run.json (a.mp4)" in mistake(["score", *job, "--out", videos], capsys)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--plan.frames", "7"], "--plan.frames is 7, but the checkpoint takes clips of 4 frames"),
        (["--plan.clips", "0"], "--plan.clips must be at least 1"),
        (["--faces.score-threshold", "3"], "--faces.score-threshold must be between 0 and 1"),
        (["--faces.weights", "nowhere.onnx"], "nowhere.onnx"),
        (["--manifest", "m.parquet"], "one of --videos, --manifest"),
        (["--max-reject-fraction", "20"], "--max-reject-fraction must be between 0 and 1"),
    ],
)
def test_a_bad_value_is_told_with_its_flag(
    arguments: list[str],
    says: str,
    videos: Path,
    tiny_checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    job = ["score", "--videos", videos, "--checkpoint", tiny_checkpoint, "--out", tmp_path / "out"]
    assert says in mistake([*job, *arguments], capsys)


def test_a_manifest_that_is_none_is_told(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = ["--checkpoint", tiny_checkpoint, "--out", tmp_path / "out"]
    assert "not a Parquet file" in mistake(["score", "--manifest", __file__, *job], capsys)
    assert "cannot read the manifest" in mistake(["score", "--manifest", tmp_path / "gone", *job], capsys)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--frames", "0"], "--frames must be at least 1, got 0"),
        (["--clips", "0"], "--clips must be at least 1, got 0"),
        (["--plan.runs", "0"], "--plan.runs must be at least 1, got 0"),
        (["--crop.size", "8"], "--crop.size must be at least 32, got 8"),
        (["--resources.decode-workers", "0"], "--resources.decode-workers must be at least 1"),
        (["--faces.weights", "nowhere.onnx"], "nowhere.onnx"),
        (["--manifest", "m.parquet"], "one of --videos, --manifest"),
    ],
)
def test_preprocess_tells_a_bad_value_with_its_flag_and_makes_nothing(
    arguments: list[str], says: str, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert says in mistake(["preprocess", "--videos", videos, "--out", out, *arguments], capsys)
    assert not out.exists()


def test_preprocess_refuses_what_it_cannot_read_or_write(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", tmp_path / "out"]
    assert "no such" in mistake(["preprocess", "--videos", tmp_path / "gone", *out], capsys).lower()
    assert "not a Parquet file" in mistake(["preprocess", "--manifest", __file__, *out], capsys)
    job = ["preprocess", "--videos", videos]
    assert "contains files but no run.json (a.mp4)" in mistake([*job, "--out", videos], capsys)
    (tmp_path / "file").touch()
    assert "cannot write to --out" in mistake([*job, "--out", tmp_path / "file" / "out"], capsys)
    assert "cannot list" in mistake([*job, "--out", tmp_path / "file"], capsys)


def test_png_tree_tells_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gone, out = tmp_path / "gone", tmp_path / "out"
    assert "is not a crops dataset" in mistake(["png-tree", "export", "--crops", gone, "--tree", out], capsys)
    job = ["png-tree", "import", "--out", out, "--tree"]
    assert "no such folder" in mistake([*job, gone], capsys)
    assert "no PNG frames" in mistake([*job, tmp_path], capsys)
    assert "--size must be at least 32, got 5" in mistake([*job, tmp_path, "--size", "5"], capsys)
    folder = tmp_path / "DF_class1" / "Video1"
    folder.mkdir(parents=True)
    (folder / "Frame1.png").write_text("no picture")
    assert "no frame of the tree is a square PNG" in mistake([*job, tmp_path], capsys)
    assert not out.exists()


def test_doctor_tells_a_wrong_uri_or_address(capsys: pytest.CaptureFixture[str]) -> None:
    assert "unknown scheme 'http'" in mistake(["doctor", "--reads", "http://host/a"], capsys)
    assert "names no bucket" in mistake(["doctor", "--writes", "s3:///a"], capsys)
    assert "--timeout-s must be above 0" in mistake(["doctor", "--timeout-s", "0"], capsys)
    job = [sys.executable, "-m", "dfdm_ray.cli", "doctor", "--ray-address", "127.0.0.1:1"]
    done = subprocess.run(job, capture_output=True, text=True, check=False)  # this process may have a Ray
    assert done.returncode == MISTAKE
    assert "no Ray cluster answers at" in done.stderr


def test_an_unknown_flag_exits_with_2_and_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(["score", "--video", "x"], capsys)
    assert code == MISTAKE
    assert "Traceback" not in err


def test_a_manifest_is_written_once(videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = ["manifest", "--videos", videos, "--out", tmp_path / "m.parquet"]
    assert run(job, capsys)[0] == OK
    assert pq.read_table(tmp_path / "m.parquet").schema.names == MANIFEST.names
    assert "exists; give --overwrite" in mistake(job, capsys)
    assert run([*job, "--overwrite"], capsys)[0] == OK


def test_an_unknown_quality_folder_keeps_its_row_and_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "DFDM_crf17"
    folder.mkdir()
    (folder / "id0_id1_0000_3iae.mp4").touch()
    code, out, _ = run(
        ["manifest", "--videos", tmp_path, "--out", tmp_path / "m.parquet", "--split", "none"], capsys
    )
    assert code == OK
    assert "unknown quality folder DFDM_crf17" in out
    assert pq.read_table(tmp_path / "m.parquet")["crf"].to_pylist() == [None]


def test_crops_are_drawn_and_rejects_are_named(
    carphone: Path, sky: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import cv2

    for source in (carphone, sky):
        (tmp_path / source.name).symlink_to(source)
    code, out, _ = run(["crops", "--videos", tmp_path, "--contact-sheet", tmp_path / "sheet.png"], capsys)
    assert code == OK
    assert "no_face.mp4: no_face: no face in" in out
    assert "carphone_pristine.mp4: 10 frames, planned from frame 0; 11 decoded" in out
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet.shape == (2 * (112 + 18), 10 * 112, 3)
    assert "must end in .png" in mistake(
        ["crops", "--videos", tmp_path, "--contact-sheet", "sheet.gif"], capsys
    )


def test_assets_are_listed_and_a_wrong_name_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(["assets", "list"], capsys)
    assert code == OK
    assert "retinaface" in out
    assert "there is no asset 'face'" in mistake(["assets", "get", "face"], capsys)


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--version"])
    assert capsys.readouterr().out == f"dfdm-ray {__version__}\n"


def test_help_into_a_pipe_that_closes_ends_without_a_traceback() -> None:
    command = [sys.executable, "-m", "dfdm_ray.cli", "score", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as shown:
        assert shown.stdout
        assert shown.stderr
        shown.stdout.close()
        assert shown.stderr.read() == ""


def test_help_does_not_wait_for_ray_or_torch() -> None:
    code = "import sys; from dfdm_ray.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    code += "print(sorted({'ray', 'torch', 'av', 'pyarrow'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "videos", ["s3://AKIA:hidden@bucket/v", "s3://AKIA:hidden@bucket/*.mp4", "s3://A:hidden@[x"]
)
def test_a_key_on_the_command_line_is_refused_and_not_repeated(
    videos: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = mistake(["manifest", "--videos", videos, "--out", tmp_path / "m.parquet"], capsys)
    assert "the command has a key, a password or a token in a URI" in line
    assert "hidden" not in line
