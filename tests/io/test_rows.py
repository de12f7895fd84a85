import json
import math

import pyarrow as pa

from dfdm_ray.io.rows import flat, nested
from dfdm_ray.schemas import PREDICTIONS

CLASSES = ("real", "dfaker")
FACE = pa.struct(
    [
        pa.field("verdict", pa.string()),
        pa.field("probability", pa.float32()),
        pa.field("probabilities", pa.list_(pa.float32())),
        pa.field("pts_s", pa.list_(pa.float64())),
    ]
)
SCHEMA = pa.schema(
    [
        pa.field("video_id", pa.string()),
        pa.field("num_faces", pa.int32()),
        pa.field("log10_lr", pa.float32()),
        pa.field("probabilities", pa.list_(pa.float32())),
        pa.field("p_values", pa.list_(pa.float32())),
        pa.field("prediction_set", pa.list_(pa.string())),
        pa.field("features", pa.list_(pa.float32())),
        pa.field("pts_s", pa.list_(pa.float64())),
        pa.field("boxes_xyxy", pa.list_(pa.list_(pa.float32(), 4))),
        pa.field("temporal_attention", pa.list_(pa.float32())),
        pa.field("faces", pa.list_(FACE)),
    ]
)


def row(**values: object) -> dict[str, object]:
    """Return a row as a table with this schema gives it back."""
    faces = [
        {"verdict": "real", "probability": 0.1, "probabilities": [0.9, 0.1], "pts_s": [0.0]},
        {"verdict": "unknown", "probability": None, "probabilities": [], "pts_s": []},
    ]
    given: dict[str, object] = {
        "video_id": "a.mp4",
        "num_faces": 2,
        "log10_lr": 0.3,
        "probabilities": [0.1, 0.9],
        "p_values": [],
        "prediction_set": ["real", "dfaker"],
        "features": [1.5, 2.5],
        "pts_s": [0.0, 0.04],
        "boxes_xyxy": [[1.1, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]],
        "temporal_attention": [0.7, 0.2],
        "faces": faces,
    }
    (found,) = pa.Table.from_pylist([{**given, **values}], schema=SCHEMA).to_pylist()
    return dict(found)


def test_a_nested_row_has_frames_classes_and_faces_and_the_digits_that_were_stored() -> None:
    assert nested(row(), SCHEMA, CLASSES) == {
        "video_id": "a.mp4",
        "num_faces": 2,
        "log10_lr": 0.3,
        "probabilities": {"real": 0.1, "dfaker": 0.9},
        "p_values": None,
        "prediction_set": ["real", "dfaker"],
        "features": [1.5, 2.5],
        "frames": [
            {"pts_s": 0.0, "box_xyxy": [1.1, 2.0, 3.0, 4.0], "temporal_attention": 0.7},
            {"pts_s": 0.04, "box_xyxy": [5.0, 6.0, 7.0, 8.0], "temporal_attention": 0.2},
        ],
        "faces": [
            {
                "verdict": "real",
                "probability": 0.1,
                "probabilities": {"real": 0.9, "dfaker": 0.1},
                "frames": [{"pts_s": 0.0}],
            },
            {"verdict": "unknown", "probability": None, "probabilities": None, "frames": []},
        ],
    }


def test_a_nested_row_has_no_nan_and_no_infinity() -> None:
    odd = row(log10_lr=math.nan, probabilities=[math.inf, 1.0], pts_s=[math.nan, 1.0], faces=None)
    found = json.loads(json.dumps(nested(odd, SCHEMA, CLASSES), allow_nan=False))
    assert (found["log10_lr"], found["probabilities"]["real"], found["faces"]) == (None, None, None)
    assert found["frames"][0]["pts_s"] is None


def test_numbers_stay_the_same_in_single_precision() -> None:
    values = [0.1, 1 / 3, 1e-7, 16777216.0, -2.5e30]
    stored = row(temporal_attention=values)["temporal_attention"]
    shown = nested(row(temporal_attention=values), SCHEMA, CLASSES)["frames"]
    assert [one["temporal_attention"] for one in shown[:2]] == [0.1, 0.33333334]
    numbers = pa.array([one["temporal_attention"] for one in shown], pa.float32())
    assert numbers.to_pylist() == stored


def test_crops_from_elsewhere_have_frames_without_times() -> None:
    found = nested(row(pts_s=[], boxes_xyxy=[]), SCHEMA, CLASSES)
    assert found["frames"] == [{"temporal_attention": 0.7}, {"temporal_attention": 0.2}]


def test_a_flat_row_has_one_cell_per_value_that_a_person_reads() -> None:
    assert flat(row(), SCHEMA, CLASSES) == {
        "video_id": "a.mp4",
        "num_faces": 2,
        "log10_lr": 0.3,
        "probability_real": 0.1,
        "probability_dfaker": 0.9,
        "p_value_real": None,
        "p_value_dfaker": None,
        "prediction_set": "real; dfaker",
        "pts_s": "0.0 0.04",
        "temporal_attention": "0.7 0.2",
        "faces.verdict": "real; unknown",
        "faces.probability": "0.1; ",
    }


def test_every_flat_row_has_the_same_columns() -> None:
    nothing = dict.fromkeys(SCHEMA.names)
    assert [*flat(nothing, SCHEMA, CLASSES)] == [*flat(row(), SCHEMA, CLASSES)]
    assert not any(flat(nothing, SCHEMA, CLASSES).values())
    assert flat(dict.fromkeys(PREDICTIONS.names), PREDICTIONS, CLASSES).keys() >= {"verdict", "video_id"}


def test_no_text_begins_like_a_formula_and_numbers_stay_numbers() -> None:
    for text in ("=cmd|' /C calc'!A0", "+1", "-1", "@SUM(1)", "\t=1", "\r=1", "\n=1", "＝1"):  # noqa: RUF001
        assert flat(row(video_id=text), SCHEMA, CLASSES)["video_id"] == f"'{text}"
    assert flat(row(prediction_set=["=1", "b"]), SCHEMA, CLASSES)["prediction_set"] == "'=1; b"
    assert flat(row(log10_lr=-2.5), SCHEMA, CLASSES)["log10_lr"] == -2.5
    assert flat(row(video_id="a=1"), SCHEMA, CLASSES)["video_id"] == "a=1"
