import dataclasses
import io

import cv2
import numpy as np
import pytest
import torch

from dfdm_ray.errors import UserError
from dfdm_ray.generators.augment import AugmentConfig
from dfdm_ray.generators.base import SIDES, Side
from dfdm_ray.jobs.generate import train
from dfdm_ray.jobs.generate.config import SwapTrainConfig
from dfdm_ray.jobs.generate.faces import Faces
from dfdm_ray.jobs.generate.train import (
    EARLIER,
    SwapTrainer,
    augmentation,
    draw_losses,
    has_diverged,
    learning_rate_factor,
)
from dfdm_ray.labels import Generator

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


def trainer(
    generator: Generator = Generator.FACESWAP,
    config: SwapTrainConfig = TINY,
    seed: int = 0,
    device: str = "cpu",
) -> SwapTrainer:
    both: dict[Side, Faces] = {"a": faces(40), "b": faces(200)}
    return SwapTrainer(generator=generator, faces=both, config=config, seed=seed, device=device)


def stored(one: SwapTrainer) -> io.BytesIO:
    """The state in a file."""
    file = io.BytesIO()
    torch.save(one.state(), file)
    file.seek(0)
    return file


def steps(one: SwapTrainer, count: int) -> None:
    for _ in range(count):
        one.step()


@pytest.mark.parametrize("generator", Generator)
def test_every_generator_trains_and_draws_a_preview(generator: Generator) -> None:
    one = trainer(generator)
    steps(one, 6)
    assert len(one.losses) == 6
    assert np.isfinite(one.losses).all()
    size = one.network.output_size
    assert one.preview(count=3).shape == (3 * size, 6 * size, 3)
    assert 3 < one.psnr_db("a") < 60


@pytest.mark.gpu
@pytest.mark.parametrize("generator", Generator)
def test_a_gpu_takes_the_same_steps_as_the_cpu(generator: Generator) -> None:
    losses = []
    for device in ("cpu", "cuda"):
        one = trainer(generator, device=device)
        steps(one, 6)
        losses.append(one.losses)
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.05)


def test_steps_in_bfloat16_are_near_those_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = []
    for in_bfloat16 in (False, True):
        monkeypatch.setattr(train, "computes_in_bfloat16", lambda _, it=in_bfloat16: it)
        one = trainer()
        steps(one, 4)
        losses.append(one.losses)
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.02)
    assert losses[1] != losses[0]
    assert {value.dtype for value in one.network.parameters()} == {torch.float32}


@pytest.mark.slow
def test_training_brings_the_reconstruction_nearer() -> None:
    config = SwapTrainConfig(iterations=60, width=0.06, batch_size=4, learning_rate=2e-3, face_px=80)
    one = trainer(config=config)
    before = one.psnr_db("a"), one.psnr_db("b")
    steps(one, 60)
    assert one.psnr_db("a") > before[0] + 2
    assert one.psnr_db("b") > before[1] + 2


def test_a_training_that_stopped_ends_as_if_it_had_not() -> None:
    """The second trainer has another seed, so that nothing but the state can make it agree with the first."""
    whole = trainer()
    steps(whole, 3)
    second = trainer(seed=1)
    second.restore(stored(whole), name="state.pt")
    assert second.losses == whole.losses
    for one in (whole, second):
        steps(one, 3)
    assert second.losses == whole.losses
    for name, values in whole.network.state_dict().items():
        np.testing.assert_array_equal(values.numpy(), second.network.state_dict()[name].numpy())


def test_a_state_of_other_settings_is_refused_but_more_iterations_are_welcome() -> None:
    state = trainer()
    with pytest.raises(UserError, match=r"state\.pt was trained with other settings"):
        trainer(Generator.IAE).restore(stored(state), name="state.pt")
    with pytest.raises(UserError, match="other settings"):
        trainer(config=SwapTrainConfig(iterations=6, width=0.03, batch_size=3, face_px=80)).restore(
            stored(state), name="x"
        )
    longer = SwapTrainConfig(iterations=9, width=0.03, batch_size=2, learning_rate=1e-3, face_px=80)
    before, more = trainer(), trainer(config=longer, seed=1)
    steps(before, 1)
    more.restore(stored(before), name="state.pt")
    assert more.losses == before.losses


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
    one.step()
    moved = max(float((one.network.state_dict()[name] - was).abs().max()) for name, was in before.items())
    assert moved == pytest.approx(TINY.learning_rate / 50, rel=0.01)


def test_augmentation_is_faceswaps_and_colour_and_flip_can_be_switched_off() -> None:
    full = augmentation(SwapTrainConfig(coverage=0.6875))
    assert full == AugmentConfig(coverage=0.6875)
    less = augmentation(SwapTrainConfig(augment_colour=False, flip=False))
    assert (less.clahe_probability, less.lightness, less.colour, less.flip_probability) == (0, 0, 0, 0)
    assert (less.rotation_degrees, less.warp_fraction) == (full.rotation_degrees, full.warp_fraction)


def test_the_geometry_of_the_augmentation_can_be_weakened() -> None:
    full, weak = augmentation(SwapTrainConfig()), augmentation(SwapTrainConfig(geometry=0.2))
    assert (weak.rotation_degrees, weak.zoom_fraction) == pytest.approx((2.0, 0.01))
    assert weak.shift_fraction == pytest.approx(0.2 * full.shift_fraction)
    assert weak.warp_fraction == full.warp_fraction


def test_even_inputs_show_two_people_alike() -> None:
    config = dataclasses.replace(TINY, even_inputs=True)
    means = []
    for one in (trainer(), trainer(config=config)):
        mine, theirs = (one.draw(side)[0] for side in SIDES)
        means.append(float((mine.mean((0, 2, 3)) - theirs.mean((0, 2, 3))).abs().max()))
        assert mine.shape == (2, 3, 64, 64)
        assert -1e-6 <= float(mine.min()) <= float(mine.max()) <= 1 + 1e-6
    assert means[1] < 0.2 * means[0]


def test_single_generators_can_have_another_width() -> None:
    config = SwapTrainConfig(width=0.125, widths=("dfl-h128=0.0625",))
    assert config.width_of(Generator.DFL_H128) == 0.0625
    assert config.width_of(Generator.DFAKER) == 0.125
    narrow = trainer(Generator.DFL_H128, dataclasses.replace(TINY, widths=("dfl-h128=0.02",)))
    usual = trainer(Generator.DFL_H128)
    sizes = [sum(values.numel() for values in one.network.parameters()) for one in (narrow, usual)]
    assert sizes[0] < 0.6 * sizes[1]


@pytest.mark.parametrize("text", ["dfl=0.1", "dfl-h128", "dfl-h128=", "dfl-h128=0", "iae=nan", "iae=inf"])
def test_a_width_that_is_none_is_one_clear_line(text: str) -> None:
    with pytest.raises(UserError, match=r"--train\.widths must be such as dfl-h128=0\.0625, got "):
        SwapTrainConfig(widths=(text,))


def test_a_state_of_an_earlier_version_is_continued() -> None:
    one = trainer()
    steps(one, 2)
    state = one.state()
    for name in EARLIER:
        del state["config"][name]
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    other = trainer()
    other.restore(file, name="state.pt")
    assert other.losses == one.losses


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"geometry": -0.1}, "geometry must be at least 0"),
        ({"width": 0.0}, "finite and above 0, got 0 and"),
        ({"width": float("nan")}, "finite and above 0, got nan and"),
        ({"learning_rate": float("inf")}, "finite and above 0"),
        ({"coverage": 0.5}, "0.6875 or 0.875"),
        ({"iterations": 0}, "at least 1"),
    ],
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
        one.step()
    moved = [
        max(
            float((new - old).abs().max().detach())
            for old, new in zip(before, one.network.parameters(), strict=True)
        )
        for one in (held, free)
    ]
    assert moved[0] < 0.1 * moved[1]


def test_the_plot_of_losses_falls_with_them() -> None:
    picture = cv2.imdecode(np.frombuffer(draw_losses(np.linspace(1, 0, 200)), np.uint8), cv2.IMREAD_COLOR_RGB)
    assert picture.shape == (320, 640, 3)
    of_mean = (picture == (255, 127, 14)).all(axis=2)  # the second colour of matplotlib
    rows, columns = np.nonzero(of_mean)
    left, middle = (rows[(columns >= start) & (columns < start + 100)] for start in (100, 250))
    assert len(left) > 50
    assert left.max() < middle.min()
