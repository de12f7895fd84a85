from types import ModuleType

import numpy as np
import numpy.typing as npt
import pytest
import torch

from dfdm_ray.jobs.evaluate.metrics import calibration, group_confusions, one_vs_rest_auc, rates


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    from torchmetrics.functional import classification  # seconds to import

    return classification


def ints(*values: int) -> npt.NDArray[np.int64]:
    return np.array(values, np.int64)


TRUTH = ints(0, 0, 0, 1, 1, 2)
PREDICTED = ints(0, 0, 1, 1, 0, 1)
ONE_GROUP = ints(0, 0, 0, 0, 0, 0)


def test_each_group_has_its_own_confusions() -> None:
    confusions = group_confusions(ints(0, 1, 1), ints(0, 0, 1), ints(7, 3, 7), num_classes=2)
    assert confusions.tolist() == [[[0, 0], [1, 0]], [[1, 0], [0, 1]]]  # group 3, then 7


def test_rates_of_a_case_worked_by_hand() -> None:
    got = rates(group_confusions(TRUTH, PREDICTED, ONE_GROUP, num_classes=3)[0])
    assert got.accuracy == pytest.approx(3 / 6)
    assert got.recall == pytest.approx([2 / 3, 1 / 2, 0])
    assert got.precision == pytest.approx([2 / 3, 1 / 3, np.nan], nan_ok=True)
    assert got.f1 == pytest.approx([2 / 3, 2 / 5, 0])
    assert got.macro_f1 == pytest.approx((2 / 3 + 2 / 5 + 0) / 3)


def test_a_class_without_videos_has_no_recall_and_does_not_lower_macro_f1() -> None:
    got = rates(group_confusions(ints(0, 1), ints(0, 1), ints(0, 0), num_classes=3)[0])
    assert np.isnan(got.recall[2])
    assert np.isnan(got.f1[2])
    assert got.macro_f1 == 1


def test_a_class_without_videos_that_is_named_lowers_only_the_others() -> None:
    got = rates(group_confusions(ints(0, 0), ints(0, 2), ints(0, 0), num_classes=3)[0])
    assert np.isnan(got.f1[2])
    assert got.precision[2] == 0
    assert got.macro_f1 == pytest.approx(2 / 3)


def test_rates_agree_with_torchmetrics(reference: ModuleType) -> None:
    random = np.random.default_rng(3)
    truth, predicted = random.integers(0, 5, 400), random.integers(0, 5, 400)
    confusion = group_confusions(truth, predicted, np.zeros(400, np.int64), num_classes=5)[0]
    got = rates(confusion)
    pair = torch.from_numpy(predicted), torch.from_numpy(truth)
    assert confusion.tolist() == reference.multiclass_confusion_matrix(*pair, num_classes=5).tolist()
    micro = reference.multiclass_accuracy(*pair, num_classes=5, average="micro")
    assert got.accuracy == pytest.approx(float(micro), abs=1e-6)
    assert got.macro_f1 == pytest.approx(float(reference.multiclass_f1_score(*pair, num_classes=5)), abs=1e-6)
    recall = reference.multiclass_recall(*pair, num_classes=5, average="none")
    assert got.recall == pytest.approx(recall.numpy(), abs=1e-6)


@pytest.mark.parametrize(
    ("scores", "area"),
    [
        ((0.9, 0.8, 0.3, 0.1), 1.0),
        ((0.1, 0.3, 0.8, 0.9), 0.0),
        ((0.9, 0.2, 0.3, 0.1), 3 / 4),  # of the four pairs, (0.2, 0.3) is the wrong way round
        ((0.9, 0.3, 0.3, 0.1), 3.5 / 4),  # a tie counts half
        ((0.5, 0.5, 0.5, 0.5), 0.5),  # nothing but ties
    ],
)
def test_auc_is_the_share_of_pairs_in_order(scores: tuple[float, ...], area: float) -> None:
    probabilities = np.array([[score, 1 - score] for score in scores])
    assert one_vs_rest_auc(ints(0, 0, 1, 1), probabilities) == pytest.approx([area, area])


def test_auc_agrees_with_torchmetrics(reference: ModuleType) -> None:
    random = np.random.default_rng(3)
    truth, scores = random.integers(0, 2, 400), random.integers(0, 50, 400) / 50  # many ties
    expected = float(reference.binary_auroc(torch.from_numpy(scores), torch.from_numpy(truth)))
    got = one_vs_rest_auc(truth, np.stack([1 - scores, scores], axis=1))
    assert got == pytest.approx([expected, expected], abs=1e-6)


def test_a_class_without_videos_or_with_all_has_no_auc() -> None:
    probabilities = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1]])
    some = one_vs_rest_auc(ints(0, 1), probabilities)
    assert some == pytest.approx([1, 1, np.nan], nan_ok=True)
    assert np.isnan(one_vs_rest_auc(ints(0, 0), probabilities)).all()


def test_calibration_of_a_case_worked_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.0, 1.0]])
    fit = calibration(ints(0, 1, 1, 1), ints(0, 0, 1, 1), probabilities)
    # bins 13 (two at 0.9, one right), 9 (0.6, right) and 14 (1.0, right)
    assert fit["ece"] == pytest.approx((2 * abs(0.5 - 0.9) + abs(1 - 0.6) + 0) / 4)
    assert fit["nll"] == pytest.approx(-(np.log(0.9) + np.log(0.1) + np.log(0.6)) / 4)
    assert fit["brier"] == pytest.approx((0.02 + 1.62 + 0.32 + 0) / 4)
    bins = fit["bins"]
    counts = {index: one["num_videos"] for index, one in enumerate(bins) if one["num_videos"]}
    assert counts == {9: 1, 13: 2, 14: 1}
    assert bins[13]["accuracy"] == 0.5
    assert bins[13]["confidence"] == pytest.approx(0.9)
    assert bins[0]["accuracy"] is None


def test_calibration_error_agrees_with_torchmetrics_where_no_probability_is_1(reference: ModuleType) -> None:
    random = np.random.default_rng(5)
    probabilities = random.dirichlet(np.full(5, 0.5), 300)
    truth, predicted = random.integers(0, 5, 300), probabilities.argmax(axis=1)
    pair = torch.from_numpy(probabilities), torch.from_numpy(truth)
    theirs = reference.multiclass_calibration_error(*pair, num_classes=5, n_bins=15)
    assert calibration(truth, predicted, probabilities)["ece"] == pytest.approx(float(theirs), abs=1e-6)


def test_probabilities_of_exactly_1_share_the_last_bin() -> None:
    # One of two is right at a mean probability of 0.98; apart they would be off by 0.96 and 0.
    fit = calibration(ints(0, 1), ints(1, 1), np.array([[0.04, 0.96], [0.0, 1.0]]))
    assert fit["bins"][14]["num_videos"] == 2
    assert fit["ece"] == pytest.approx(0.98 - 0.5)


def test_a_true_generator_of_probability_0_has_a_finite_likelihood() -> None:
    assert calibration(ints(1), ints(0), np.array([[1.0, 0.0]]))["nll"] == pytest.approx(-np.log(1e-12))
