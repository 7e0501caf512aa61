"""How the values of one feature are spread, in numbers few enough to keep one set a day and to draw."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

PERCENTS = (0, 5, 25, 50, 75, 95, 100)
BINS = 24
MOST_VALUES = 10
LONGEST_VALUE = 60
"""Characters of a text that are kept to show."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def distribution(column: pa.ChunkedArray) -> dict[str, Any]:
    """What a column of a feature's type holds, ready for JSON.

    Always ``rows``, ``nulls`` (share; None of no rows) and ``distinct``. Numbers and times add ``quantiles`` (per cent
    to value) and ``bins`` (``edges``, ``counts``; the outermost bins also hold what lies beyond the first and last
    hundredth, so that one absurd value does not squeeze all others into one bar). Texts and booleans add ``top``: the
    most frequent values with their counts. Times are ISO 8601.
    """
    rows = len(column)
    present = column.drop_null()
    if pa.types.is_floating(present.type):
        present = present.filter(pc.is_finite(present))
    found: dict[str, Any] = {
        "rows": rows,
        "nulls": 1 - len(present) / rows if rows else None,
        "distinct": pc.count_distinct(present).as_py(),
    }
    if len(present) == 0:
        return found
    if pa.types.is_timestamp(present.type):
        return found | _spread(pc.cast(present, pa.int64()), _iso)
    if pa.types.is_string(present.type) or pa.types.is_boolean(present.type):
        return found | {"top": _top(present)}
    return found | _spread(present, _plain)


def _spread(numbers: pa.ChunkedArray, shown: Any) -> dict[str, Any]:
    values = np.sort(numbers.to_numpy())
    # observed values, not points between them: of a time or a count there may be nothing between
    places = [math.ceil(percent / 100 * (len(values) - 1)) for percent in PERCENTS]
    quantiles = {str(percent): shown(values[place].item()) for percent, place in zip(PERCENTS, places, strict=True)}
    return {"quantiles": quantiles, "bins": _bins(values, shown)}


def _bins(values: np.ndarray[Any, Any], shown: Any) -> dict[str, Any]:
    """Equal widths between the first and the last hundredth; ``values`` are sorted."""
    last = len(values) - 1
    low, high = float(values[math.floor(0.01 * last)]), float(values[math.ceil(0.99 * last)])
    if low == high:
        return {"edges": [shown(low), shown(high)], "counts": [len(values)]}
    whole = values.dtype.kind == "i" and high - low < BINS
    edges = np.arange(low, high + 2) - 0.5 if whole else np.linspace(low, high, BINS + 1)
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    return {"edges": [shown(edge) for edge in edges.tolist()], "counts": counts.tolist()}


def _top(values: pa.ChunkedArray) -> list[list[Any]]:
    counted = pc.value_counts(values)
    pairs = zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True)
    # by name among equals, so that the same values give the same list
    ordered = sorted(pairs, key=lambda pair: (-pair[1], str(pair[0])))[:MOST_VALUES]
    return [[value if isinstance(value, bool) else _shortened(value), count] for value, count in ordered]


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"


def _plain(value: float) -> float:
    return value


def _iso(microseconds: float) -> str:
    return (_EPOCH + timedelta(microseconds=round(microseconds))).isoformat()
