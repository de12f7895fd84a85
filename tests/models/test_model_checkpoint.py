import io
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor

from dfdm_ray.errors import UserError
from dfdm_ray.labels import GENERATORS
from dfdm_ray.models.checkpoint import (
    Preprocessing,
    load_checkpoint,
    load_imagenet_trunk,
    random_model,
    save_checkpoint,
)
from dfdm_ray.models.dma_sta import DFDM_MEAN, DFDM_STD, DmaSta, DmaStaConfig
from dfdm_ray.models.reference import ReferenceSet, fit_reference

pytestmark = pytest.mark.slow

SMALL = DmaStaConfig(backbone="resnet18", num_frames=4)
State = dict[str, Tensor]
Content = dict[str, Any]


def to_bytes(content: object) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def checkpoint_of(model: DmaSta, **given: Any) -> bytes:
    stream = io.BytesIO()
    defaults: dict[str, Any] = {"classes": GENERATORS, "preprocessing": Preprocessing(), "note": ""}
    save_checkpoint(stream, model, **{**defaults, **given})
    return stream.getvalue()


def complaint(content: bytes) -> str:
    with pytest.raises(UserError) as caught:
        load_checkpoint(content, name="model.pt")
    message = str(caught.value)
    assert message.startswith("model.pt ")
    assert len(message.splitlines()) == 1
    return message


def same(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture(scope="module")
def model() -> DmaSta:
    return random_model(SMALL, seed=3)


@pytest.fixture(scope="module")
def ours(model: DmaSta) -> Content:
    content: Content = torch.load(io.BytesIO(checkpoint_of(model)), weights_only=True)
    return content


@pytest.mark.parametrize(
    ("config", "classes"),
    [
        (SMALL, GENERATORS),
        (replace(SMALL, num_classes=3), ("a", "b", "c")),  # our own files may name other generators
        (replace(SMALL, spatial_attention=False, temporal_attention=False), GENERATORS),
        (replace(SMALL, per_frame_batch_norm=True, num_frames=1), GENERATORS),
    ],
)
def test_a_checkpoint_comes_back_bit_for_bit(config: DmaStaConfig, classes: tuple[str, ...]) -> None:
    saved = random_model(config, seed=1)
    saved.bn1.running_mean.normal_()
    preprocessing = Preprocessing(
        crop_size=96, margin=0.1, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 1 / 3), clips=3, max_side=480
    )
    content = checkpoint_of(saved, classes=classes, preprocessing=preprocessing, note="epoch 3\nbest")
    loaded = load_checkpoint(content, name="a")
    assert same(loaded.model.state_dict(), saved.state_dict())
    assert loaded.config == loaded.model.config == config
    assert loaded.classes == classes
    assert loaded.preprocessing == preprocessing
    assert loaded.note == "epoch 3\nbest"
    assert not any(module.training for module in loaded.model.modules())


def test_a_checkpoint_holds_plain_types_under_the_documented_names(ours: Content) -> None:
    assert {key: ours[key] for key in ours if key != "model"} == {
        "format": "dfdm-ray/dma-sta",
        "version": 5,
        "config": asdict(SMALL),
        "classes": list(GENERATORS),
        "preprocessing": {
            "crop_size": 224,
            "margin": 0.3,
            "align": "box",
            "mean": list(DFDM_MEAN),
            "std": list(DFDM_STD),
            "strategy": "keyframe_runs",
            "runs": 2,
            "clips": 1,
            **dict.fromkeys(FACES),
        },
        "note": "",
        "trained_on": {},
        "reference": None,
    }
    assert type(ours["model"]) is dict


def test_a_reference_set_and_what_was_trained_on_come_back(model: DmaSta) -> None:
    reference = a_reference()
    content = checkpoint_of(model, reference=reference, trained_on={"people": ("ab", "cd")})
    loaded = load_checkpoint(content, name="a")
    assert loaded.trained_on == {"people": ["ab", "cd"]}
    assert loaded.reference is not None
    assert loaded.reference.to_plain() == reference.to_plain()


def a_reference() -> ReferenceSet:
    labels = [*range(len(GENERATORS))] * 2
    return fit_reference(
        name="twice each",
        classes=GENERATORS,
        features=np.eye(512)[labels],
        logits=np.eye(len(GENERATORS))[labels],
        labels=labels,
        networks=[f"network {at}" for at in range(len(labels))],
        directions=["a<b"] * len(labels),
        video_ids=[f"{at}.mp4" for at in range(len(labels))],
    )


FACES = {"detector", "max_side", "detect_every", "score_threshold"}


@pytest.mark.parametrize(
    ("version", "absent"),
    [(1, {"align", *FACES, "strategy", "runs", "clips"}), (2, {"align", *FACES}), (3, {"align"}), (4, set())],
)
def test_earlier_versions_with_fewer_settings_still_load(
    ours: Content, version: int, absent: set[str]
) -> None:
    old = {key: value for key, value in ours["preprocessing"].items() if key not in absent}
    kept = without(ours, "reference", "trained_on")
    loaded = load_checkpoint(to_bytes({**kept, "version": version, "preprocessing": old}), name="old")
    assert loaded.preprocessing == Preprocessing()
    assert loaded.reference is None


def test_a_path_is_written_whole_and_equal_models_give_equal_bytes(tmp_path: Path, model: DmaSta) -> None:
    written = tmp_path / "best.pt"
    written.write_bytes(b"the old one")
    keywords: dict[str, Any] = {"classes": GENERATORS, "preprocessing": Preprocessing(), "note": ""}
    save_checkpoint(written, model, **keywords)
    assert written.read_bytes() == checkpoint_of(model)
    loaded = load_checkpoint(written.read_bytes(), name="best.pt")
    assert same(loaded.model.state_dict(), model.state_dict())
    with pytest.raises(ValueError, match="3 class names for a model of 5"):
        save_checkpoint(written, model, **{**keywords, "classes": ["a", "b", "c"]})
    assert list(tmp_path.iterdir()) == [written]


def test_the_memory_layout_of_the_weights_does_not_reach_the_file(model: DmaSta) -> None:
    other = random_model(SMALL, seed=3).to(memory_format=torch.channels_last)
    assert checkpoint_of(other) == checkpoint_of(model)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 12},
        lambda state: {"model": state, "optimizer": {"lr": 0.1}},
        lambda state: {f"module.{key}": value for key, value in state.items()},  # DataParallel
        lambda state: {"state_dict": {f"module.{key}": value for key, value in state.items()}},
        lambda state: {key: value for key, value in state.items() if "num_batches" not in key},  # torch 0.4.0
        lambda state: {key: value.double() for key, value in state.items()},
    ],
    ids=["bare", "state_dict", "model", "module.", "both", "old", "double"],
)
def test_an_authors_state_dict_loads_however_it_is_wrapped(
    model: DmaSta, wrap: Callable[[State], Content]
) -> None:
    loaded = load_checkpoint(to_bytes(wrap(dict(model.state_dict()))), name="a")
    assert same(loaded.model.state_dict(), model.state_dict())
    assert loaded.config == SMALL
    assert loaded.classes == GENERATORS
    assert loaded.preprocessing == Preprocessing()
    assert loaded.is_bare
    assert (
        "; assumed: classes in the order faceswap, lightweight, iae, dfaker, dfl-h128; mean and std of the "
        "DMA-STA code; crops of 224 pixels, margin 0.3; plan keyframe_runs, runs 2, clips 1"
    ) in loaded.note


def test_what_is_assumed_of_a_bare_state_dict_names_the_entry_and_the_frames() -> None:
    plain = random_model(replace(SMALL, temporal_attention=False), seed=0).state_dict()
    note = load_checkpoint(to_bytes({"model": plain, "model_ema": plain}), name="a").note
    assert note.startswith("bare state dict (entry 'model'); assumed: ")
    assert note.endswith("; 10 frames in a clip")


@pytest.mark.parametrize("attention", [True, False])
def test_the_state_of_a_training_is_refused_as_checkpoint_and_as_imagenet_weights(attention: bool) -> None:
    config = replace(SMALL, spatial_attention=attention, temporal_attention=attention)
    model = random_model(config, seed=0)
    state = {"model": model.state_dict(), "mean": None, "optimizer": {}, "best": {}, "history": []}
    says = "^run/state.pt is the state from which .* continues, .*; give dma_sta.pt of the same folder"
    with pytest.raises(UserError, match=says):
        load_checkpoint(to_bytes(state), name="run/state.pt")
    with pytest.raises(UserError, match=says):
        load_imagenet_trunk(model, to_bytes(state), "run/state.pt")


@pytest.mark.parametrize(
    "config",
    [
        DmaStaConfig(),  # the published one
        DmaStaConfig(backbone="resnet34", num_frames=7),
        DmaStaConfig(backbone="resnet18", num_frames=1),
        DmaStaConfig(backbone="resnet18", spatial_attention=False, num_frames=6),
        DmaStaConfig(backbone="resnet18", temporal_attention=False),
    ],
)
def test_the_network_is_inferred_from_keys_and_shapes(config: DmaStaConfig) -> None:
    state = random_model(config, seed=0).state_dict()
    assert load_checkpoint(to_bytes(state), name="a").config == config


def without(content: Content, *keys: str) -> Content:
    return {key: value for key, value in content.items() if key not in keys}


def changed(content: Content, field: str, **values: Any) -> Content:
    return {**content, field: {**content[field], **values}}


@pytest.mark.filterwarnings("ignore:Validating sparse tensor")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: {**c, "format": "another/format"}, "format 'another/format', expected 'dfdm-ray/dma-sta'"),
        (lambda c: {**c, "format": torch.zeros(30, 2)}, "format tensor"),  # its repr has many lines
        (lambda c: {**c, "version": 6}, "version 6, but this dfdm-ray reads up to 5: upgrade"),
        (lambda c: {**c, "version": "1"}, "version '1'"),
        (lambda c: without(c, "version"), "version None"),
        (lambda c: without(c, "preprocessing"), "'preprocessing' must be a dict, got NoneType"),
        (lambda c: {**c, "classes": "abcde"}, "'classes' must be a list, got str"),
        (lambda c: {**c, "classes": ["a", "b"]}, "2 class names for a model of 5 classes: ['a', 'b']"),
        (lambda c: {**c, "classes": ["a"] * 5}, "different, non-empty strings"),
        (lambda c: {**c, "classes": [1, 2, 3, 4, 5]}, "different, non-empty strings"),
        (lambda c: changed(c, "config", backbone="vgg19"), "config: backbone must be one of"),
        (lambda c: changed(c, "config", heads=8), "config must have"),
        (lambda c: {**c, "config": {}}, "config must have"),
        (lambda c: {**c, "preprocessing": {"crop_size": 224}}, "it has ['crop_size']"),
        (lambda c: changed(c, "preprocessing", std=[1.0, 0.0, 1.0]), "std must be above 0"),
        (lambda c: changed(c, "preprocessing", mean=[1, 2]), "mean must be three numbers, got (1, 2)"),
        (lambda c: changed(c, "preprocessing", mean=[torch.eye(9)] * 3), "mean must be three numbers"),
        (lambda c: changed(c, "preprocessing", margin=10**400), "preprocessing: "),
        (
            lambda c: changed(c, "config", num_frames=10),
            "'ta.fc.0.weight' has shape (2, 4), expected (5, 10)",
        ),
        (lambda c: changed(c, "config", num_frames=10**8), "'ta.fc.0.weight' has shape"),  # no 40 PB first
        (lambda c: changed(c, "config", backbone="resnet34"), "missing keys: 88 ("),  # 8 blocks of 11
        (lambda c: changed(c, "config", temporal_attention=False), "unexpected keys: 2 ('ta.fc.0.weight', "),
        (lambda c: without(c, "reference"), "'reference' must be a dict, got NoneType"),
        (lambda c: {**c, "reference": {}}, "damaged reference set: 'features'"),
        (
            lambda c: {**c, "reference": a_reference().to_plain() | {"classes": ["a"] * 5}},
            "its reference set has the classes ('a', ",
        ),
        (lambda c: {**c, "trained_on": None}, "'trained_on' must be a dict, got NoneType"),
        (lambda c: {**c, "model": {}}, "an empty dict"),
        (lambda c: changed(c, "model", **{"fc.bias": [1.0]}), "'fc.bias' has a list"),
        (lambda c: changed(c, "model", **{"fc.bias": torch.full((5,), torch.nan)}), "not finite"),
        (lambda c: changed(c, "model", **{"fc.bias": torch.zeros(5).to_sparse()}), "dense tensors"),
        (lambda c: changed(c, "model", **{"fc.bias": torch.zeros(5, device="meta")}), "dense tensors"),
    ],
)
def test_a_bad_checkpoint_of_ours_is_one_line_that_says_what_is_wrong(
    ours: Content, change: Callable[[Content], Content], message: str
) -> None:
    assert message in complaint(to_bytes(change(ours)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: without(s, "fc.weight"),
            "it lacks 'fc.weight'; it has 'conv1.weight', 'bn1.weight', 'bn1.",
        ),
        (lambda s: without(s, "fc.bias"), "missing keys: 1 ('fc.bias'), unexpected keys: 0"),
        (
            lambda s: {**without(s, "conv1.weight", "bn1.bias", "bn1.weight", "fc.bias"), "x": torch.ones(1)},
            "missing keys: 4 ('conv1.weight', 'bn1.weight', 'bn1.bias' and 1 more), unexpected keys: 1 ('x')",
        ),
        (lambda s: without(s, "ta.fc.0.weight"), "'ta.fc.0.weight' is missing or not a matrix"),
        (
            lambda s: without(s, *[k for k in s if k.startswith("layer4.1")]),
            "match no ResNet-10, 18, 34, 50 or 101",
        ),
        (
            lambda s: {**s, "fc.weight": torch.zeros(6, 512), "fc.bias": torch.zeros(6)},
            "has 6 classes and no names",
        ),
        (
            lambda s: {**s, "fc.weight": torch.zeros(5, 99)},
            "'fc.weight' has shape (5, 99), expected (5, 512)",
        ),
        (lambda s: {"encoder.weight": torch.zeros(3)}, "it lacks 'conv1.weight', 'layer1.0.conv1.weight', "),
        (lambda s: [1, 2], "contains a list, expected a state dict"),
        (lambda s: {"epoch": 3}, "'epoch' has a int"),
        (lambda s: {1: torch.zeros(1)}, "a key of type int"),
        (lambda s: {}, "an empty dict"),
    ],
)
def test_a_bare_dict_of_another_network_is_one_line_that_says_what_is_wrong(
    model: DmaSta, change: Callable[[State], object], message: str
) -> None:
    assert message in complaint(to_bytes(change(dict(model.state_dict()))))


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
def test_imagenet_weights_given_as_a_checkpoint_are_called_that(backbone: str) -> None:
    state = getattr(torchvision.models, backbone)().state_dict()
    message = complaint(to_bytes(state))
    assert f"ImageNet weights of a {backbone}" in message
    assert "not a DMA-STA checkpoint" in message


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, -1])
def test_a_truncated_checkpoint_is_one_clear_line(model: DmaSta, keep: float) -> None:
    content = checkpoint_of(model)
    end = int(len(content) * keep) if isinstance(keep, float) else keep
    assert any(words in complaint(content[:end]) for words in ("cut short", "empty", "not a torch file"))


def test_the_same_seed_gives_the_same_model_and_the_global_generator_is_left_alone() -> None:
    before = torch.random.get_rng_state()
    one, again, other = (random_model(SMALL, seed=seed) for seed in (5, 5, 6))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert same(one.state_dict(), again.state_dict())
    assert not torch.equal(one.fc.weight, other.fc.weight)
    load_checkpoint(checkpoint_of(one), name="a")
    assert torch.equal(torch.random.get_rng_state(), before)
