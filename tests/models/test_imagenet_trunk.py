import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor

from dfdm_ray.errors import UserError
from dfdm_ray.models.checkpoint import load_imagenet_trunk, random_model
from dfdm_ray.models.dma_sta import DmaStaConfig

pytestmark = pytest.mark.slow

SMALL = DmaStaConfig(backbone="resnet18", num_frames=4)
State = dict[str, Tensor]


def to_bytes(content: object) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def without(state: State, *keys: str) -> State:
    return {key: value for key, value in state.items() if key not in keys}


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
@pytest.mark.parametrize("counted", [True, False], ids=["with counts", "as of 2017"])
def test_torchvision_weights_fill_the_trunk_and_nothing_else(backbone: Any, counted: bool) -> None:
    state = getattr(torchvision.models, backbone)().state_dict()
    state["bn1.running_mean"].normal_()
    if not counted:
        state = {key: value for key, value in state.items() if "num_batches_tracked" not in key}
    model = random_model(DmaStaConfig(backbone=backbone), seed=0)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    load_imagenet_trunk(model, to_bytes(state), "weights.pth")
    for key, value in model.state_dict().items():
        is_ours = key.startswith(("fc.", "ta.")) or ".sa." in key or key not in state
        assert torch.equal(value, before[key] if is_ours else state[key]), key


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: without(s, "layer1.0.conv1.weight", "fc.bias"),
            "missing keys: 1 ('layer1.0.conv1.weight'), unexpected keys: 0",
        ),
        (lambda s: {**s, "conv1.weight": torch.zeros(64, 3, 3, 3)}, "'conv1.weight' has shape (64, 3, 3, 3)"),
        (
            lambda s: {**s, "layer2.2.conv1.weight": torch.zeros(1)},
            "keys: 1 ('layer2.2.conv1.weight')",
        ),
        (lambda s: torchvision.models.resnet34().state_dict(), "is not torchvision's resnet18"),
        (
            lambda s: random_model(SMALL, seed=0).state_dict(),
            "keys: 10 ('layer1.0.sa.conv1.weight'",
        ),
        (lambda s: {**s, "bn1.bias": torch.full((64,), torch.inf)}, "not finite"),
    ],
)
def test_wrong_torchvision_weights_are_one_line_and_leave_the_model_as_it_was(
    change: Callable[[State], State], message: str
) -> None:
    model = random_model(SMALL, seed=0)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    content = to_bytes(change(torchvision.models.resnet18().state_dict()))
    with pytest.raises(UserError) as caught:
        load_imagenet_trunk(model, content, "weights.pth")
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
