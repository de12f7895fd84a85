"""A manifest that is none is refused with a reason."""

import pyarrow as pa
import pytest

from dfdm_ray.errors import UserError
from dfdm_ray.schemas import CLIPS, MANIFEST, PREDICTIONS, check_manifest, of_schema

ROW = {"video_id": "a.mp4", "uri": "/a.mp4", "size_bytes": 1}


def table(*rows: dict[str, object], schema: pa.Schema = MANIFEST) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=schema)


def nullable() -> pa.Schema:
    return pa.schema([field.with_nullable(True) for field in MANIFEST])


def retyped(name: str, kind: pa.DataType) -> pa.Schema:
    return MANIFEST.set(MANIFEST.get_field_index(name), pa.field(name, kind))


def test_a_manifest_passes_and_keeps_its_metadata() -> None:
    given = table(ROW).replace_schema_metadata({"split_method": "video"})
    checked = check_manifest(given, origin="m.parquet")
    assert checked.schema.equals(MANIFEST)
    assert checked.schema.metadata == {b"split_method": b"video"}
    assert checked.to_pylist() == given.to_pylist()


def test_columns_may_be_more_in_another_order_and_of_a_type_that_fits() -> None:
    wide = table(ROW, schema=retyped("crf", pa.int64())).append_column("note", pa.array(["x"]))
    checked = check_manifest(wide.select(wide.column_names[::-1]), origin="m.parquet")
    assert checked.schema.equals(MANIFEST)
    large = table(ROW, schema=retyped("uri", pa.large_string()))
    assert check_manifest(large, origin="m.parquet").schema.equals(MANIFEST)


def test_generators_get_the_names_of_their_classes_and_others_are_counted() -> None:
    spelled = ["Faceswap", "IAE", "", "FSGAN", None, "FSGAN"]
    rows = [{**ROW, "video_id": str(at), "generator": name} for at, name in enumerate(spelled)]
    checked = check_manifest(table(*rows).replace_schema_metadata({"a": "b"}), origin="m.parquet")
    assert checked["generator"].to_pylist() == ["faceswap", "iae", None, "FSGAN", None, "FSGAN"]
    assert checked.schema.metadata == {b"a": b"b"}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        # a missing column
        (table(ROW).drop_columns(["crf", "uri"]), r"lacks the columns \['uri', 'crf'\]"),
        # words where numbers belong
        (table({**ROW, "crf": "high"}, schema=retyped("crf", pa.string())), "does not fit"),
        # a type that cannot be cast at all
        (table({**ROW, "uri": [1]}, schema=retyped("uri", pa.list_(pa.int64()))), "does not fit"),
        # a number too large
        (table({**ROW, "crf": 2**40}, schema=retyped("crf", pa.int64())), "does not fit"),
        # a key, which every row of a run would contain
        (
            table({**ROW, "uri": "s3://AKIA:hidden@bucket/a.mp4"}),
            r"^m\.parquet has a key, a pass",
        ),
        # doubled ids
        (table(ROW, ROW), "2 rows but only 1 different video_id"),
        # required values that are null
        (table({**ROW, "uri": None}, schema=nullable()), "does not fit"),
        (table({**ROW, "video_id": None}, schema=nullable()), "does not fit"),
    ],
)
def test_what_is_no_manifest_is_refused_by_name(wrong: pa.Table, words: str) -> None:
    with pytest.raises(UserError, match=words) as raised:
        check_manifest(wrong, origin="m.parquet")
    assert str(raised.value).startswith("m.parquet ")


def test_every_row_between_stages_keeps_the_ids_of_the_manifest() -> None:
    assert CLIPS.names[: len(MANIFEST)] == MANIFEST.names
    renamed = {"generator": "true_generator"}
    left_out = {renamed.get(name, name) for name in MANIFEST.names} - set(PREDICTIONS.names)
    assert left_out == {"size_bytes", "modified_ns"}


def test_a_manifest_of_an_earlier_version_passes() -> None:
    checked = check_manifest(table({**ROW, "split": "val"}).drop_columns(["modified_ns"]), origin="m.parquet")
    assert checked.schema.equals(MANIFEST)
    assert (checked["modified_ns"].to_pylist(), checked["split"].to_pylist()) == ([None], ["val"])


def test_columns_that_an_earlier_version_did_not_store_are_null_and_others_are_refused() -> None:
    old = table({**ROW, "crf": 10}).drop_columns(["modified_ns"])
    assert of_schema(old, MANIFEST).to_pylist() == table({**ROW, "crf": 10}).to_pylist()
    for wrong in (old.drop_columns(["scene"]), old.append_column("of_a_later_version", pa.array([1]))):
        with pytest.raises(ValueError, match="field names"):
            of_schema(wrong, MANIFEST)
