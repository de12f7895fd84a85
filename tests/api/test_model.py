import gc
import inspect
import json
import os
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import torch

import dfdm_ray
from dfdm_ray.config import FaceConfig, FacesConfig, PlanConfig
from dfdm_ray.errors import UserError
from dfdm_ray.schemas import PREDICTIONS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> Iterator[dfdm_ray.Model]:
    with dfdm_ray.load(tiny_checkpoint) as model:
        yield model


@pytest.fixture(scope="module")
def answer(model: dfdm_ray.Model, carphone: Path) -> dfdm_ray.Answer:
    return model.attribute(carphone)


def children() -> set[int]:
    """Return the living processes that decode."""
    found = [child for child in psutil.Process().children() if not is_dead(child.pid)]
    return {child.pid for child in found if "dfdm_ray.clips.serve" in child.cmdline()}


def test_an_answer_has_the_row_of_score_and_its_crops(answer: dfdm_ray.Answer, carphone: Path) -> None:
    assert answer.table.schema.equals(PREDICTIONS)
    assert (answer.status, answer.reject_code) == ("scored", None)
    assert answer.row["video_id"] == answer.row["uri"] == str(carphone)
    assert answer.crops.shape == (4, 64, 64, 3)
    assert answer.generator == max(answer.probabilities, key=answer.probabilities.__getitem__)
    assert answer.probability == max(answer.probabilities.values())
    assert str(answer) == f"inconclusive; {answer.generator} {answer.probability:.3f}"
    assert repr(answer) == f"<Answer for {str(carphone)!r}: {answer}>"


def test_whatever_is_wrong_with_a_file_is_an_answer(model: dfdm_ray.Model, sky: Path, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    paths = [sky, tmp_path / "text.mp4", tmp_path / "gone.mp4", tmp_path, "http://host/a.mp4", ""]
    answers = [*model.attribute_many(paths)]
    codes = ["no_face", "not_a_video", "unreadable", "unreadable", "unreadable", "unreadable"]
    assert [answer.reject_code for answer in answers] == codes
    assert all(answer.generator is None and not len(answer.crops) for answer in answers)
    assert str(answers[2]) == "rejected: unreadable: No such file or directory"
    assert answers[0].figure().get_suptitle().startswith(f"{sky}\nrejected: no_face")


def test_mistakes_are_one_clear_line(model: dfdm_ray.Model, carphone: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="for one video use attribute"):
        model.attribute_many(str(carphone))
    with pytest.raises(UserError, match="has a key"):
        model.attribute("s3://AKIA:hidden@bucket/v.mp4")
    with pytest.raises(UserError, match="cannot read the checkpoint"):
        dfdm_ray.load(tmp_path / "gone.pt")


def test_a_closed_model_says_so_and_may_be_closed_again(tiny_checkpoint: Path, carphone: Path) -> None:
    with dfdm_ray.load(tiny_checkpoint) as model:
        model.close()
        with pytest.raises(UserError, match="this model is closed; load it again"):
            model.attribute(carphone)


def test_any_file_name_is_taken_and_drawn(model: dfdm_ray.Model, carphone: Path, tmp_path: Path) -> None:
    for name in ("=cmd $x_1$\n\x1b[31m.mp4", os.fsdecode(b"na\xefve.mp4")):
        path = tmp_path / name
        path.symlink_to(carphone)
        answer = model.attribute(path)
        json.dumps(answer.to_dict(), allow_nan=False, ensure_ascii=False).encode()
        title = answer.figure().get_suptitle().split("\n")
        assert (answer.status, len(title), title[1]) == ("scored", 2, str(answer))
        assert answer._repr_png_()


def test_a_load_that_fails_leaves_no_process(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.pt").write_bytes(b"no checkpoint")
    (tmp_path / "bad.onnx").write_bytes(b"no weights")
    before = children()
    with pytest.raises(UserError, match=r"bad\.pt is not a torch file"):
        dfdm_ray.load(tmp_path / "bad.pt")
    with pytest.raises(UserError, match="not a usable ONNX file"):
        dfdm_ray.load(tiny_checkpoint, faces=FacesConfig(weights=str(tmp_path / "bad.onnx")))
    with pytest.raises(UserError, match="the checkpoint takes clips of 4 frames"):
        dfdm_ray.load(tiny_checkpoint, plan=PlanConfig(frames=7))
    assert gone(children() - before)


def test_settings_of_another_type_are_one_clear_line(tiny_checkpoint: Path) -> None:
    with pytest.raises(UserError, match=r"^got settings as FaceConfig; give a dfdm_ray\.config\.FacesC"):
        dfdm_ray.load(tiny_checkpoint, faces=FaceConfig())  # type: ignore[arg-type]
    with pytest.raises(UserError, match="got settings as dict; give a "):
        dfdm_ray.load(tiny_checkpoint, plan={"clips": 2})  # type: ignore[arg-type]


@pytest.mark.parametrize("function", [dfdm_ray.load, dfdm_ray.attribute_dataset])
def test_the_reference_describes_every_type_of_settings(function: Callable[..., object]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
    types = [str(parameter.annotation) for parameter in inspect.signature(function).parameters.values()]
    names = {name for text in types for name in re.findall(r"dfdm_ray\.config\.\w+", text)}
    assert len(names) >= 3
    assert [name for name in names if f"::: {name}\n" not in page] == []


def gone(pids: set[int]) -> bool:
    end = time.monotonic() + 20
    while alive := [pid for pid in pids if not is_dead(pid)]:
        if time.monotonic() > end:
            raise AssertionError(f"still there: {alive}")
        time.sleep(0.05)
    return True


def is_dead(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_model_that_is_deleted_ends_its_process(tiny_checkpoint: Path, carphone: Path) -> None:
    before = children()
    model = dfdm_ray.load(tiny_checkpoint)
    assert model.attribute(carphone).status == "scored"
    started = children() - before
    assert len(started) == 1
    del model
    gc.collect()
    assert gone(started)


def test_a_process_that_was_killed_is_replaced(model: dfdm_ray.Model, carphone: Path) -> None:
    before = model.attribute(carphone)
    for pid in children():
        psutil.Process(pid).kill()
    assert model.attribute(carphone).row["logits"] == before.row["logits"]


def test_torch_keeps_the_threads_of_its_user(model: dfdm_ray.Model, carphone: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        model.attribute(carphone)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_dict_is_valid_json_with_frames_and_classes(answer: dfdm_ray.Answer) -> None:
    row = json.loads(json.dumps(answer.to_dict(), allow_nan=False))
    assert [frame["pts_s"] for frame in row["frames"]] == answer.row["pts_s"]
    assert row["probabilities"].keys() == answer.probabilities.keys()


def test_a_frame_has_the_columns_of_the_predictions(answer: dfdm_ray.Answer) -> None:
    frame = answer.to_pandas()
    assert [*frame.columns] == PREDICTIONS.names
    assert frame.loc[0, "generator"] == answer.generator


def test_a_figure_shows_crops_times_and_probabilities(answer: dfdm_ray.Answer) -> None:
    crops, bars = answer.figure().subfigs
    assert [axes.get_title() for axes in crops.axes[:5]] == [*(f"{t:.2f} s" for t in answer.row["pts_s"]), ""]
    assert [label.get_text() for label in bars.axes[0].get_yticklabels()] == [*answer.probabilities]
    assert answer._repr_png_().startswith(b"\x89PNG")


def test_other_face_settings_than_those_of_the_training_give_a_warning(tmp_path: Path) -> None:
    from support.checkpoints import write_untrained

    path = write_untrained(tmp_path / "a.pt", backbone="resnet18", num_frames=4, crop_size=64)
    content = torch.load(path, weights_only=True)
    content["preprocessing"]["max_side"] = 960
    torch.save(content, path)
    with pytest.warns(UserWarning, match="max_side: 960 -> 480"):
        dfdm_ray.load(path).close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dfdm_ray.load(path, faces=FacesConfig(max_side=960)).close()


def test_the_package_is_cheap_to_import_and_knows_its_names() -> None:
    code = "import sys, dfdm_ray; print(sorted({'ray', 'torch', 'pyarrow', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert {*dfdm_ray.__all__} == {*dfdm_ray._PUBLIC}
    assert all(getattr(dfdm_ray, name).__name__ == name for name in dfdm_ray.__all__)
    assert "load" in dir(dfdm_ray)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        dfdm_ray.nothing  # noqa: B018
