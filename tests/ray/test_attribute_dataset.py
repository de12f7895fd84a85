import sys
from pathlib import Path

import pyarrow as pa
import pytest
import ray.cloudpickle
import ray.data

import dfdm_ray
from dfdm_ray.api.dataset import ANSWER
from dfdm_ray.engine.session import ray_session
from dfdm_ray.engine.stage import own_words
from dfdm_ray.errors import UserError

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the workers cannot import tests


def twice(row: dict[str, object]) -> dict[str, object]:
    return {**row, "size": 2 * int(str(row["size"]))}


def test_a_pipeline_gets_an_answer_for_every_row_and_keeps_its_columns(
    carphone: Path, sky: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(carphone.parent)
    paths = [carphone.name, str(sky), "gone.mp4", None, str(carphone)]
    rows = [{"path": path, "size": number, "split": "mine"} for number, path in enumerate(paths)]
    ds = ray.data.from_items(rows).map(twice)  # a stage before it, which needs a CPU as well
    table = dfdm_ray.attribute_dataset(ds, checkpoint=tiny_checkpoint, prefix="dfdm_")
    found = sorted(table.take_all(), key=lambda row: int(row["size"]))
    assert [{**row, "size": 2 * int(str(row["size"]))} for row in rows] == [
        {name: row[name] for name in ("path", "size", "split")} for row in found
    ]
    codes = [None, "no_face", "unreadable", "unreadable", None]
    assert [row["dfdm_reject_code"] for row in found] == codes
    assert found[0].keys() == {"path", "size", "split", *(f"dfdm_{name}" for name in ANSWER)}
    with dfdm_ray.load(tiny_checkpoint) as model:
        answer = model.attribute(carphone)
    assert found[0]["dfdm_generator"] == answer.generator
    assert found[0]["dfdm_pts_s"] == answer.row["pts_s"]


def test_a_wrong_column_is_one_clear_line_before_any_work(tiny_checkpoint: Path) -> None:
    ds = ray.data.from_arrow(pa.table({"video": ["a.mp4"], "path": [1], "status": ["mine"]}))
    with pytest.raises(UserError, match="has no column 'uri'; its columns: video, path, status"):
        dfdm_ray.attribute_dataset(ds, checkpoint=tiny_checkpoint, uri_column="uri")
    with pytest.raises(UserError, match="'path' has the type int64; it must contain paths as text"):
        dfdm_ray.attribute_dataset(ds, checkpoint=tiny_checkpoint)
    with pytest.raises(UserError, match="has a column status already; give another prefix"):
        dfdm_ray.attribute_dataset(ds, checkpoint=tiny_checkpoint, uri_column="video")


def test_a_worker_says_it_where_the_columns_are_not_known_before(tiny_checkpoint: Path) -> None:
    ds = ray.data.from_items([{"video": "a.mp4", "size": 1}]).map(twice)
    # The session keeps Ray Data from logging what it also raises.
    with ray_session(None), pytest.raises(ray.exceptions.RayTaskError) as caught:
        dfdm_ray.attribute_dataset(ds, checkpoint=tiny_checkpoint).take_all()
    assert str(own_words(caught.value)) == "the dataset has no column 'path'; its columns: video, size"
