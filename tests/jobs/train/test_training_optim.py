import pytest
import torch
from torch import nn

from dfdm_ray.errors import UserError
from dfdm_ray.jobs.train.config import Recipe, paper
from dfdm_ray.jobs.train.optim import class_weights, learning_rate, make_loss, make_optimizer


def test_the_cosine_schedule_warms_up_and_ends_at_nothing() -> None:
    recipe = Recipe(epochs=10, learning_rate=1.0)
    rates = [
        learning_rate(recipe, epoch=epoch, step=step, steps=10) for epoch in range(10) for step in range(10)
    ]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert rates[-1] < 1e-3


def test_the_papers_rate_is_a_thousandth_and_from_epoch_40_on_a_tenth_of_it() -> None:
    """Epochs are counted from 1 there and from 0 here."""
    rates = [learning_rate(paper(), epoch=epoch, step=0, steps=7) for epoch in (0, 38, 39, 299)]
    assert rates == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4])


def test_gains_and_biases_do_not_decay_under_adamw() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    groups = make_optimizer(model, Recipe(weight_decay=0.3)).param_groups
    decays = {value.ndim: group["weight_decay"] for group in groups for value in group["params"]}
    assert decays == {4: 0.3, 1: 0.0}


def test_rare_classes_weigh_more_and_equal_ones_the_same() -> None:
    assert class_weights([0, 0, 0, 1], 2).tolist() == pytest.approx([4 / 6, 2.0])
    assert class_weights([0, 1, 2], 3).tolist() == [1, 1, 1]


def test_the_loss_is_a_sum_over_clips() -> None:
    logits, labels = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    loss = make_loss(Recipe(label_smoothing=0), labels.tolist(), 3)
    parts = loss(logits[:2], labels[:2]) + loss(logits[2:], labels[2:])
    assert float(loss(logits, labels)) == pytest.approx(float(parts))
    assert float(parts) == pytest.approx(6 * float(nn.functional.cross_entropy(logits, labels)))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"epochs": 0}, "--recipe.epochs must be at least 1"),
        ({"learning_rate": 0.0}, "--recipe.learning-rate must be above 0"),
        ({"ema_decay": 1.0}, "--recipe.ema-decay must be at least 0 and below 1"),
    ],
)
def test_recipes_that_make_no_sense_are_reported(wrong: dict[str, float], says: str) -> None:
    with pytest.raises(UserError, match=says):
        Recipe(**wrong)  # type: ignore[arg-type]
