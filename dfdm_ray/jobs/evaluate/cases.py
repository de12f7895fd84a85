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
import pyarrow.compute as pc

from dfdm_ray.errors import UserError
from dfdm_ray.schemas import PREDICTIONS, REJECTED, SCORED, class_names

_NEEDED = ("video_id", "status", "generator", "probabilities")
_GROUP = ("target_identity", "source_identity", "scene")
_FILLED = {"true_generator": "generator"} | {name: name for name in ("split", "crf", *_GROUP)}
"""Columns of predictions that a manifest can fill, and their names in the manifest."""
_VERDICT = ("verdict", "prediction_set", "p_values", "unknown_score")
_COLUMNS = (*_NEEDED, *_FILLED, *_VERDICT, "reject_code", "reject_detail")
_SUM_TOLERANCE = 1e-3

Row = dict[str, Any]

FATES = (SCORED, REJECTED, "unknown_generator", "no_class", "other_split", "other_quality")
"""Outcomes of a row; ``no_class``: the true generator is not a class of the model."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Cases:
    """``N`` scored videos whose generator is one of ``K`` classes; entry ``i`` of all is the same video."""

    video_ids: Sequence[str]
    truth: npt.NDArray[np.int64]  # (N,) class index of the true generator
    predicted: npt.NDArray[np.int64]  # (N,) class index of the attribution
    probabilities: npt.NDArray[np.float64]  # (N, K), rows sum to 1
    groups: npt.NDArray[np.int64]  # (N,) index of the video's network, or of its (target, source, scene)
    by_network: bool  # whether groups are networks where these are known
    crfs: Sequence[int | None]
    targets: Sequence[str | None]
    num_ungrouped: int  # videos with unknown target, source and scene; each is a group of its own


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
        column = table[name] if name in table.column_names else pa.nulls(table.num_rows)
        try:
            columns[name] = column.cast(PREDICTIONS.field(name).type)
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
    return class_names(pa.table(columns), "true_generator")


def fill_from_manifest(table: pa.Table, manifest: pa.Table) -> tuple[pa.Table, list[str]]:
    """Fill nulls of ``table`` with the values that ``manifest`` has for the same ``video_id``.

    Returns:
        The filled table, and remarks on the differences between the two.
    """
    places = pc.index_in(table["video_id"], value_set=manifest["video_id"])
    listed = manifest.take(places)
    remarks = []
    for name, theirs in _FILLED.items():
        if differing := pc.sum(pc.not_equal(table[name], listed[theirs])).as_py():
            remarks.append(
                f"{count_of(differing, 'video')} with another {name} in the manifest; "
                "that of the predictions was taken"
            )
        filled = pc.coalesce(table[name], listed[theirs])
        table = table.set_column(table.column_names.index(name), name, filled)
    num_common = len(table) - places.null_count
    for count, what in (
        (places.null_count, "of the predictions not in the manifest"),
        (len(manifest) - num_common, "of the manifest (all splits) not in the predictions"),
    ):
        if count:
            remarks.append(f"{count_of(count, 'video')} {what}")
    return table, remarks


def select(
    table: pa.Table, *, classes: Sequence[str], split: str | None, crfs: Sequence[int], origin: str
) -> dict[str, list[Row]]:
    """Return the rows of a table that :func:`check_predictions` returned by their fate, one of ``FATES``.

    Raises:
        UserError: If no row is scored.
    """
    rows = table.to_pylist()
    fates: dict[str, list[Row]] = {name: [] for name in FATES}
    for row in rows:
        fates[_fate(row, classes, split, crfs)].append(row)
    in_split = [row for row in rows if split is None or row["split"] == split]
    if not in_split:
        raise _no_match("--split", split, [row["split"] for row in rows], origin)
    num_wanted = len(in_split) - len(fates["other_quality"])
    if not num_wanted:
        raise _no_match("--crf", list(crfs), [row["crf"] for row in in_split], origin)
    if not fates[SCORED]:
        raise UserError(
            f"{origin}: none of {count_of(num_wanted, 'video')} can be evaluated: {len(fates[REJECTED])} "
            f"rejected, {len(fates['unknown_generator'])} with an unknown true generator (--manifest can "
            f"supply it), {len(fates['no_class'])} with a generator that is not a class of the model"
        )
    return fates


def _fate(row: Row, classes: Sequence[str], split: str | None, crfs: Sequence[int]) -> str:
    if split is not None and row["split"] != split:
        return "other_split"
    if crfs and row["crf"] not in crfs:
        return "other_quality"
    if row["true_generator"] is None:
        return "unknown_generator"
    return str(row["status"]) if row["true_generator"] in classes else "no_class"


def _no_match(option: str, value: Any, found: Sequence[Any], origin: str) -> UserError:
    if not found:
        return UserError(f"{origin} contains no rows; run `dfdm-ray score` first")
    counts = Counter("unknown" if one is None else str(one) for one in found)
    listed = ", ".join(f"{name} ({count})" for name, count in sorted(counts.items()))
    return UserError(
        f"{origin}: no video matches {option} {value}; the videos have {listed}; "
        "--manifest can supply unknown values"
    )


def as_cases(rows: Sequence[Row], classes: Sequence[str], *, origin: str) -> Cases:
    """Return scored rows as arrays.

    Groups are networks if any generator has several, because they are then the sample of networks: accuracy
    differs more between networks than between videos of one. Otherwise groups are scenes.

    Raises:
        UserError: If a row contradicts itself or the classes.
    """
    groups, num_ungrouped = [], 0
    networks = {one for row in rows if (one := _network(row))}
    by_network = len(networks) > len({generator for *_, generator in networks})
    for row in rows:
        _check_attribution(row, classes, origin)
        group = tuple(row[name] for name in _GROUP)
        num_ungrouped += not any(group)
        network = _network(row) if by_network else None
        groups.append(("network", *network) if network else group if any(group) else (row["video_id"],))
    index = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    return Cases(
        video_ids=[row["video_id"] for row in rows],
        truth=np.array([classes.index(row["true_generator"]) for row in rows], np.int64),
        predicted=np.array([classes.index(row["generator"]) for row in rows], np.int64),
        probabilities=np.array([row["probabilities"] for row in rows], np.float64),
        groups=np.array([index[group] for group in groups], np.int64),
        by_network=by_network,
        crfs=[row["crf"] for row in rows],
        targets=[row["target_identity"] for row in rows],
        num_ungrouped=num_ungrouped,
    )


def _network(row: Row) -> tuple[str, str, str] | None:
    """Return pair and generator of a row: a network is trained on a pair and swaps in both directions."""
    target, source = row["target_identity"], row["source_identity"]
    if target is None or source is None:
        return None
    return min(target, source), max(target, source), row["true_generator"]


def _check_attribution(row: Row, classes: Sequence[str], origin: str) -> None:
    generator, values = row["generator"], np.array(row["probabilities"] or [], np.float64)
    order, problem = ", ".join(classes), None
    if len(values) != len(classes):
        problem = f"has {len(values)} probabilities, but the model has {len(classes)} classes: {order}"
    elif not ((values >= 0).all() and abs(values.sum() - 1) <= _SUM_TOLERANCE):
        problem = f"has probabilities that are not between 0 and 1 with sum 1: {row['probabilities']}"
    elif generator not in classes:
        problem = f"is attributed to {generator!r}, which is not one of {order}"
    elif values[classes.index(generator)] < values.max():
        problem = f"is attributed to {generator}, but another class has a higher probability; "
        problem += f"the class order is {order}"
    if problem:
        raise UserError(f"{origin}: video {row['video_id']!r} {problem}")
