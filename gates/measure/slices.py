"""A metric by segment: the levels of named columns, and segments that are looked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gates.frozen import Frozen, Json, had
from gates.policy import SliceCheck
from stats.contrast import contrast, rows_that_speak
from stats.interval import FloatArray
from stats.metrics import METRICS, Linear
from stats.segments import honest_segments

if TYPE_CHECKING:
    import pandas as pd

Mask = NDArray[np.bool_]
MISSING, OTHER = "(missing)", "(other)"
MOST_LEVELS = 50
FEW_VALUES = 8
LEVELS_TO_FIND = 20


def measure(check: SliceCheck, frozen: Frozen) -> Json:
    """The metric over all rows and in every segment, and how much worse each is than all rows (``stats.contrast``).

    ``found`` are the worst segments that a shallow tree finds in the features and the named columns: looked for on one
    half of the rows, measured on the other.
    """
    y, p = frozen.all_scored()
    threshold = frozen.document.threshold
    overall = METRICS[check.metric].to_first_order(y, p, threshold=threshold)
    value = METRICS[check.metric].value(y, p, threshold=threshold, confidence=check.confidence)
    segments = [
        {"by": by, "level": level, **_segment(check, y, p, rows, threshold), **_worse(check, frozen, rows, overall)}
        for by in check.by
        for level, rows in levels(frozen.column(by))
    ]
    found = () if overall is None or not check.find else _found(check, frozen, overall)
    return {
        "rows": len(y),
        "overall": asdict(value) if value else None,
        "segments": segments,
        "found": [{"condition": name, **_segment(check, y, p, rows, threshold)} for name, rows in found],
    }


def _segment(check: SliceCheck, y: FloatArray, p: FloatArray, rows: Mask, threshold: float) -> Json:
    value = METRICS[check.metric].value(y[rows], p[rows], threshold=threshold, confidence=check.confidence)
    speaking = rows_that_speak(check.metric, y[rows], p[rows], threshold=threshold)
    return {"n": int(rows.sum()), "speaking": speaking, "value": asdict(value) if value else None}


def _worse(check: SliceCheck, frozen: Frozen, rows: Mask, overall: Linear | None) -> Json:
    y, p = frozen.all_scored()
    found = contrast(check.metric, y, p, rows, overall=overall, threshold=frozen.document.threshold)
    return {"contrast": found.as_dict() if found else None}


# ---------------------------------------------------------------------- levels of a column


def levels(column: pa.ChunkedArray) -> Iterator[tuple[str, Mask]]:
    """Every level of a column by name with its rows. Numbers are cut at their quartiles, unless they have at most eight
    values; of other columns the 50 largest levels are told apart, the rest is one. Nulls are a level of their own,
    and infinities are among them: no quartile lies between a number and infinity.
    """
    if _is_number(column.type):
        values = _finite(column)
        missing = np.isnan(values)
        yield from _numbers(values, missing)
    else:
        missing = pc.is_null(column).to_numpy(zero_copy_only=False).astype(bool)
        yield from _names(column, missing)
    if missing.any():
        yield MISSING, missing


def _is_number(type_: pa.DataType) -> bool:
    return bool(pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_decimal(type_))


def _finite(column: pa.ChunkedArray) -> FloatArray:
    """Numbers or truth values, NaN where there is none or an infinite one."""
    values = np.asarray(pc.cast(column, pa.float64(), safe=False).to_numpy(zero_copy_only=False), dtype=np.float64)
    finite: FloatArray = np.where(np.isfinite(values), values, np.nan)
    return finite


def _numbers(values: FloatArray, missing: Mask) -> Iterator[tuple[str, Mask]]:
    known = values[~missing]
    distinct = np.unique(known)
    if len(distinct) <= FEW_VALUES:
        for each in distinct:
            yield f"{each:g}", values == each
        return
    cuts = np.unique(np.quantile(known, [0.25, 0.5, 0.75]))
    place = np.searchsorted(cuts, values)
    names = [f"≤ {cuts[0]:g}", *(f"{a:g} to {b:g}" for a, b in pairwise(cuts)), f"> {cuts[-1]:g}"]
    for level, name in enumerate(names):
        rows = (place == level) & ~missing
        if rows.any():
            yield name, rows


def _names(column: pa.ChunkedArray, missing: Mask) -> Iterator[tuple[str, Mask]]:
    names = pc.fill_null(pc.cast(column, pa.string()), "").to_numpy(zero_copy_only=False)
    distinct, place, counts = np.unique(names[~missing].astype(str), return_inverse=True, return_counts=True)
    level = np.full(len(names), -1)
    level[~missing] = place
    largest = np.argsort(-counts, kind="stable")[:MOST_LEVELS]
    for each in sorted(largest):
        yield str(distinct[each]), level == each
    rest = (level >= 0) & ~np.isin(level, largest)
    if rest.any():
        yield OTHER, rest


# ---------------------------------------------------------------------- segments that are looked for


def _found(check: SliceCheck, frozen: Frozen, overall: Linear) -> Iterator[tuple[str, Mask]]:
    """Where rows pull the metric to the bad side most."""
    cost = -overall.rows if METRICS[check.metric].greater_is_better else overall.rows
    found = honest_segments(
        _searched(frozen, check.by), cost, seed=frozen.seed, minimum_rows=check.minimum_rows, most=check.find
    )
    for each in found:
        yield each.condition, each.rows


def _searched(frozen: Frozen, by: tuple[str, ...]) -> pd.DataFrame:
    """The features and the named columns as a tree takes them: numbers, and texts with their 20 largest levels."""
    import pandas as pd

    table = had(frozen.table)
    columns: dict[str, object] = {}
    for name in dict.fromkeys((*frozen.features, *by)):
        if name not in table.column_names:
            continue
        column = table.column(name)
        if _is_number(column.type) or pa.types.is_boolean(column.type):
            columns[name] = _finite(column)
        elif pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            texts = pd.Series(pc.fill_null(column, MISSING).to_numpy(zero_copy_only=False))
            largest = texts.value_counts().index[:LEVELS_TO_FIND]
            columns[name] = texts.where(texts.isin(largest), OTHER)
    return pd.DataFrame(columns)
