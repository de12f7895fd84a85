"""The running mean of the weights of a network in training."""

import copy
from typing import Any

import torch
from torch import Tensor

from dfdm_ray.models.dma_sta import ClipNetwork

_PREFIX = "module."
"""Prefix of the weights in a state, as in torch's ``AveragedModel``, which earlier versions used."""


class RunningMean:
    """A copy of a network with the running mean of its weights and batch statistics.

    The decay rises with the updates, so that the first weights fade: after ``n`` updates it is at most
    ``(1 + n) / (10 + n)``, as in TensorFlow's ``ExponentialMovingAverage``.

    Args:
        decay: Highest decay per update.
    """

    def __init__(self, model: ClipNetwork, *, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)
        self._decay, self._updates = decay, 0
        floats, counters = _tensors(model)
        means, counted = _tensors(self.model)
        self._pairs, self._counters = (means, floats), (counted, counters)

    @torch.no_grad()
    def update(self) -> None:
        """Include the present weights of the network; the first update copies them."""
        decay = min(self._decay, (1 + self._updates) / (10 + self._updates)) if self._updates else 0.0
        # A few kernels for all tensors. torch's AveragedModel waits for the device several times instead.
        torch._foreach_lerp_(*self._pairs, 1 - decay)
        torch._foreach_copy_(*self._counters)
        self._updates += 1

    def state_dict(self) -> dict[str, Any]:
        """Return the mean and the number of updates."""
        weights = {f"{_PREFIX}{name}": value for name, value in self.model.state_dict().items()}
        return {"n_averaged": torch.tensor(self._updates), **weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from the result of :meth:`state_dict`."""
        weights = {name.removeprefix(_PREFIX): value for name, value in state.items()}
        self._updates = int(weights.pop("n_averaged"))
        self.model.load_state_dict(weights)


def _tensors(model: ClipNetwork) -> tuple[list[Tensor], list[Tensor]]:
    """Return weights and batch statistics, and the counters of the batch norms."""
    everything = [value.detach() for value in (*model.parameters(), *model.buffers())]
    return (
        [value for value in everything if value.is_floating_point()],
        [value for value in everything if not value.is_floating_point()],
    )
