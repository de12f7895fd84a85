from typing import Any

import pyarrow as pa
import pytest
from support.evaluation_rows import rejected, scored, table

from dfdm_ray.errors import UserError
from dfdm_ray.jobs.evaluate.cases import Cases, as_cases, check_predictions, fill_from_manifest, select
from dfdm_ray.labels import GENERATORS
from dfdm_ray.schemas import MANIFEST


def selected(
    *rows: dict[str, Any], split: str | None = None, crfs: tuple[int, ...] = ()
) -> dict[str, list[dict[str, Any]]]:
    checked = check_predictions(table(rows), origin="run")
    return select(checked, classes=GENERATORS, split=split, crfs=crfs, origin="run")


def cases_of(*rows: dict[str, Any]) -> Cases:
    return as_cases(selected(*rows)["scored"], GENERATORS, origin="run")


def manifest(*rows: dict[str, Any]) -> pa.Table:
    base = dict.fromkeys(MANIFEST.names) | {"uri": "", "size_bytes": 1}
    return pa.Table.from_pylist([{**base, **row} for row in rows], schema=MANIFEST)


def test_every_row_is_a_case_or_counted_with_its_reason() -> None:
    got = selected(
        scored("a", "iae", "dfaker"),
        scored("b", None, "iae"),
        scored("c", "real", "iae"),
        rejected("d", "iae"),
        rejected("e", None),
        scored("f", "iae", "iae", split="train"),
        scored("g", "iae", "iae", crf=23),
        split="test",
        crfs=(0, 10),
    )
    assert {fate: [row["video_id"] for row in rows] for fate, rows in got.items()} == {
        "scored": ["a"],
        "rejected": ["d"],
        "unknown_generator": ["b", "e"],
        "no_class": ["c"],
        "other_split": ["f"],
        "other_quality": ["g"],
    }


def test_cases_have_class_indices_and_groups() -> None:
    cases = cases_of(
        scored("a", "faceswap", "dfl-h128"),
        scored("b", "dfl-h128", "dfl-h128", crf=23),
        scored("c", "iae", "iae", scene="1"),
        scored("d", "iae", "iae", target_identity="id1", source_identity="id0"),
    )
    assert cases.truth.tolist() == [0, 4, 2, 2]
    assert cases.predicted.tolist() == [4, 4, 2, 2]
    assert cases.groups.tolist() == [0, 0, 1, 2]  # qualities and generators of a scene are one group
    assert cases.probabilities.sum(axis=1) == pytest.approx(1)
    assert cases.num_ungrouped == 0


def between(target: str, source: str | None, scene: str = "0") -> dict[str, Any]:
    return {"target_identity": target, "source_identity": source, "scene": scene}


def test_groups_are_networks_in_both_directions_if_a_generator_has_several() -> None:
    cases = cases_of(
        scored("a", "iae", "iae", **between("id0", "id1")),
        scored("b", "iae", "iae", **between("id1", "id0", "7"), crf=23),  # the same network
        scored("c", "iae", "iae", **between("id0", "id2")),
        scored("d", "dfaker", "iae", **between("id0", "id1")),
        scored("e", "dfaker", "iae", **between("id0", None)),  # no network: by scene
        scored("f", "dfaker", "iae", **between("id0", None)),
    )
    assert cases.by_network
    assert cases.groups.tolist() == [0, 0, 1, 2, 3, 3]


def test_groups_are_scenes_if_every_generator_has_one_network() -> None:
    cases = cases_of(
        scored("a", "iae", "iae", **between("id0", "id1")),
        scored("b", "dfaker", "iae", **between("id1", "id0", "7")),
        scored("c", "dfaker", "iae", **between("id0", "id1")),
    )
    assert not cases.by_network
    assert cases.groups.tolist() == [0, 1, 0]


def test_videos_of_which_nothing_is_known_are_groups_of_their_own() -> None:
    alone: dict[str, Any] = {"target_identity": None, "source_identity": None, "scene": None}
    rows = scored("a", "iae", "iae", **alone), scored("b", "iae", "iae", **alone)
    cases = cases_of(*rows, scored("c", "iae", "iae", **{**alone, "scene": "1"}))
    assert cases.groups.tolist() == [0, 1, 2]
    assert cases.num_ungrouped == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "tset"}, r"no video matches --split tset; the videos have test \(1\), unknown \(1\)"),
        ({"crfs": (23,)}, r"no video matches --crf \[23\]; the videos have 0 \(2\)"),
    ],
)
def test_a_filter_that_fits_nothing_names_what_there_is(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        selected(scored("a", "iae", "iae"), scored("b", "iae", "iae", split=None), **options)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "contains no rows"),
        ([rejected("a", "iae"), rejected("b", "iae")], "none of 2 videos can be evaluated: 2 rejected"),
        ([scored("a", None, "iae")], "1 with an unknown true generator"),
        ([scored("a", "real", "iae")], "1 with a generator that is not a class"),
        (
            [scored("a", "iae", "iae"), scored("a", "iae", "iae")],
            "1 video_id repeated, for example 'a'",
        ),
        ([scored("a", "iae", "iae", status="done")], r"but some rows have \['done'\]"),
        ([scored("a", "iae", "iae", probabilities=[0.5, 0.5])], "has 2 probabilities, but the model has 5"),
        ([scored("a", "iae", "iae", probabilities=[])], "has 0 probabilities"),
        ([scored("a", "iae", "iae", probabilities=[float("nan")] * 5)], "not between 0 and 1"),
        ([scored("a", "iae", "iae", probabilities=[0.5] * 5)], "not between 0 and 1 with sum 1"),
        ([scored("a", "iae", "iae", probabilities=[1.2, -0.2, 0, 0, 0])], "not between 0 and 1"),
        ([scored("a", "iae", "iae", generator="nobody")], "attributed to 'nobody'"),
        (
            [scored("a", "iae", "iae", generator="dfaker")],
            "another class has a higher probability",
        ),
    ],
)
def test_what_cannot_be_evaluated_is_a_user_error(rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        cases_of(*rows)


def test_a_table_without_predictions_is_named() -> None:
    with pytest.raises(UserError, match=r"columns \['status'.*'probabilities'\] are missing"):
        check_predictions(pa.table({"video_id": ["a"], "generator": ["iae"]}), origin="x.parquet")


def test_columns_that_only_describe_may_be_missing() -> None:
    few = table([scored("a", "iae", "iae")]).select(["video_id", "status", "generator", "probabilities"])
    assert check_predictions(few, origin="x.parquet")["true_generator"].to_pylist() == [None]


def test_rows_without_a_video_id_are_counted() -> None:
    few = table([scored("a", "iae", "iae")]).drop_columns(["video_id"])
    nameless = few.append_column("video_id", pa.nulls(1, pa.string()))
    with pytest.raises(UserError, match="1 rows have no video_id"):
        check_predictions(nameless, origin="x.parquet")


def test_a_column_of_another_type_is_named() -> None:
    wrong = table([scored("a", "iae", "iae")]).drop_columns(["crf"]).append_column("crf", pa.array(["low"]))
    with pytest.raises(UserError, match="column crf does not have the type"):
        check_predictions(wrong, origin="x.parquet")


def test_a_manifest_fills_what_is_unknown_and_differences_are_reported() -> None:
    rows = scored("a", None, "iae", crf=None), scored("b", "iae", "iae"), scored("c", None, "iae")
    checked = check_predictions(table(rows), origin="run")
    filled, remarks = fill_from_manifest(
        checked,
        manifest(
            {"video_id": "a", "generator": "dfaker", "crf": 23, "split": "test"},
            {"video_id": "b", "generator": "dfaker", "split": "test"},
            {"video_id": "z"},
        ),
    )
    assert filled["true_generator"].to_pylist() == ["dfaker", "iae", None]
    assert filled["crf"].to_pylist() == [23, 0, 0]
    assert remarks == [
        "1 video with another true_generator in the manifest; that of the predictions was taken",
        "1 video of the predictions not in the manifest",
        "1 video of the manifest (all splits) not in the predictions",
    ]
