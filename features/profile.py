"""What a table's columns hold, in numbers small enough to keep beside it for ever."""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc


def profile_of(table: pa.Table) -> dict[str, Any]:
    """Column to its type, count of nulls and, for numbers and booleans, mean, standard deviation, least and greatest.

    Statistics are over the finite values; they are left out where there are none.
    """
    return {name: _column_profile(table.column(name)) for name in table.column_names}


def _column_profile(column: pa.ChunkedArray) -> dict[str, Any]:
    profile: dict[str, Any] = {"dtype": str(column.type), "nulls": column.null_count}
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_boolean(column.type)):
        return profile
    numbers = pc.cast(column, pa.float64(), safe=False) if not pa.types.is_boolean(column.type) else _as_numbers(column)
    finite = numbers.filter(pc.fill_null(pc.is_finite(numbers), False))
    if len(finite) == 0:
        return profile
    bounds = pc.min_max(finite)
    measured = {
        "mean": pc.mean(finite).as_py(),
        "std": pc.stddev(finite).as_py(),
        "min": bounds["min"].as_py(),
        "max": bounds["max"].as_py(),
    }
    return profile | {name: value for name, value in measured.items() if math.isfinite(value)}


def _as_numbers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.cast(pc.cast(column, pa.int8()), pa.float64())
