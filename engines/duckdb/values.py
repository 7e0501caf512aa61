"""The newest values per entity at an instant, for materialization: the search of the training join, asked once a key.

A portal asks this thousands of times for a handful of rows each, so planning SQL would be most of the cost. The rows of
a view that works row by row on a source in memory are therefore kept as arrays, in the order in which they became
available: an increment is a slice of them. Other views are asked with prepared statements.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from engines.duckdb.frames import entities_of
from engines.duckdb.histories import Asked, Flags, History, Ints, newest_known
from engines.duckdb.join import bytes_per_row, picked, worst_first
from engines.duckdb.sources import Bounds
from engines.duckdb.sql import epoch_us, listed, span_us, timestamp
from engines.duckdb.statements import PreparedCursor
from engines.duckdb.view_rows import TIME, ViewRows, with_utc
from engines.duckdb.windows import aggregated

_END_OF_TIME = "TIMESTAMP '9999-12-31 00:00:00'"
# The arrays of all views together may take so many times what one source in memory may have as Parquet.
_SHARE = 8


@dataclass(frozen=True)
class Batch:
    """Rows of a view that may matter: codes and times, join keys, and the view's columns."""

    history: History
    keys: pa.Table
    columns: pa.Table

    @property
    def codes(self) -> int:
        """How many entities there are."""
        return int(self.history.code.max()) + 1 if len(self.history) else 0

    def only(self, rows: Ints) -> Batch:
        """Some of the rows; codes are numbered again, without gaps."""
        part = self.history.only(rows)
        _, code = np.unique(part.code, return_inverse=True)
        return Batch(History(code, part.event, part.known), picked(self.keys, rows), picked(self.columns, rows))


@dataclass(frozen=True)
class HeldView:
    """All rows of a view, in the order in which they became available, and when each had arrived."""

    batch: Batch
    available: Ints
    arrived: Ints

    def between(
        self, after: int | None, until: int, *, arrived_after: int | None = None, event_from: int | None = None
    ) -> Batch:
        """The rows that became available in ``(after, until]``, less those excluded by the other two."""
        first = 0 if after is None else int(np.searchsorted(self.available, after, side="right"))
        last = int(np.searchsorted(self.available, until, side="right"))
        wanted = np.ones(last - first, np.bool_)
        if arrived_after is not None:
            wanted &= self.arrived[first:last] > arrived_after
        if event_from is not None:
            wanted &= self.batch.history.event[first:last] >= event_from
        return self.batch.only(np.flatnonzero(wanted) + first)

    @cached_property
    def nbytes(self) -> int:
        """About what it takes in memory."""
        return int(self.batch.keys.nbytes + self.batch.columns.nbytes + 5 * self.available.nbytes)


class HeldViews:
    """The views whose rows are kept, those used last. Safe to use from several threads."""

    def __init__(self, resident_bytes: int) -> None:
        self._limit = resident_bytes * _SHARE
        self._held: OrderedDict[ViewRows, HeldView] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, rows: ViewRows, statements: PreparedCursor) -> HeldView | None:
        """The rows of a view if it is one that can be kept."""
        arrived = _arrival(rows)
        if arrived is None:
            return None
        with self._lock:
            held = self._held.pop(rows, None)
            if held is None:
                for old in [each for each in self._held if each.view == rows.view]:
                    del self._held[old]
                held = _held(rows, statements, arrived)
            self._held[rows] = held
            while len(self._held) > 1 and sum(each.nbytes for each in self._held.values()) > self._limit:
                self._held.popitem(last=False)
        return held


@dataclass(frozen=True)
class Batches:
    """Where the rows of a view come from: the arrays that are kept, or the database."""

    rows: ViewRows
    statements: PreparedCursor
    held: HeldViews
    piece_bytes: int

    @property
    def is_resident(self) -> bool:
        """Whether all sources are in memory, so that planning counts for more than reading."""
        return all(each.resident for each in self.rows.sources)

    def kept(self) -> HeldView | None:
        """The view's rows if they are kept."""
        return self.held.get(self.rows, self.statements)


def newest_values(batches: Batches, *, as_of: datetime, known_after: datetime | None) -> pa.Table:
    """``OfflineEngine.values`` of a view without aggregations."""
    view, now = batches.rows.view, epoch_us(as_of)
    # A row counts from the moment it has both happened and is known, as in the training join.
    after = arrived_after = None
    if known_after is not None and view.lookback is not None:
        after, arrived_after = epoch_us(known_after), epoch_us(known_after - view.lookback)
    held = batches.kept()
    if held is not None:
        return _newest(held.between(after, now, arrived_after=arrived_after), now)
    if after is not None and arrived_after is not None and batches.is_resident:
        return _newest(_increment(batches, now, after, arrived_after), now)
    parts = _read(batches, as_of, Bounds(event_until=now, known_until=now), after, arrived_after)
    return pa.concat_tables([_newest(part, now) for part in parts])


def _newest(batch: Batch, now: int) -> pa.Table:
    """The newest row of each entity; all of them had happened and were known ``now``."""
    asked = Asked(np.arange(batch.codes), np.full(batch.codes, now))

    def tie(rows: Ints) -> Ints:
        return worst_first(batch.history, batch.columns, rows)

    found = newest_known(batch.history, asked, codes=batch.codes, break_ties=tie)
    times = {"event_timestamp": batch.history.event[found], "known_at": batch.history.known[found]}
    return _answer(
        picked(batch.keys, found),
        {name: pa.array(each).cast(TIME) for name, each in times.items()},
        picked(batch.columns, found),
    )


def window_values(batches: Batches, *, as_of: datetime, previous: datetime | None) -> pa.Table:
    """``OfflineEngine.values`` of a view with aggregations; ``previous`` adds the rows of nulls."""
    view = batches.rows.view
    assert view.window is not None, "a view with aggregations has a window"
    first = min(as_of, previous) if previous is not None else as_of
    oldest = epoch_us(first) - span_us(view.window) + 1
    now = epoch_us(as_of)
    held = batches.kept()
    if held is not None:
        return _window_values(batches.rows, held.between(oldest - 1, now, event_from=oldest), as_of, previous)
    # A row that happened at ``oldest`` or later rests on rows that arrived less than the lookback before that.
    arrived_after = None if view.lookback is None else oldest - 1 - span_us(view.lookback)
    bounds = Bounds(event_from=oldest, event_until=now, known_until=now)
    parts = _read(batches, as_of, bounds, None, arrived_after)
    return pa.concat_tables([_window_values(batches.rows, part, as_of, previous) for part in parts])


def _window_values(rows: ViewRows, batch: Batch, as_of: datetime, previous: datetime | None) -> pa.Table:
    view = rows.view
    assert view.window is not None
    codes = np.arange(batch.codes)
    columns = {name: batch.columns.column(name) for name in batch.columns.column_names}
    asked = Asked(codes, np.full(len(codes), epoch_us(as_of)))
    answers = aggregated(batch.history, columns, asked, view.aggregations, codes=len(codes))
    written = answers.present
    if previous is not None:
        written = written | _holds_events(batch, epoch_us(previous), span_us(view.window))
    chosen = np.flatnonzero(written)
    features = pa.table(dict(zip(view.features, answers.features, strict=True))).take(pa.array(chosen))
    _, first_row = np.unique(batch.history.code, return_index=True)
    times = pa.array(np.full(len(chosen), epoch_us(as_of))).cast(TIME)
    keys = picked(batch.keys, first_row[chosen])
    return _answer(keys, {"event_timestamp": times, "known_at": times}, features)


def _holds_events(batch: Batch, now: int, window: int) -> Flags:
    """Which entities had an event in the window that was known then."""
    history = batch.history
    inside = (history.event > now - window) & (history.available <= now)
    held = np.zeros(batch.codes, np.bool_)
    held[history.code[inside]] = True
    return held


def _answer(keys: pa.Table, times: dict[str, pa.Array], features: pa.Table) -> pa.Table:
    columns = dict(zip(keys.column_names, keys.columns, strict=True)) | times
    return pa.table(columns | dict(zip(features.column_names, features.columns, strict=True)))


# ---------------------------------------------------------------------- from the database


def _read(
    batches: Batches, as_of: datetime, bounds: Bounds, after: int | None, arrived_after: int | None
) -> Iterator[Batch]:
    """The rows within the bounds that became available after ``after``, in pieces of whole entities."""
    rows, cursor = batches.rows, batches.statements.cursor
    arrived = None if arrived_after is None else f"make_timestamp({arrived_after})"
    available = "TRUE" if after is None else f"greatest(__event, __known) > {after}"
    wanted = rows.sql(timestamp(as_of), arrived, bounds, available)
    pieces, limit = 1, max(1, batches.piece_bytes // bytes_per_row(rows))
    if sum(each.rows for each in rows.sources) > limit:
        ((found,),) = cursor.execute(f"SELECT count(*) FROM ({wanted})").fetchall()
        pieces = -(-found // limit) or 1
    for number in range(pieces):
        part = "" if pieces == 1 else f" WHERE hash({listed(rows.view.join_keys)}) % {pieces} = {number}"
        yield _batch(rows, cursor.sql(f"SELECT * FROM ({wanted}){part}").to_arrow_table())


def _increment(batches: Batches, now: int, after: int, arrived_after: int) -> Batch:
    """The same for one small increment, by a prepared statement."""
    rows = batches.rows

    def sql() -> str:
        available = "__event <= $1::BIGINT AND greatest(__event, __known) > $2::BIGINT"
        return rows.sql("make_timestamp($1::BIGINT)", "make_timestamp($3::BIGINT)", None, available)

    # numpy, because Arrow from a prepared statement would copy its rows once more
    found = batches.statements.execute(rows, sql, [now, after, arrived_after]).fetchnumpy()
    types = rows.types | {"__event": pa.int64(), "__known": pa.int64()}
    return _batch(rows, pa.table({name: _as_arrow(column, types[name]) for name, column in found.items()}))


def _as_arrow(column: Any, type_: pa.DataType) -> pa.Array:
    """A numpy column of DuckDB, masked where null, as Arrow."""
    return pa.array(np.ma.getdata(column), type=type_, mask=np.ma.getmaskarray(column))


def _held(rows: ViewRows, statements: PreparedCursor, arrived: str) -> HeldView:
    table = statements.cursor.sql(rows.sql(_END_OF_TIME)).to_arrow_table()
    batch = _batch(rows, table)
    order = np.argsort(batch.history.available, kind="stable")
    history = batch.history.only(order)
    return HeldView(
        Batch(history, picked(batch.keys, order), picked(batch.columns, order)),
        available=history.available,
        arrived=history.event if arrived == "__event" else history.known,
    )


def _batch(rows: ViewRows, table: pa.Table) -> Batch:
    keys = with_utc(table.select(rows.view.join_keys))
    event, known = (table.column(name).to_numpy() for name in ("__event", "__known"))
    history = History(entities_of(keys, rows.view.join_keys).code, event, known)
    return Batch(history, keys, with_utc(table.select(rows.view.columns)))


def _arrival(rows: ViewRows) -> str | None:
    """Which of the engine's columns says when a row arrived, of a view that can be kept; None if it can not be."""
    if rows.plain is None or len(rows.sources) != 1 or not rows.sources[0].resident:
        return None
    arrival = rows.sources[0].source.arrival
    if rows.plain.get(rows.view.known_at) == arrival:
        return "__known"
    return "__event" if rows.plain.get(rows.view.event_timestamp) == arrival else None
