"""When a business value may be read: only after its window has closed, for every prediction or entity alike. Pure.

What has arrived so far favours whichever arm's rows are older: during a ramp that is the champion's, and a harmless
candidate is rolled back in three of four runs (measured; docs/rollouts.md). A unit (a prediction, or an entity from its
first row on) therefore has no value before its window has closed, and then one that does not depend on when anything
arrived, but for reports that come later still.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

TIME = pa.timestamp("us", tz="UTC")
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Matured:
    """One entry per unit whose window has closed and whose value is known, in the order of ``row_index``.

    ``row_index``: the unit's row (an entity's first one, which says arm, step and share). ``value`` is in the metric's
    unit, as reported: nothing is transformed.
    """

    row_index: IntArray
    entity: list[str]
    value: FloatArray

    def __len__(self) -> int:
        return len(self.row_index)


@dataclass(frozen=True)
class _Units:
    """What is measured: the row that stands for each unit, when its window begins, and the name that reports use."""

    row: IntArray
    start: IntArray
    name: pa.Array


def matured(
    rows: pa.Table, reports: pa.Table, *, per_entity: bool, window: timedelta, missing_is_zero: bool, now: datetime
) -> Matured:
    """The values of ``rows`` (columns ``request_id``, ``entity``, ``at``, optionally ``sticky``) as known at ``now``.

    ``reports`` (columns ``report``, ``request_id``, ``entity``, ``value``, ``at``, ``arrived_at``): of those with one
    name that had arrived by ``now``, the latest counts; what happened in [start, start + window) is summed. Where
    nothing was reported, the value is 0 (``missing_is_zero``) or the unit is left out. Rows that stick to nobody are
    no entity.
    """
    units = _by_entity(rows) if per_entity else _by_request(rows)
    closed = units.start + _microseconds(window) <= _moment(now)
    known = _latest(reports, now)
    unit = _unit_of(known, rows, units, per_entity=per_entity)
    begins = np.where(unit >= 0, units.start[unit] if len(units.start) else 0, 0)
    happened = _micros(known["at"])
    counts = (unit >= 0) & (happened >= begins) & (happened < begins + _microseconds(window))
    told = _values(known["value"])[counts]
    total = np.bincount(unit[counts], weights=told, minlength=len(units.row)).astype(np.float64)
    reported = np.bincount(unit[counts], minlength=len(units.row)) > 0
    there = closed & (reported | missing_is_zero)
    order = np.flatnonzero(there)[np.argsort(units.row[there], kind="stable")]
    row = units.row[order]
    return Matured(row, rows["entity"].take(pa.array(row)).to_pylist(), total[order])


def _by_request(rows: pa.Table) -> _Units:
    return _Units(np.arange(len(rows)), _micros(rows["at"]), _flat(rows["request_id"]))


def _by_entity(rows: pa.Table) -> _Units:
    """Each entity from its earliest row on; of rows at one moment the first."""
    at = _micros(rows["at"])
    named = np.ones(len(rows), dtype=np.bool_)
    if "sticky" in rows.column_names:
        named = pc.fill_null(rows["sticky"], False).to_numpy(zero_copy_only=False).astype(np.bool_)
    oldest_first = np.argsort(at, kind="stable")
    oldest_first = oldest_first[named[oldest_first]]
    coded = _flat(rows["entity"].take(pa.array(oldest_first))).dictionary_encode()
    _, first = np.unique(coded.indices.to_numpy(zero_copy_only=False), return_index=True)
    row = oldest_first[first]
    return _Units(row, at[row], coded.dictionary)


def _latest(reports: pa.Table, now: datetime) -> pa.Table:
    """Of the reports that had arrived by ``now`` the latest of each name; of those at one moment the last."""
    known = reports.filter(pc.less_equal(reports["arrived_at"], pa.scalar(now, TIME)))
    newest_first = np.argsort(_micros(known["arrived_at"]), kind="stable")[::-1]
    names = _flat(known["report"].take(pa.array(newest_first))).dictionary_encode().indices
    _, first = np.unique(names.to_numpy(zero_copy_only=False), return_index=True)
    return known.take(pa.array(np.sort(newest_first[first])))


def _unit_of(reports: pa.Table, rows: pa.Table, units: _Units, *, per_entity: bool) -> IntArray:
    """The place of each report's unit in ``units``; -1 where it is about none of them."""
    names = reports["request_id"]
    if per_entity:
        asked = pc.index_in(names, value_set=_flat(rows["request_id"]))
        names = pc.coalesce(reports["entity"], rows["entity"].take(asked))
    found: IntArray = (
        pc.fill_null(pc.index_in(names, value_set=units.name, skip_nulls=True), -1)
        .to_numpy(zero_copy_only=False)
        .astype(np.int64)
    )
    return found


def _values(column: pa.ChunkedArray) -> FloatArray:
    values: FloatArray = column.to_numpy(zero_copy_only=False).astype(np.float64)
    return values


def _micros(column: pa.ChunkedArray) -> IntArray:
    """Microseconds since 1970 (UTC)."""
    micros: IntArray = column.cast(TIME).cast(pa.int64()).to_numpy(zero_copy_only=False).astype(np.int64)
    return micros


def _moment(moment: datetime) -> int:
    return int(pa.scalar(moment, TIME).cast(pa.int64()).as_py())


def _microseconds(span: timedelta) -> int:
    return span // timedelta(microseconds=1)


def _flat(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
