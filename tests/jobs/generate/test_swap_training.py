import dataclasses
from collections.abc import Callable

import cv2
import numpy as np
import pytest

from dfdm_ray.errors import UserError
from dfdm_ray.generators.augment import AugmentConfig
from dfdm_ray.jobs.generate.config import SwapTrainConfig
from dfdm_ray.jobs.generate.train import (
    SwapTrainer,
    augmentation,
    conversion_spans,
    has_diverged,
    learning_rate_factor,
)
from dfdm_ray.labels import GENERATORS

TINY = SwapTrainConfig(iterations=6, width=0.03, batch_size=2, learning_rate=1e-3, face_px=80)


def faces(hue: int) -> np.ndarray:
    """Six drawn faces that open their mouth, in one colour."""
    pictures = []
    for step in range(6):
        picture = np.full((80, 80, 3), (hue, 120, 255 - hue), np.uint8)
        cv2.ellipse(picture, (40, 44), (22, 28), 0, 0, 360, (220, 180, hue), -1)
        for eye in (30, 50):
            cv2.circle(picture, (eye, 36), 4, (20, 20, 20), -1)
        cv2.ellipse(picture, (40, 58), (9, 2 + step), 0, 0, 360, (120, 20, 40), -1)
        pictures.append(picture)
    return np.stack(pictures)


def trainer(generator: str = "faceswap", config: SwapTrainConfig = TINY, seed: int = 0) -> SwapTrainer:
    both = {"a": faces(40), "b": faces(200)}
    return SwapTrainer(generator=generator, faces=both, config=config, seed=seed, device="cpu")  # type: ignore[arg-type]


def quiet(_: int) -> None:
    pass


@pytest.mark.parametrize("generator", GENERATORS)
def test_every_generator_trains_and_draws_a_preview(generator: str) -> None:
    one = trainer(generator)
    one.run(quiet, report_every=100)
    assert len(one.losses) == 6
    assert np.isfinite(one.losses).all()
    size = one.network.output_size
    assert one.preview(count=3).shape == (3 * size, 6 * size, 3)
    assert 3 < one.psnr_db("a") < 60


@pytest.mark.gpu
@pytest.mark.parametrize("generator", GENERATORS)
def test_a_gpu_takes_the_same_steps_as_the_cpu(generator: str) -> None:
    both = {"a": faces(40), "b": faces(200)}
    losses = []
    for device in ("cpu", "cuda"):
        one = SwapTrainer(generator=generator, faces=both, config=TINY, seed=0, device=device)  # type: ignore[arg-type]
        one.run(quiet, report_every=100)
        losses.append(one.losses)
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.05)


def test_training_brings_the_reconstruction_nearer() -> None:
    config = SwapTrainConfig(iterations=60, width=0.06, batch_size=4, learning_rate=2e-3, face_px=80)
    one = trainer(config=config)
    before = one.psnr_db("a"), one.psnr_db("b")
    one.run(quiet, report_every=100)
    assert one.psnr_db("a") > before[0] + 2
    assert one.psnr_db("b") > before[1] + 2


def test_a_training_that_stopped_ends_as_if_it_had_not() -> None:
    whole = trainer()
    whole.run(quiet, report_every=100)
    first = trainer()
    kept: list[bytes] = []
    stop_at(first, 3, lambda: kept.append(first.to_bytes()))
    second = trainer()
    second.restore(kept[0], name="state.pt")
    second.run(quiet, report_every=100)
    assert second.losses == whole.losses
    for name, values in whole.network.state_dict().items():
        np.testing.assert_array_equal(values.numpy(), second.network.state_dict()[name].numpy())


class StoppedError(Exception):
    pass


def stop_at(one: SwapTrainer, iteration: int, save: Callable[[], object]) -> None:
    def report(now: int) -> None:
        if now == iteration:
            save()
            raise StoppedError

    with pytest.raises(StoppedError):
        one.run(report, report_every=1)


def test_a_state_of_other_settings_is_refused_but_more_iterations_are_welcome() -> None:
    state = trainer().to_bytes()
    with pytest.raises(UserError, match=r"state\.pt was trained with other settings"):
        trainer("iae").restore(state, name="state.pt")
    with pytest.raises(UserError, match="other settings"):
        trainer(config=SwapTrainConfig(iterations=6, width=0.03, batch_size=3, face_px=80)).restore(
            state, name="x"
        )
    longer = SwapTrainConfig(iterations=9, width=0.03, batch_size=2, learning_rate=1e-3, face_px=80)
    more = trainer(config=longer)
    more.restore(state, name="state.pt")
    more.run(quiet, report_every=100)
    assert len(more.losses) == 9


def test_the_cosine_schedule_warms_up_and_ends_at_nothing_and_the_constant_one_stays() -> None:
    cosine = SwapTrainConfig(iterations=1000, schedule="cosine")
    factors = [learning_rate_factor(iteration, cosine) for iteration in range(1000)]
    assert factors[0] == pytest.approx(1 / 50)
    assert max(factors) == factors[49] == pytest.approx(1, abs=0.01)
    assert factors[500] == pytest.approx(0.5)
    assert 0 < factors[-1] < 1e-5
    assert {learning_rate_factor(iteration, SwapTrainConfig()) for iteration in (0, 7, 10**6)} == {1.0}


def test_the_optimiser_takes_its_steps_at_the_scheduled_rate() -> None:
    """Adam's first step has the length of the learning rate, whatever the gradient."""
    config = dataclasses.replace(TINY, schedule="cosine", iterations=1)
    one = trainer(config=config)
    before = {name: values.clone() for name, values in one.network.state_dict().items()}
    one.run(quiet, report_every=100)
    moved = max(float((one.network.state_dict()[name] - was).abs().max()) for name, was in before.items())
    assert moved == pytest.approx(TINY.learning_rate / 50, rel=0.01)


def test_augmentation_is_faceswaps_and_colour_and_flip_can_be_switched_off() -> None:
    full = augmentation(SwapTrainConfig(coverage=0.6875))
    assert full == AugmentConfig(coverage=0.6875)
    less = augmentation(SwapTrainConfig(augment_colour=False, flip=False))
    assert (less.clahe_probability, less.lightness, less.colour, less.flip_probability) == (0, 0, 0, 0)
    assert (less.rotation_degrees, less.warp_fraction) == (full.rotation_degrees, full.warp_fraction)


def test_the_faithful_crop_is_narrower_than_the_trained_one() -> None:
    assert conversion_spans(SwapTrainConfig()) == (1.75, pytest.approx(1.60))
    assert conversion_spans(SwapTrainConfig(faithful_crop=False)) == (1.75, 1.75)


@pytest.mark.parametrize(
    ("values", "says"),
    [({"width": 0.0}, "above 0"), ({"coverage": 0.5}, "0.6875 or 0.875"), ({"iterations": 0}, "at least 1")],
)
def test_bad_settings_are_told(values: dict[str, float], says: str) -> None:
    with pytest.raises(UserError, match=says):
        SwapTrainConfig(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("losses", "diverged"),
    [
        ([], False),
        ([0.5] * 30, False),  # too early to tell
        ([0.5] * 50 + [0.3] * 50 + [0.33] * 50, False),
        ([0.5] * 50 + [0.1] * 50 + [0.6] * 50, True),
        ([0.5] * 50 + [0.1] * 50 + [0.6] * 20, False),  # a spike may pass
        ([0.5] * 50 + [float("nan")] * 50, True),
        ([0.5] * 49 + [float("nan")], True),
    ],
)
def test_losses_that_rise_and_stay_high_are_told(losses: list[float], diverged: bool) -> None:
    assert has_diverged(losses) == diverged


def test_a_limit_on_gradients_shortens_the_first_step() -> None:
    config = dataclasses.replace(TINY, iterations=1, clip_norm=1e-9)  # below Adam's epsilon: no step at all
    held, free = trainer(config=config), trainer(config=dataclasses.replace(config, clip_norm=0.0))
    before = [one.clone() for one in held.network.parameters()]
    for one in (held, free):
        one.run(quiet, report_every=100)
    moved = [
        max(
            float((new - old).abs().max().detach())
            for old, new in zip(before, one.network.parameters(), strict=True)
        )
        for one in (held, free)
    ]
    assert moved[0] < 0.1 * moved[1]
