import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dfdm_ray.errors import UserError
from dfdm_ray.models.calibration import best_temperature, conformal, softmax
from dfdm_ray.models.reference import ReferenceSet, fit_reference, from_plain, remarks_on
from dfdm_ray.models.unknown import KINDS, Kind, KnownFeatures, OutlierFeatures, auroc, left_out_scores

CLASSES = ("faceswap", "iae", "real")
CHANNELS, NETWORKS = 16, 6


def videos(number: int, seed: int, spread: float = 0.15) -> dict[str, Any]:
    """``number`` videos of each class, whose features lie around the axis of the class."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(CLASSES)), number)
    features = np.eye(len(CLASSES), CHANNELS)[labels] + rng.normal(0, spread, (len(labels), CHANNELS))
    return {"features": features, "logits": 8 * features[:, : len(CLASSES)], "labels": labels.tolist()}


def fitted(number: int = 60, kind: Kind | None = "neighbours", **changes: Any) -> ReferenceSet:
    made = videos(number, seed=1) | changes
    labels = made["labels"]
    return fit_reference(
        name="test set",
        classes=CLASSES,
        **made,
        networks=[f"{label} {at % NETWORKS}" for at, label in enumerate(labels)],
        directions=["a<b"] * len(labels),
        video_ids=[str(at) for at in range(len(labels))],
        kind=kind,
        shared_with_training="nothing",
    )


def test_a_p_value_is_the_share_of_reference_videos_that_fit_no_better() -> None:
    labels = np.array([0, 0, 0, 1])
    values = conformal(np.array([[0.5, 0.9], [0.05, 0.1]]), np.array([0.2, 0.5, 0.8, 0.4]), labels)
    assert values.tolist() == [[3 / 4, 1.0], [1 / 4, 1 / 2]]
    assert conformal(np.array([[0.5, 0.1, 0.0]]), np.array([0.2, 0.5, 0.8, 0.4]), labels)[0, 2] == 1.0


def test_prediction_sets_cover_new_videos_as_often_as_promised() -> None:
    reference = fitted(200)
    new = videos(2000, seed=2)
    p_values = reference.p_values(new["logits"])
    own = p_values[np.arange(len(new["labels"])), new["labels"]]
    for alpha in (0.05, 0.2):
        assert np.mean(own >= alpha) == pytest.approx(1 - alpha, abs=0.03)


def of_networks(number: int, seed: int) -> tuple[np.ndarray, list[int], list[str]]:
    """Logits, labels and networks of 30 videos of each network; two classes lie near each other."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1, 2], number)
    means = np.array([[2.0, 1.0, -9.0], [1.0, 2.0, -9.0], [-9.0, -9.0, 9.0]])[labels]
    logits = np.repeat(means + rng.normal(0, 1, means.shape), 30, axis=0)
    names = [f"{label} {at}" for at, label in enumerate(labels) for _ in range(30)]
    return logits + rng.normal(0, 0.2, logits.shape), np.repeat(labels, 30).tolist(), names


def test_few_networks_do_not_rule_out_the_truth_for_new_ones() -> None:
    new_logits, new_labels, _ = of_networks(100, seed=0)
    covered, before, real = [], [], []
    for seed in range(1, 11):
        logits, labels, networks = of_networks(4, seed)
        names = {"name": "n", "classes": CLASSES, "video_ids": [str(at) for at in range(len(labels))]}
        reference = fit_reference(
            **names, features=logits, logits=logits, labels=labels, networks=networks, directions=networks
        )
        at = np.arange(len(new_labels))
        found = reference.p_values(new_logits)
        covered.append((found[at, new_labels] >= 0.05).mean())
        earlier = replace(reference, left_out=np.empty(0)).p_values(new_logits)
        before.append((earlier[at, new_labels] >= 0.05).mean())
        real.append((found[np.array(new_labels) == 2, :2] < 0.05).mean())
    assert np.mean(before) < 0.86  # promised: 0.95
    assert np.mean(covered) > np.mean(before) + 0.04
    assert np.mean(real) > 0.99  # what is far apart is still ruled out


def test_a_set_of_an_earlier_version_gives_the_p_values_of_then() -> None:
    reference, new = fitted(), videos(5, seed=5)
    plain = {name: value for name, value in reference.to_plain().items() if name != "left_out"}
    earlier = replace(reference, left_out=np.empty(0))
    np.testing.assert_allclose(from_plain(plain).p_values(new["logits"]), earlier.p_values(new["logits"]))


def test_the_temperature_undoes_a_scale_of_the_logits() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (4000, 3))
    labels = np.array([rng.choice(3, p=p) for p in softmax(logits)])
    assert best_temperature(logits, labels) == pytest.approx(1.0, rel=0.1)
    assert best_temperature(5 * logits, labels) == pytest.approx(5.0, rel=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_every_unknown_score_ranks_strangers_above_known_videos(kind: Kind) -> None:
    reference, new = fitted(kind=kind), videos(50, seed=3)
    strange = np.random.default_rng(4).normal(0, 0.15, new["features"].shape)
    strange[:, len(CLASSES) :] += 1 / 4  # in directions that no class has
    known = reference.unknown_scores(new["features"], new["logits"])
    unknown = reference.unknown_scores(strange, 8 * strange[:, : len(CLASSES)])
    assert np.mean(known[:, None] < unknown[None]) > 0.95
    assert np.mean(known > reference.threshold) < 0.15


def test_a_video_is_not_its_own_neighbour_nor_that_of_its_network() -> None:
    features = np.eye(4)[[0, 0, 0, 0, 1, 1, 1, 1]]
    known = KnownFeatures(
        kind="neighbours", features=features, labels=np.repeat([0, 1], 4), logits=features[:, :2]
    )
    assert known.score(features, features[:, :2]).max() == 0
    assert left_out_scores(known, np.repeat([0, 1], 4)).min() == pytest.approx(np.sqrt(2))


def test_the_score_that_finds_most_outliers_is_taken_unless_one_is_named() -> None:
    of = videos(60, seed=1)
    made_of = np.flatnonzero(np.array(of["labels"]) == CLASSES.index("real"))
    features = of["features"][made_of].copy()
    features[:, len(CLASSES) :] += 0.25  # in directions that no class has; the logits show nothing
    outliers = OutlierFeatures(features=features, logits=of["logits"][made_of], made_of=made_of)
    chosen = fitted(kind=None, outliers=outliers)
    found = chosen.facts["outliers_auroc"]
    assert sorted(found) == sorted(KINDS)
    assert found[chosen.kind] == max(found.values()) > 0.95
    assert found["max_logit"] < 0.7
    assert fitted(kind="energy", outliers=outliers).kind == "energy"
    assert (fitted(kind=None).kind, fitted(kind=None).facts["outliers_auroc"]) == ("mahalanobis", {})


def test_an_outlier_is_not_measured_against_the_video_it_was_made_of() -> None:
    of = videos(60, seed=1)
    made_of = np.flatnonzero(np.array(of["labels"]) == CLASSES.index("real"))
    same = OutlierFeatures(features=of["features"][made_of], logits=of["logits"][made_of], made_of=made_of)
    # The originals themselves are as strange as other real videos, no less.
    found = fitted(kind=None, outliers=same).facts["outliers_auroc"]
    assert found["neighbours"] == pytest.approx(0.5, abs=0.1)


def test_the_area_is_the_share_of_pairs_in_order() -> None:
    assert auroc(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == 1
    assert auroc(np.array([1.0]), np.array([1.0, 2.0, 0.0, 0.0])) == pytest.approx(0.625)


def test_a_perfect_set_gives_no_certainty() -> None:
    logits = 50 * np.eye(3)[np.repeat([0, 1, 2], 20)]
    temperature = best_temperature(logits, np.repeat([0, 1, 2], 20))
    assert softmax(logits / temperature).max() == pytest.approx(21 / 22, abs=0.01)


def test_a_likelihood_ratio_is_limited_by_the_number_of_reference_videos() -> None:
    reference = fitted(20)
    assert reference.log10_lr(1.0, 0) == pytest.approx(np.log10(20))
    assert reference.log10_lr(0.0, 0) == pytest.approx(-np.log10(20))
    assert reference.log10_lr(1 / 3, 0) == pytest.approx(0.0)
    assert reference.log10_lr(0.5, 0) == pytest.approx(np.log10(2))


def test_a_set_survives_plain_types_and_damage_is_refused() -> None:
    reference, new = fitted(), videos(5, seed=5)
    plain = json.loads(json.dumps(reference.to_plain()))
    again = from_plain(plain)
    for name in ("name", "classes", "temperature", "kind", "threshold", "facts"):
        assert getattr(again, name) == getattr(reference, name)
    np.testing.assert_allclose(again.p_values(new["logits"]), reference.p_values(new["logits"]))
    for damaged in (
        {**plain, "kind": "luck"},
        {**plain, "features": {"shape": [3], "base64": "AAAA"}},
        {**plain, "labels": again.to_plain()["labels"] | {"shape": [1]}},
        {**plain, "left_out": again.to_plain()["left_out"] | {"shape": [60, 3]}},
        {name: value for name, value in plain.items() if name != "logits"},
        {**plain, "temperature": "warm"},
    ):
        with pytest.raises(ValueError, match="damaged reference set"):
            from_plain(damaged)


def test_facts_count_videos_networks_and_verdicts() -> None:
    facts = fitted().facts
    assert facts["num_videos"] == dict.fromkeys(CLASSES, 60)
    assert facts["num_networks"] == dict.fromkeys(CLASSES, NETWORKS)
    verdicts = facts["error_rates"]["verdicts"]
    assert sum(verdicts.values()) == 180
    assert verdicts["real: real"] > 40
    assert verdicts["swapped: attributed"] > 80
    assert facts["error_rates"]["accuracy"] > 0.95


def test_a_set_that_cannot_calibrate_is_refused() -> None:
    one = videos(10, seed=1)
    only = {name: value[:10] for name, value in one.items()}
    with pytest.raises(UserError, match="has only faceswap; calibration needs at least two classes"):
        fitted(**only)
    with pytest.raises(UserError, match="has no videos"):
        fitted(**{name: value[:0] for name, value in one.items()})


def test_in_a_class_of_one_network_the_directions_are_left_out() -> None:
    made = videos(40, seed=1)
    labels, either = made["labels"], ["a<b", "b<a"] * 60
    names = {"name": "n", "classes": CLASSES, "video_ids": [str(at) for at in range(120)], **made}
    both = fit_reference(**names, networks=[f"{label} a+b" for label in labels], directions=either)
    one = fit_reference(**names, networks=[f"{label} a+b" for label in labels], directions=["a<b"] * 120)
    assert both.threshold < one.threshold / 2  # there, each class was measured against the others


def test_what_a_set_cannot_support_is_said() -> None:
    counts = {"faceswap": 19, "iae": 18}
    few, real, shared = remarks_on(("faceswap", "iae"), counts, "networks")
    assert few == "fewer than 19 reference videos: iae (18); no verdict can rule these out"
    assert real == "no class of real videos: no verdict can be real"
    assert "shows networks of the training" in shared
    assert remarks_on(("faceswap", "real"), {"faceswap": 19, "real": 19}, "nothing") == []


def test_a_class_of_nineteen_videos_is_the_first_that_can_be_ruled_out() -> None:
    for number, possible in ((18, False), (19, True)):
        reference = replace(fitted(number), name="small")
        least = reference.p_values(np.array([[-100.0, 100.0, -100.0]]))[0, 0]
        assert (least < 0.05 + 1e-12 and least <= 1 / 20) == possible
