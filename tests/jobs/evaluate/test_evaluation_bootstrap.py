import numpy as np
import numpy.typing as npt
import pytest

from dfdm_ray.jobs.evaluate import metrics
from dfdm_ray.jobs.evaluate.metrics import group_confusions, interval, rates, resample, share

NUM_GROUPS, PER_GROUP = 20, 15


def pure_groups() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Twelve groups of which all is right, eight of which all is wrong."""
    groups = np.repeat(np.arange(NUM_GROUPS), PER_GROUP)
    truth = np.zeros(len(groups), np.int64)
    return truth, (groups >= 12).astype(np.int64), groups


def accuracy_interval(groups: npt.NDArray[np.int64], seed: int = 0, num_samples: int = 2000) -> list[float]:
    truth, predicted, _ = pure_groups()
    confusions = group_confusions(truth, predicted, groups, num_classes=2)
    drawn = rates(resample(confusions, num_samples=num_samples, seed=seed))
    return [float(bound) for bound in interval(drawn.accuracy, len(confusions))]


def test_grouped_intervals_are_wider_where_groups_are_pure() -> None:
    _, _, groups = pure_groups()
    grouped, single = accuracy_interval(groups), accuracy_interval(np.arange(len(groups)))
    # Standard errors sqrt(0.24 / n) with n = 20 groups and 300 videos, times 2 * 1.96.
    assert grouped[1] - grouped[0] == pytest.approx(3.92 * np.sqrt(0.24 / 20), rel=0.1)
    assert single[1] - single[0] == pytest.approx(3.92 * np.sqrt(0.24 / 300), rel=0.1)
    assert grouped[0] < 0.6 < grouped[1]
    assert single[0] < 0.6 < single[1]


def test_a_seed_gives_the_same_interval_again_and_another_seed_another() -> None:
    _, _, groups = pure_groups()
    drawn = [resample(group_confusions(*pure_groups(), 2), num_samples=200, seed=seed) for seed in (1, 1, 2)]
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])
    assert accuracy_interval(groups, seed=4) == accuracy_interval(groups, seed=4)


def test_memory_is_bounded_without_changing_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    confusions = group_confusions(*pure_groups(), 2)
    whole = resample(confusions, num_samples=101, seed=0)
    monkeypatch.setattr(metrics, "_DRAWS_AT_ONCE", 10 * NUM_GROUPS)
    assert np.array_equal(resample(confusions, num_samples=101, seed=0), whole)


def test_every_resample_has_as_many_groups_as_the_data() -> None:
    drawn = resample(group_confusions(*pure_groups(), 2), num_samples=50, seed=0)
    assert drawn.shape == (50, 2, 2)
    assert (drawn.sum(axis=(1, 2)) == NUM_GROUPS * PER_GROUP).all()


def test_one_group_has_no_interval() -> None:
    assert np.isnan(accuracy_interval(np.zeros(NUM_GROUPS * PER_GROUP, np.int64))).all()


def test_undefined_resamples_are_passed_over_and_undefined_values_have_no_interval() -> None:
    values = np.array([[0.2, np.nan, np.nan], [np.nan, np.nan, 0.5], [0.4, np.nan, 0.5]])
    low, high = interval(values, np.array([2, 2, 1]))
    assert 0.2 <= low[0] < high[0] <= 0.4
    assert np.isnan([low[1], high[1]]).all()  # never defined
    assert np.isnan([low[2], high[2]]).all()  # defined, but on one group


def test_an_interval_is_over_groups_and_never_certain() -> None:
    found, low, high = share([True] * 40, [number // 10 for number in range(40)])
    assert (found, high) == (1.0, 1.0)
    assert low == pytest.approx(0.51, abs=0.01)  # Wilson's for 4 of 4
    mixed, low, high = share([True, True, False, True], [0, 1, 2, 3])
    assert mixed == 0.75
    assert 0 <= low < mixed < high <= 1
