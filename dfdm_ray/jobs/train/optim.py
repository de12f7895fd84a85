"""Optimiser, learning rate and loss of a recipe."""

import math
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dfdm_ray.jobs.train.config import Recipe

_WARM_UP_FRACTION = 0.05


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return the recipe's optimiser. Under AdamW only tensors of two or more dimensions decay."""
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            model.parameters(),
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
        )
    weights = [value for value in model.parameters() if value.ndim > 1]
    others = [value for value in model.parameters() if value.ndim <= 1]
    groups = [
        {"params": weights, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate)


def learning_rate(recipe: Recipe, *, epoch: int, step: int, steps: int) -> float:
    """Return the learning rate of a step.

    Args:
        recipe: What schedule.
        epoch: From 0.
        step: Within the epoch, from 0.
        steps: Of an epoch.
    """
    if recipe.schedule == "constant":
        return recipe.learning_rate
    if recipe.schedule == "step":
        return recipe.learning_rate * 0.1 ** sum(epoch + 1 >= at for at in recipe.step_epochs)
    done, planned = epoch * steps + step, recipe.epochs * steps
    warm_up = max(1, round(planned * _WARM_UP_FRACTION))
    if done < warm_up:
        return recipe.learning_rate * (done + 1) / warm_up
    return recipe.learning_rate * (1 + math.cos(math.pi * (done - warm_up) / max(1, planned - warm_up))) / 2


def class_weights(labels: Sequence[int], num_classes: int) -> Tensor:
    """Return the inverse of each class's share, mean 1 over the videos, shape ``(K,)``."""
    counts = Counter(labels)
    return torch.tensor([len(labels) / (num_classes * counts[index]) for index in range(num_classes)])


def make_loss(recipe: Recipe, labels: Sequence[int], num_classes: int) -> nn.CrossEntropyLoss:
    """Return the recipe's cross entropy, summed over clips, for training videos of these ``labels``.

    A sum, because torch's weighted mean divides by the weights of the part at hand, which differ by rank.
    """
    weight = class_weights(labels, num_classes) if recipe.class_weights else None
    return nn.CrossEntropyLoss(weight=weight, label_smoothing=recipe.label_smoothing, reduction="sum")
