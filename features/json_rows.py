"""Rows on their way between JSON and Arrow: what an API is asked with, and what it answers. Pure.

JSON knows neither times nor NaN: named columns are read as ISO times, and what is no number is answered as null.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from audit.errors import InvalidInput

_TIME = pa.timestamp("us", "UTC")


def table(rows: Sequence[Mapping[str, Any]], *, field: str, times: Sequence[str] = ()) -> pa.Table:
    """The rows as a table; a row without a column that others have is null there.

    ``times`` are columns of ISO times (UTC where they name no zone). Raises InvalidInput naming ``field.column``.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns: dict[str, pa.Array] = {}
    for name in names:
        values = [row.get(name) for row in rows]
        columns[name] = _times(values, field, name) if name in times else _plain(values, field, name)
    return pa.table(columns)


def rows(table: pa.Table) -> list[dict[str, Any]]:
    """The table's rows as JSON can say them."""
    return [{name: _said(value) for name, value in row.items()} for row in table.to_pylist()]


def _plain(values: list[Any], field: str, name: str) -> pa.Array:
    if any(isinstance(value, Mapping | list) for value in values):
        raise InvalidInput({f"{field}.{name}": "One value a row is needed, not a list or an object."})
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError) as problem:
        raise InvalidInput(
            {f"{field}.{name}": "The rows' values must be of one type: all numbers or all texts."}
        ) from problem


def _times(values: list[Any], field: str, name: str) -> pa.Array:
    try:
        return pa.array([None if value is None else _moment(value) for value in values], _TIME)
    except (ValueError, TypeError, OverflowError) as problem:
        raise InvalidInput({f"{field}.{name}": "ISO times are needed, such as 2013-04-01T12:00:00Z."}) from problem


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _said(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.isoformat() if isinstance(value, datetime) else value
