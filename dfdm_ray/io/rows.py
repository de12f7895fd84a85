"""Rows of predictions for other programs: nested as JSON has them, or flat as spreadsheets have them.

Both are made from the schema of the table alone, so that new columns appear by themselves.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

Row: TypeAlias = Mapping[str, Any]
Cell: TypeAlias = str | int | float | None

_OF_FRAME = {
    "pts_s": "pts_s",
    "boxes_xyxy": "box_xyxy",
    "landmarks": "landmarks",
    "temporal_attention": "temporal_attention",
}
"""Columns with one entry per scored frame, and the name of an entry."""
_OF_CLASS = {"probabilities": "probability", "logits": "logit", "p_values": "p_value"}
"""Columns with one entry per class, and the name of an entry."""
_LEFT_OUT = ("features",)
"""Long lists that no person reads; in a flat row."""
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")  # noqa: RUF001  # spreadsheets take the wide forms for the others
"""Beginnings of a cell that a spreadsheet may run as a formula (OWASP, "CSV Injection")."""


def nested(row: Row, fields: pa.Schema | pa.StructType, classes: Sequence[str]) -> dict[str, Any]:
    """Return ``row`` as JSON has it: no NaN, and numbers of single precision with the digits they have.

    The columns with one entry per frame become a list ``frames`` of objects, those with one entry per class
    become objects by class, ``None`` if they are empty. This holds for nested rows as well.
    """
    found: dict[str, Any] = {}
    for field in fields:
        value = _plain(row[field.name], field.type, classes)
        if field.name in _OF_CLASS and isinstance(value, list):
            value = dict(zip(classes, value, strict=True)) if len(value) == len(classes) else value or None
        found[field.name] = value
    by_frame = {_OF_FRAME[name]: found.pop(name) or [] for name in _OF_FRAME if name in found}
    if by_frame:
        count = max(map(len, by_frame.values()))
        whole = {name: values for name, values in by_frame.items() if len(values) == count}
        found["frames"] = [{name: values[at] for name, values in whole.items()} for at in range(count)]
    return found


def _plain(value: Any, kind: pa.DataType, classes: Sequence[str]) -> Any:
    if value is None:
        return None
    if pa.types.is_struct(kind):
        return nested(value, kind, classes)
    if pa.types.is_floating(kind):
        return _numbers([value], kind)[0]
    if not _is_list(kind):
        return value
    if pa.types.is_floating(kind.value_type) and None not in value:
        return _numbers(value, kind.value_type)
    return [_plain(one, kind.value_type, classes) for one in value]


def _is_list(kind: pa.DataType) -> bool:
    return isinstance(kind, pa.ListType | pa.FixedSizeListType | pa.LargeListType)


def _numbers(values: Sequence[float], kind: pa.DataType) -> list[float | None]:
    """Return ``values`` with the shortest digits that give the same number in their own precision."""
    exact = np.asarray(values, kind.to_pandas_dtype())
    short = exact.astype(str).astype(np.float64).tolist()
    return [number if finite else None for number, finite in zip(short, np.isfinite(exact), strict=True)]


def flat(row: Row, fields: pa.Schema, classes: Sequence[str]) -> dict[str, Cell]:
    """Return ``row`` as one line of a spreadsheet; every row has the same columns.

    A column with one entry per class becomes one column per class. Lists of texts are joined by ``"; "``,
    lists of numbers by a space. Nested rows give one column for each of their single values, joined likewise.
    Places in frames and features are left out.
    """
    return {name: _safe(cell) for name, cell in _cells(row, fields, classes)}


def _cells(row: Row, fields: pa.Schema, classes: Sequence[str]) -> Iterator[tuple[str, Cell]]:
    for field in fields:
        name, kind = field.name, field.type
        value = _plain(row[name], kind, classes)
        if name in _OF_CLASS:
            whole = len(value or ()) == len(classes)
            for label, one in zip(classes, value if whole else [None] * len(classes), strict=True):
                yield f"{_OF_CLASS[name]}_{label}", one
        elif not pa.types.is_nested(kind):
            yield name, value
        elif not _is_list(kind) or name in _LEFT_OUT:
            continue
        elif not pa.types.is_nested(kind.value_type):
            separator = " " if pa.types.is_floating(kind.value_type) else "; "
            yield name, None if value is None else separator.join(map(str, value))
        elif pa.types.is_struct(kind.value_type):
            for part in kind.value_type:
                if not pa.types.is_nested(part.type):
                    texts = ["" if one[part.name] is None else str(one[part.name]) for one in value or ()]
                    yield f"{name}.{part.name}", "; ".join(texts) if value else None


def _safe(cell: Cell) -> Cell:
    """Return ``cell`` with an apostrophe before a text that a spreadsheet may run as a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell
