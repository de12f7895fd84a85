import io
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from dfdm_ray.errors import UserError
from dfdm_ray.labels import GENERATORS
from dfdm_ray.models.checkpoint import (
    LoadedModel,
    Preprocessing,
    load_checkpoint,
    random_model,
    save_checkpoint,
)
from dfdm_ray.models.dma_sta import DmaSta, DmaStaConfig

KEYWORDS: dict[str, Any] = {
    "classes": GENERATORS,
    "preprocessing": Preprocessing(crop_size=96, std=(0.4, 0.5, 1 / 3)),
    "note": "epoch 3\nbest",
}


@pytest.fixture(scope="module")
def model() -> DmaSta:
    return random_model(DmaStaConfig(backbone="resnet18", num_frames=4), seed=1)


@pytest.fixture
def file(model: DmaSta, tmp_path: Path) -> Path:
    path = tmp_path / "best.safetensors"
    save_checkpoint(path, model, **KEYWORDS)
    return path


def facts(loaded: LoadedModel) -> tuple[object, ...]:
    return loaded.config, loaded.classes, loaded.preprocessing, loaded.note


def test_a_checkpoint_is_the_same_in_both_formats(file: Path, model: DmaSta) -> None:
    pickled = io.BytesIO()
    save_checkpoint(pickled, model, **KEYWORDS)
    ours = load_checkpoint(pickled.getvalue(), name="a")
    loaded = load_checkpoint(file.read_bytes(), name="b")
    assert facts(loaded) == facts(ours)
    state, expected = loaded.model.state_dict(), model.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], expected[key]) for key in state)


def test_equal_models_give_equal_bytes(file: Path, model: DmaSta, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "again.safetensors", model, **KEYWORDS)
    assert (tmp_path / "again.safetensors").read_bytes() == file.read_bytes()


def test_any_tool_can_read_its_tensors(file: Path, model: DmaSta) -> None:
    found = safetensors.torch.load_file(file)
    assert found.keys() == model.state_dict().keys()


def test_a_bare_state_dict_of_the_authors_loads() -> None:
    model = random_model(DmaStaConfig(num_frames=10), seed=0)
    state = {f"module.{key}": value for key, value in model.state_dict().items()}
    loaded = load_checkpoint(safetensors.torch.save(state), name="authors.safetensors")
    assert "assumed" in loaded.note
    assert loaded.config == model.config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content[: len(content) // 2], "is a damaged safetensors file"),
        (lambda content: b"\xff" * 8 + content[8:], "is a damaged safetensors file"),
        (lambda content: content.replace(b'"dfdm-ray":"', b'"dfdm-ray":"['), "is a damaged safetensors file"),
        (lambda content: content.replace(b"dfdm-ray/dma-sta", b"dfdm-ray/dma-stb"), "has the format"),
    ],
)
def test_a_damaged_file_is_one_clear_line(change: Any, message: str, file: Path) -> None:
    with pytest.raises(UserError, match=f"^b {message}") as error:
        load_checkpoint(change(file.read_bytes()), name="b")
    assert "\n" not in str(error.value)
