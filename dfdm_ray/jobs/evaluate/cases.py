"""Select the rows of the predictions that are measured, and count why the others are not.

::

    rows = in another split or quality
         + generator unknown, or not a class of the model      neither right nor wrong
         + rejected                                            wrong, where every video needs an answer
         + scored                                              the cases
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dfdm_ray.errors import UserError
from dfdm_ray.schemas import PREDICTIONS, REJECTED, SCORED

_NEEDED = ("video_id", "status", "generator", "probabilities")
_GROUP = ("target_identity", "source_identity", "scene")
_FILLED = {"true_generator": "generator"} | {name: name for name in ("split", "crf", *_GROUP)}
"""Columns of predictions that a manifest can fill, and their names in the manifest."""
_COLUMNS = (*_NEEDED, *_FILLED, "reject_code", "reject_detail")
_SUM_TOLERANCE = 1e-3

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Cases:
    """``N`` scored videos whose generator is one of ``K`` classes; entry ``i`` of all is the same video."""

    video_ids: Sequence[str]
    truth: npt.NDArray[np.int64]
    """Class index of the true generator, shape ``(N,)``."""
    predicted: npt.NDArray[np.int64]
    """Class index of the attribution, shape ``(N,)``."""
    probabilities: npt.NDArray[np.float64]
    """Shape ``(N, K)``; rows sum to 1."""
    groups: npt.NDArray[np.int64]
    """Index of the video's (target, source, scene), shape ``(N,)``."""
    crfs: Sequence[int | None]
    targets: Sequence[str | None]
    num_ungrouped: int
    """Videos with unknown target, source and scene; each is a group of its own."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Selection:
    """All rows of one predictions table, sorted by what they count for."""

    cases: Cases
    rejected: Sequence[Row]
    """Rejected rows whose generator is a class."""
    unknown: Sequence[str]
    """Ids of videos whose true generator is unknown."""
    other: Sequence[tuple[str, str]]
    """Id and true generator of videos whose generator is not a class of the model."""
    num_rows: int
    num_other_split: int
    num_other_quality: int


def count_of(number: int, what: str) -> str:
    """Return ``1 video``, ``2 videos``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def check_predictions(table: pa.Table, *, origin: str) -> pa.Table:
    """Return the evaluated columns, cast to their types in :data:`schemas.PREDICTIONS`.

    Columns that only describe a video may be missing; they are null then.

    Raises:
        UserError: If a needed column is missing, a type does not fit, a video id is null or repeated, or a
            status is unknown.
    """
    missing = [name for name in _NEEDED if name not in table.column_names]
    if missing:
        raise UserError(
            f"{origin} contains no predictions: columns {missing} are missing; "
            "create predictions with `dfdm-ray score`"
        )
    columns = {}
    for name in _COLUMNS:
        kind = PREDICTIONS.field(name).type
        try:
            columns[name] = (
                table[name].cast(kind) if name in table.column_names else pa.nulls(table.num_rows, kind)
            )
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise UserError(
                f"{origin}: column {name} does not have the type of a predictions column: {error}"
            ) from error
    ids, status = columns["video_id"], columns["status"]
    if ids.null_count:
        raise UserError(f"{origin}: {ids.null_count} rows have no video_id")
    if strange := set(status.to_pylist()) - {SCORED, REJECTED}:
        raise UserError(
            f"{origin}: status must be {SCORED} or {REJECTED}, but some rows have {sorted(map(str, strange))}"
        )
    if repeated := [name for name, count in Counter(ids.to_pylist()).items() if count > 1]:
        raise UserError(
            f"{origin}: {count_of(len(repeated), 'video_id')} repeated, for example {repeated[0]!r}; "
            "every video must have one row"
        )
    return pa.table(columns)


def fill_from_manifest(table: pa.Table, manifest: pa.Table) -> tuple[pa.Table, list[str]]:
    """Fill nulls of ``table`` with the values that ``manifest`` has for the same ``video_id``.

    Returns:
        The filled table, and remarks on the differences between the two.
    """
    listed = {row["video_id"]: row for row in manifest.to_pylist()}
    rows = table.to_pylist()
    differing: Counter[str] = Counter()
    for row in rows:
        known = listed.get(row["video_id"], {})
        for name, theirs in _FILLED.items():
            if row[name] is None:
                row[name] = known.get(theirs)
            elif known.get(theirs) not in (None, row[name]):
                differing[name] += 1
    remarks = [
        f"{count_of(count, 'video')} with another {name} in the manifest; that of the predictions was taken"
        for name, count in differing.items()
    ]
    ids = {row["video_id"] for row in rows}
    for count, what in (
        (len(ids - listed.keys()), "of the predictions not in the manifest"),
        (len(listed.keys() - ids), "of the manifest (all splits) not in the predictions"),
    ):
        if count:
            remarks.append(f"{count_of(count, 'video')} {what}")
    return pa.Table.from_pylist(rows, schema=table.schema), remarks


def select(
    table: pa.Table, *, classes: Sequence[str], split: str | None, crfs: Sequence[int], origin: str
) -> Selection:
    """Sort the rows of a table that :func:`check_predictions` returned.

    Raises:
        UserError: If no case is left, or a row contradicts itself or the classes.
    """
    rows = table.to_pylist()
    in_split = [row for row in rows if split is None or row["split"] == split]
    if not in_split:
        raise _no_match("--split", split, [row["split"] for row in rows], origin)
    wanted = [row for row in in_split if not crfs or row["crf"] in crfs]
    if not wanted:
        raise _no_match("--crf", list(crfs), [row["crf"] for row in in_split], origin)
    truths = [(row["video_id"], row["true_generator"]) for row in wanted]
    unknown = [name for name, true in truths if true is None]
    other = [(name, true) for name, true in truths if true is not None and true not in classes]
    known = [row for row in wanted if row["true_generator"] in classes]
    rejected, scored = ([row for row in known if row["status"] == one] for one in (REJECTED, SCORED))
    if not scored:
        raise UserError(
            f"{origin}: none of {count_of(len(wanted), 'video')} can be evaluated: {len(rejected)} rejected, "
            f"{len(unknown)} with an unknown true generator (--manifest can supply it), {len(other)} with a "
            "generator that is not a class of the model"
        )
    return Selection(
        cases=_cases(scored, classes, origin),
        rejected=rejected,
        unknown=unknown,
        other=other,
        num_rows=len(rows),
        num_other_split=len(rows) - len(in_split),
        num_other_quality=len(in_split) - len(wanted),
    )


def _no_match(option: str, value: Any, found: Sequence[Any], origin: str) -> UserError:
    if not found:
        return UserError(f"{origin} contains no rows; run `dfdm-ray score` first")
    counts = Counter("unknown" if one is None else str(one) for one in found)
    listed = ", ".join(f"{name} ({count})" for name, count in sorted(counts.items()))
    return UserError(
        f"{origin}: no video matches {option} {value}; the videos have {listed}; "
        "--manifest can supply unknown values"
    )


def _cases(rows: Sequence[Row], classes: Sequence[str], origin: str) -> Cases:
    for row in rows:
        _check_attribution(row, classes, origin)
    keys = [tuple(row[name] for name in _GROUP) for row in rows]
    ungrouped = [not any(key) for key in keys]
    named = [
        (row["video_id"],) if alone else key for row, key, alone in zip(rows, keys, ungrouped, strict=True)
    ]
    index = {key: number for number, key in enumerate(dict.fromkeys(named))}
    return Cases(
        video_ids=[row["video_id"] for row in rows],
        truth=np.array([classes.index(row["true_generator"]) for row in rows], np.int64),
        predicted=np.array([classes.index(row["generator"]) for row in rows], np.int64),
        probabilities=np.array([row["probabilities"] for row in rows], np.float64),
        groups=np.array([index[key] for key in named], np.int64),
        crfs=[row["crf"] for row in rows],
        targets=[row["target_identity"] for row in rows],
        num_ungrouped=sum(ungrouped),
    )


def _check_attribution(row: Row, classes: Sequence[str], origin: str) -> None:
    video = f"{origin}: video {row['video_id']!r}"
    generator, values = row["generator"], np.array(row["probabilities"] or [], np.float64)
    order = ", ".join(classes)
    if len(values) != len(classes):
        raise UserError(
            f"{video} has {len(values)} probabilities, but the model has {len(classes)} classes: {order}"
        )
    if not ((values >= 0).all() and abs(values.sum() - 1) <= _SUM_TOLERANCE):
        raise UserError(
            f"{video}: the probabilities are not between 0 and 1 with sum 1: {row['probabilities']}"
        )
    if generator not in classes:
        raise UserError(f"{video} is attributed to {generator!r}, which is not one of {order}")
    if values[classes.index(generator)] < values.max():
        raise UserError(
            f"{video} is attributed to {generator}, but another class has a higher probability; "
            f"the class order is {order}"
        )
