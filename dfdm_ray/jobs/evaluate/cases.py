"""Which rows of predictions count, and why the others do not.

::

    rows = in another split or quality
         + generator unknown + generator that is no class of the model     neither right nor wrong
         + rejected                                                        wrong, if one wants an answer
         + scored                                                          the cases
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dfdm_ray.errors import UserError
from dfdm_ray.jobs.evaluate.wording import count_of
from dfdm_ray.schemas import PREDICTIONS, REJECTED, SCORED

_NEEDED = ("video_id", "status", "generator", "probabilities")
_FILLED = {
    "true_generator": "generator",
    "split": "split",
    "crf": "crf",
    "target_identity": "target_identity",
    "source_identity": "source_identity",
    "scene": "scene",
}
"""Columns of predictions that a manifest can fill, and their names there."""
_COLUMNS = (*_NEEDED, *_FILLED, "reject_code", "reject_detail")
_SUM_TOLERANCE = 1e-3
_GROUP = ("target_identity", "source_identity", "scene")

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
    """Number of the video's (target, source, scene), 0-based, shape ``(N,)``."""
    crfs: Sequence[int | None]
    targets: Sequence[str | None]
    num_ungrouped: int
    """Videos of which neither target, source nor scene is known; each is a group of its own."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Selection:
    """All rows of one predictions table, told apart."""

    cases: Cases
    rejected: Sequence[Row]
    """Rejected rows whose generator is a class."""
    unknown: Sequence[str]
    """Ids of videos whose true generator is not known."""
    other: Sequence[tuple[str, str]]
    """Id and true generator of videos whose generator is no class of the model."""
    num_rows: int
    num_other_split: int
    num_other_quality: int


def check_predictions(table: pa.Table, *, origin: str) -> pa.Table:
    """Return the columns that are evaluated, of their types in :data:`schemas.PREDICTIONS`.

    Columns that only describe a video may be missing; they are null then.

    Raises:
        UserError: If a needed column is missing, types do not fit, a video stands twice or has no id,
            or a status is not known.
    """
    missing = [name for name in _NEEDED if name not in table.column_names]
    if missing:
        raise UserError(
            f"{origin} holds no predictions: it lacks the columns {missing}; make some with `dfdm-ray score`"
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
                f"{origin}: column {name} does not fit the predictions' schema: {error}"
            ) from error
    _check_ids_and_status(columns["video_id"], columns["status"], origin)
    return pa.table(columns)


def _check_ids_and_status(ids: pa.ChunkedArray, status: pa.ChunkedArray, origin: str) -> None:
    if ids.null_count:
        raise UserError(f"{origin}: {ids.null_count} rows have no video_id")
    strange = set(status.to_pylist()) - {SCORED, REJECTED}
    if strange:
        raise UserError(
            f"{origin}: status must be {SCORED} or {REJECTED}, but there is {sorted(map(str, strange))}"
        )
    doubled = [name for name, count in Counter(ids.to_pylist()).items() if count > 1]
    if doubled:
        raise UserError(
            f"{origin}: {len(doubled)} video_id stand more than once, such as {doubled[0]!r}; "
            "every video must have one row"
        )


def fill_from_manifest(table: pa.Table, manifest: pa.Table) -> tuple[pa.Table, list[str]]:
    """Fill nulls of ``table`` with what ``manifest`` says of the same ``video_id``.

    Args:
        table: As from :func:`check_predictions`.
        manifest: :data:`schemas.MANIFEST`.

    Returns:
        The filled table, and remarks on what differs between the two.
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
    """Tell the rows of ``table`` apart.

    Args:
        table: As from :func:`check_predictions`.
        classes: The model's, in class order.
        split: Only videos of it, all if ``None``.
        crfs: Only videos of these qualities, all if empty.
        origin: What to call the table in messages.

    Raises:
        UserError: If nothing is left to evaluate, or a row is not what it should be.
    """
    rows = table.to_pylist()
    in_split = [row for row in rows if split is None or row["split"] == split]
    if not in_split:
        raise UserError(_nothing_in("--split", split, [row["split"] for row in rows], origin))
    wanted = [row for row in in_split if not crfs or row["crf"] in crfs]
    if not wanted:
        raise UserError(_nothing_in("--crf", list(crfs), [row["crf"] for row in in_split], origin))
    truths = [(row["video_id"], row["true_generator"]) for row in wanted]
    unknown = [name for name, true in truths if true is None]
    other = [(name, true) for name, true in truths if true is not None and true not in classes]
    known = [row for row in wanted if row["true_generator"] in classes]
    rejected, scored = ([row for row in known if row["status"] == one] for one in (REJECTED, SCORED))
    if not scored:
        counts = (
            f"of {len(wanted)} videos {len(rejected)} are rejected, of {len(unknown)} the true generator "
        )
        counts += f"is unknown (--manifest can tell it), of {len(other)} it is no class of the model"
        raise UserError(f"{origin}: nothing to evaluate: {counts}")
    return Selection(
        cases=_cases(scored, classes, origin),
        rejected=rejected,
        unknown=unknown,
        other=other,
        num_rows=len(rows),
        num_other_split=len(rows) - len(in_split),
        num_other_quality=len(in_split) - len(wanted),
    )


def _nothing_in(option: str, value: Any, found: Sequence[Any], origin: str) -> str:
    if not found:
        return f"{origin} holds no rows; run `dfdm-ray score` first"
    counts = Counter("unknown" if one is None else str(one) for one in found)
    there = ", ".join(f"{name} ({count})" for name, count in sorted(counts.items()))
    return f"{origin}: no video fits {option} {value}; there are {there}; --manifest can tell what is unknown"


def _cases(rows: Sequence[Row], classes: Sequence[str], origin: str) -> Cases:
    probabilities = _probabilities(rows, classes, origin)
    predicted = np.array([_attributed(row, classes, origin) for row in rows], np.int64)
    chosen = probabilities[np.arange(len(rows)), predicted]
    wrong_order = np.flatnonzero(chosen < probabilities.max(axis=1))
    if len(wrong_order):
        row = rows[int(wrong_order[0])]
        raise UserError(
            f"{origin}: video {row['video_id']!r} is attributed to {row['generator']}, but that is not its "
            f"highest probability in the class order {', '.join(classes)}"
        )
    keys = [tuple(row[name] for name in _GROUP) for row in rows]
    ungrouped = [not any(key) for key in keys]
    named = [
        (row["video_id"],) if alone else key for row, key, alone in zip(rows, keys, ungrouped, strict=True)
    ]
    number = {key: index for index, key in enumerate(dict.fromkeys(named))}
    return Cases(
        video_ids=[row["video_id"] for row in rows],
        truth=np.array([classes.index(row["true_generator"]) for row in rows], np.int64),
        predicted=predicted,
        probabilities=probabilities,
        groups=np.array([number[key] for key in named], np.int64),
        crfs=[row["crf"] for row in rows],
        targets=[row["target_identity"] for row in rows],
        num_ungrouped=sum(ungrouped),
    )


def _attributed(row: Row, classes: Sequence[str], origin: str) -> int:
    if row["generator"] not in classes:
        raise UserError(
            f"{origin}: video {row['video_id']!r} is attributed to {row['generator']!r}, "
            f"which is none of {', '.join(classes)}"
        )
    return list(classes).index(row["generator"])


def _probabilities(rows: Sequence[Row], classes: Sequence[str], origin: str) -> npt.NDArray[np.float64]:
    for row in rows:
        count = len(row["probabilities"] or ())
        if count != len(classes):
            raise UserError(
                f"{origin}: video {row['video_id']!r} has {count} probabilities, but the model has "
                f"{len(classes)} classes: {', '.join(classes)}"
            )
    values = np.array([row["probabilities"] for row in rows], np.float64)
    sound = (values >= 0).all(axis=1) & (np.abs(values.sum(axis=1) - 1) <= _SUM_TOLERANCE)
    if not sound.all():
        row = rows[int(np.flatnonzero(~sound)[0])]
        raise UserError(
            f"{origin}: the probabilities of video {row['video_id']!r} are not between 0 and 1 with sum 1: "
            f"{row['probabilities']}"
        )
    return values
