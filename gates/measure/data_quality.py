"""The features of a table, column by column: what they hold, and how much of it breaks their schema. No bars here.

Each column's numbers are kept such that another rule can mostly be judged without the table: counts under the limits
that held, the range, quantiles, and the levels where there are few.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.schemas import Broken, Column, defects, kind, known_values
from gates.frozen import Json
from gates.judge.data_quality import QUANTILES, limits
from gates.policy.checks import ColumnRule

MOST_LEVELS = 50
"""A column with more different values than this keeps none of them: they may well be names of persons."""
LONGEST_LEVEL = 100


def promised(
    columns: Sequence[str], declared: Mapping[str, pa.DataType], rules: Mapping[str, ColumnRule]
) -> dict[str, Column]:
    """What the training table itself has to be: the views' types, and what the owners promise."""
    return {name: _column(declared.get(name), None, None, rules.get(name), 0.0) for name in columns}


def like_training(
    trained: pa.Table,
    measured: Mapping[str, Any],
    columns: Sequence[str],
    declared: Mapping[str, pa.DataType],
    rules: Mapping[str, ColumnRule],
    *,
    range_margin: float,
) -> dict[str, Column]:
    """What other tables have to be: of the training's types, in its ranges, of its levels, as far as promised.

    ``measured`` are the numbers of the training table ``trained`` (``subject``).
    """
    wanted = {}
    for name in columns:
        type_, levels = declared.get(name), None
        if name in trained.column_names:
            values = known_values(trained.column(name))
            type_ = type_ or values.type
            if kind(values.type) == "text":
                levels = tuple(values.unique().drop_null().to_pylist())
        wanted[name] = _column(type_, measured["columns"].get(name), levels, rules.get(name), range_margin)
    return wanted


def _column(
    type_: pa.DataType | None,
    trained: Mapping[str, Any] | None,
    levels: tuple[str, ...] | None,
    rule: ColumnRule | None,
    margin: float,
) -> Column:
    low, high = limits(trained, rule, margin)
    allowed = rule.allowed if rule is not None else None
    return Column(type_, low, high, allowed if allowed is not None else levels)


def subject(
    table: pa.Table, wanted: Mapping[str, Column], rules: Mapping[str, ColumnRule], *, key: str | None = None
) -> Json:
    """One table against its schema: rows, missing columns, the share of duplicated keys, and each column's numbers.

    ``duplicates`` is None where the table has no column ``key``. ``rules`` are those that ``wanted`` was made with.
    """
    there = key if key in table.column_names else None
    found = defects(_bounded(table, set(wanted) - {there}), wanted, key=there)
    rows = table.num_rows
    columns = {}
    for name, column in wanted.items():
        if name in found.missing:
            continue
        rule = rules.get(name)
        columns[name] = {
            **held(table.column(name)),
            "low": column.low,
            "high": column.high,
            "outside": _count(found.outside.get(name), column.low is not None or column.high is not None),
            "unseen": _count(found.unseen.get(name), column.levels is not None),
            "allowed": list(rule.allowed) if rule is not None and rule.allowed is not None else None,
            "examples": list(found.unseen[name].examples) if name in found.unseen else [],
            "wrong_type": list(found.types[name]) if name in found.types else None,
        }
    return {
        "rows": rows,
        "missing": list(found.missing),
        "duplicates": None if there is None else found.duplicates / rows if rows else 0.0,
        "columns": columns,
    }


def _bounded(table: pa.Table, names: Collection[str]) -> pa.Table:
    """The table without infinite values: they are out of every range and of every list, and counted apart."""
    for place, name in enumerate(table.column_names):
        column = table.column(name)
        if name in names and pa.types.is_floating(column.type):
            table = table.set_column(place, name, _finite(column))
    return table


def _finite(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.if_else(pc.is_inf(column), pa.scalar(None, column.type), column)


def _count(broken: Broken | None, was_asked: bool) -> int | None:
    return broken.rows if broken is not None else 0 if was_asked else None


def held(column: pa.ChunkedArray) -> Json:
    """What a column holds: kind, nulls, infinite values, and of the other numbers range and quantiles, of few levels
    each with its count."""
    values = known_values(column)
    finite = _finite(values) if pa.types.is_floating(values.type) else values
    present, nulls = finite.drop_null(), values.null_count
    told: Json = {"type": str(values.type), "kind": kind(values.type), "nulls": nulls}
    told["infinite"] = finite.null_count - nulls
    if told["kind"] == "number" and len(present):
        numbers = np.asarray(pc.cast(present, pa.float64(), safe=False).to_numpy(), dtype=np.float64)
        grid = np.quantile(numbers, QUANTILES, method="inverted_cdf").tolist()
        told |= {"min": float(numbers.min()), "max": float(numbers.max()), "quantiles": grid}
    if told["kind"] in ("number", "text", "flag"):
        told["levels"] = _levels(present)
    return told


def _levels(present: pa.ChunkedArray) -> list[list[Any]] | None:
    """Each different value with its count, most frequent first; None where there are too many."""
    # most columns of numbers show within a few rows that they have many
    if pc.count_distinct(present.slice(0, 1000)).as_py() > MOST_LEVELS:
        return None
    counted = present.value_counts()
    if len(counted) > MOST_LEVELS:
        return None
    pairs = [(each["values"], each["counts"]) for each in counted.to_pylist()]
    return [[_plain(value), count] for value, count in sorted(pairs, key=lambda each: (-each[1], str(each[0])))]


def _plain(value: Any) -> Any:
    """A level as JSON and both databases can hold it."""
    if isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return value.replace("\0", "")[:LONGEST_LEVEL]
    return float(value)
