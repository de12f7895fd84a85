"""A stage for pipelines of Ray Data: videos in a column of paths, one row in, one row out."""

import os
from collections.abc import Mapping
from typing import Any, Literal

import pyarrow as pa
import ray.data

from dfdm_ray.api.load import settings
from dfdm_ray.clips.stage import MakeClips
from dfdm_ray.config import FacesConfig, LimitsConfig, PlanConfig, ResourceConfig
from dfdm_ray.engine.run import checked_detector
from dfdm_ray.engine.session import nodes_to_come, worker_nodes
from dfdm_ray.engine.shares import file_limits, share_out, total
from dfdm_ray.engine.stage import Stage, apply
from dfdm_ray.errors import UserError
from dfdm_ray.io import storage
from dfdm_ray.jobs.score.attribute_clips import AttributeClips
from dfdm_ray.jobs.score.settings import making_clips
from dfdm_ray.manifest.build import video_row
from dfdm_ray.models.checkpoint import load_checkpoint
from dfdm_ray.schemas import CLIPS, MANIFEST, PREDICTIONS

_CLIPS = "dfdm_ray.clips"
"""Column between the two stages."""
_ROWS = 8
"""Videos in a block, so that all workers have some."""
_FROM_MANIFEST = {*MANIFEST.names, "true_generator"} - {"generator"}
ANSWER = [name for name in PREDICTIONS.names if name not in _FROM_MANIFEST]
"""Columns that are appended."""


def attribute_dataset(
    ds: ray.data.Dataset,
    *,
    checkpoint: str | os.PathLike[str],
    uri_column: str = "path",
    prefix: str = "",
    precision: Literal["fp32", "bf16"] = "fp32",
    features: bool = False,
    plan: PlanConfig | None = None,
    faces: FacesConfig | None = None,
    limits: LimitsConfig | None = None,
    resources: ResourceConfig | None = None,
) -> ray.data.Dataset:
    """Append the columns of the answer to every row of ``ds``; nothing is executed yet.

    All rows and columns of ``ds`` stay. A video that cannot be scored gets the status ``rejected`` and a
    code; so does a row without a path. The columns are those of :data:`dfdm_ray.schemas.PREDICTIONS` from
    ``generator`` on, but not the facts of a manifest.

    Args:
        checkpoint: As in :func:`dfdm_ray.load`, and so are ``precision``, ``features``, ``plan``, ``faces``
            and ``limits``.
        uri_column: Column with the path or pyarrow.fs URI of each video. Relative paths are below the working
            directory of this process.
        prefix: Beginning of the names of the new columns.
        resources: Use of the cluster. Default: all but one CPU, which other stages need.

    Raises:
        UserError: If the checkpoint, the face detector or settings cannot be used, or ``ds`` lacks the column
            or has one of the new ones; workers raise it if the columns are known only there.
    """
    known = ds.schema(fetch_if_missing=False)
    if known is not None and isinstance(known.base_schema, pa.Schema):
        check_columns(known.base_schema, uri_column=uri_column, prefix=prefix)
    faces, limits = settings(faces, FacesConfig), settings(limits, LimitsConfig)
    name = os.fspath(checkpoint)
    content = storage.read_bytes(name, what="checkpoint")
    weights, _ = checked_detector(faces)
    spec, kwargs = making_clips(
        load_checkpoint(content, name=name),
        plan=settings(plan, PlanConfig),
        faces=faces,
        weights=weights,
        max_pixels=limits.max_pixels,
    )
    nodes = _less_one_cpu(worker_nodes())
    shares = share_out(settings(resources, ResourceConfig), nodes, nodes_to_come())
    kwargs |= file_limits(limits, total(nodes), workers=shares.decode_workers)
    cut = Stage(
        fn=CutColumn,
        kwargs={"uri_column": uri_column, "prefix": prefix, "folder": os.getcwd(), "make": kwargs},
        num_workers=shares.decode_workers,
        num_cpus=shares.decode_cpus,
        batch_size=_ROWS,
    )
    model = {"name": name, "shape": spec.shape, "device": shares.device, "precision": precision}
    attribute = Stage(
        fn=AttributeColumn,
        kwargs={"prefix": prefix, "checkpoint": content, "features": features, "compile": False, **model},
        num_workers=shares.model_workers,
        num_cpus=shares.model_cpus,
        num_gpus=shares.model_gpus,
        batch_size=shares.batch_size,
    )
    cut_ds = apply(ds.repartition(target_num_rows_per_block=_ROWS), cut, num_blocks=cut.num_workers)
    return apply(cut_ds, attribute, num_blocks=attribute.num_workers)


class CutColumn:
    """Ray Data actor: appends the clips of the videos in a column, see :class:`MakeClips`."""

    def __init__(self, *, uri_column: str, prefix: str, folder: str, make: Mapping[str, Any]) -> None:
        self._column, self._prefix, self._folder = uri_column, prefix, folder
        self._make = MakeClips(**make)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Process the videos of ``batch`` in turn."""
        check_columns(batch.schema, uri_column=self._column, prefix=self._prefix)
        rows = [video_row(path or "", folder=self._folder) for path in batch[self._column].to_pylist()]
        clips = pa.Table.from_pylist([self._make.clips(row) for row in rows], schema=CLIPS)
        return batch.append_column(_CLIPS, clips.to_struct_array())


class AttributeColumn:
    """Ray Data actor: replaces the clips by answers, see :class:`AttributeClips`."""

    def __init__(self, *, prefix: str, **attribute: Any) -> None:
        self._prefix = prefix
        self._attribute = AttributeClips(**attribute)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Score the videos of ``batch``."""
        answers = self._attribute(pa.Table.from_struct_array(batch[_CLIPS]))
        found = batch.drop_columns([_CLIPS])
        for name in ANSWER:
            found = found.append_column(f"{self._prefix}{name}", answers[name])
        return found


def check_columns(schema: pa.Schema, *, uri_column: str, prefix: str) -> None:
    """Check that a dataset has a column of paths and none of the new columns.

    Raises:
        UserError: If that is not so.
    """
    if uri_column not in schema.names:
        raise UserError(f"the dataset has no column {uri_column!r}; its columns: {', '.join(schema.names)}")
    kind = schema.field(uri_column).type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
        raise UserError(f"the column {uri_column!r} has the type {kind}; it must contain paths as text")
    if both := [name for name in ANSWER if f"{prefix}{name}" in schema.names]:
        text = f"the dataset has a column {prefix}{both[0]} already"
        raise UserError(f"{text}; give another prefix, or drop or rename the column")


def _less_one_cpu(nodes: list[dict[str, float]]) -> list[dict[str, float]]:
    """Return ``nodes`` with one CPU less on the one that has most; without it ``ds`` might never start."""
    most = max(nodes, key=lambda node: node.get("CPU", 0.0), default=None)
    return [{**node, "CPU": max(0.0, node.get("CPU", 0.0) - 1)} if node is most else node for node in nodes]
