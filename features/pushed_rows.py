"""Rows that somebody pushes, as JSON gives them: checked against the source's declared columns, then a table. Pure.

What is wrong is named by row and column, as ``rows.3.temp`` or ``columns.temp.3``, whichever form was sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from audit.errors import InvalidInput
from features.meaning import TYPES

NAMED_ERRORS = 20
_INT64 = range(-(2**63), 2**63)
_WANTED = {
    "float64": "a number",
    "int64": "a whole number of 64 bits",
    "string": "a text without NUL",
    "bool": "true or false",
    "timestamp": "an ISO time such as 2013-04-01T12:00:00Z",
}

Place = Callable[[int, str], str]


def from_rows(rows: Sequence[Mapping[str, Any]], schema: Mapping[str, str], *, required: str) -> pa.Table:
    """One object per row; a column that an object lacks is null. Raises InvalidInput."""
    unknown = {
        f"rows.{number}.{name}": _no_column(schema)
        for number, row in enumerate(rows)
        if not row.keys() <= schema.keys()
        for name in row
        if name not in schema
    }
    _refuse(unknown)
    columns = {name: [row.get(name) for row in rows] for name in schema}
    return _table(columns, schema, required, lambda number, name: f"rows.{number}.{name}")


def from_columns(columns: Mapping[str, Sequence[Any]], schema: Mapping[str, str], *, required: str) -> pa.Table:
    """One list per column, all of one length; a column that is not there is null. Raises InvalidInput."""
    unknown = {f"columns.{name}": _no_column(schema) for name in columns if name not in schema}
    _refuse(unknown | {f"columns.{name}": "A list is needed." for name in columns if type(columns[name]) is not list})
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise InvalidInput({"columns": f"All columns have as many values as there are rows; {said}."})
    count = max(lengths.values(), default=0)
    whole = {name: columns.get(name, [None] * count) for name in schema}
    return _table(whole, schema, required, lambda number, name: f"columns.{name}.{number}")


def _table(columns: Mapping[str, Sequence[Any]], schema: Mapping[str, str], required: str, place: Place) -> pa.Table:
    wrong: dict[str, str] = {}
    arrays: dict[str, pa.Array] = {}
    for name, values in columns.items():
        faults = _faults(values, schema[name])
        wrong |= {place(number, name): f"{_WANTED[schema[name]].capitalize()} or null is needed." for number in faults}
        if name == required:
            wrong |= {
                place(number, name): "It says when the row happened and can not be left out."
                for number, value in enumerate(values)
                if value is None
            }
        if not wrong:
            arrays[name] = _array(values, schema[name])
    _refuse(wrong)
    return pa.table(arrays)


def _faults(values: Sequence[Any], dtype: str) -> list[int]:
    """Which of the values are not of the type."""
    fits = _FITS[dtype]
    return [number for number, value in enumerate(values) if value is not None and not fits(value)]


def _array(values: Sequence[Any], dtype: str) -> pa.Array:
    if dtype == "timestamp":
        return pa.array([None if value is None else _moment(value) for value in values], TYPES[dtype])
    return pa.array(values, TYPES[dtype])


def _is_time(value: Any) -> bool:
    if type(value) is not str:
        return False
    try:
        _moment(value)
    except (ValueError, OverflowError):
        return False
    return True


def _moment(text: str) -> datetime:
    """UTC where it names no zone."""
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


_FITS: Mapping[str, Callable[[Any], bool]] = {
    "float64": lambda value: type(value) is float or (type(value) is int and abs(value) < 2**1023),
    "int64": lambda value: type(value) is int and value in _INT64,
    "string": lambda value: type(value) is str and "\0" not in value,
    "bool": lambda value: type(value) is bool,
    "timestamp": _is_time,
}


def _no_column(schema: Mapping[str, str]) -> str:
    return f"There is no such column. There are: {', '.join(schema)}."


def _refuse(wrong: Mapping[str, str]) -> None:
    if wrong:
        raise InvalidInput(dict(list(wrong.items())[:NAMED_ERRORS]))
