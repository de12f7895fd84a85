import torch
from torch.optim.swa_utils import AveragedModel

from dfdm_ray.jobs.train.mean import RunningMean
from dfdm_ray.models.checkpoint import random_model
from dfdm_ray.models.dma_sta import DmaSta, DmaStaConfig


def network() -> DmaSta:
    return random_model(DmaStaConfig(backbone="resnet10", num_frames=2), seed=0)


def step(model: DmaSta) -> None:
    """Change all weights and statistics."""
    with torch.no_grad():
        for value in (*model.parameters(), *model.buffers()):
            value.add_(torch.randn(value.shape).to(value.dtype) if value.is_floating_point() else 1)


def test_the_mean_is_that_of_each_step_and_continues_from_its_state() -> None:
    model = network()
    mean = RunningMean(model, decay=0.3)
    expected = {}
    for updates in range(4):
        step(model)
        decay = min(0.3, (1 + updates) / (10 + updates)) if updates else 0
        expected = {
            name: torch.lerp(expected.get(name, value), value, 1 - decay)
            for name, value in model.state_dict().items()
            if value.is_floating_point()
        }
        mean.update()
        if updates == 1:  # stop and continue
            state, mean = mean.state_dict(), RunningMean(model, decay=0.3)
            mean.load_state_dict(state)
    found = mean.model.state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert all(int(value) == 4 for name, value in found.items() if name.endswith("num_batches_tracked"))


def test_a_state_of_an_earlier_version_is_continued() -> None:
    model = network()
    earlier = AveragedModel(model, use_buffers=True)
    step(model)
    earlier.update_parameters(model)
    mean = RunningMean(network(), decay=0.9)
    mean.load_state_dict(earlier.state_dict())
    assert mean.state_dict().keys() == earlier.state_dict().keys()
    for name, value in earlier.state_dict().items():
        assert torch.equal(mean.state_dict()[name], value)
