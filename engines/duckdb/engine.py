"""``OfflineEngine`` on DuckDB in this process.

Two locks: an expression is checked against a list before it gets here, and names nothing but its own sources; and the
database could not open anything else if it did (``locked_database``).
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Any

import duckdb
import pyarrow as pa

from engines.duckdb.database import locked_database
from engines.duckdb.frames import Entities, Frame, check_frame, entities_of
from engines.duckdb.join import Join
from engines.duckdb.sources import OpenSource, Sources
from engines.duckdb.sql import epoch_us, quoted, timestamp
from engines.duckdb.statements import Statements
from engines.duckdb.values import Batches, HeldViews, newest_values, window_values
from engines.duckdb.view_rows import ViewRows, title, view_rows, with_utc
from engines.duckdb.windows import SumTooLargeError
from engines.offline import ColumnProfile, Progress, SourceProfile, SourceTable, ViewError, ViewSpec

MIB = 1 << 20
GIB = 1 << 30


class DuckDBEngine:
    """``OfflineEngine`` on an in-memory DuckDB. One per process; safe to call from several threads."""

    name = "duckdb"
    version = duckdb.__version__

    def __init__(
        self,
        *,
        threads: int | None = None,
        memory_limit: str | None = None,
        roots: Sequence[str] = (),
        resident_bytes: int = 64 * MIB,
        piece_bytes: int = 2 * GIB,
        spill: str | None = None,
    ) -> None:
        """``memory_limit`` is DuckDB's, as it writes it, such as ``4GB``; else it takes up to 80 % of the machine.

        Files below ``roots`` are read where they lie; others through Arrow, at about twice the cost. Sources of up to
        ``resident_bytes`` of Parquet are kept in memory. A join that would take more than about ``piece_bytes`` beside
        DuckDB is done in pieces. What does not fit into DuckDB's memory goes to the folder ``spill``, which is made
        when needed and emptied at the end; by default one in the system's place for temporary files.
        """
        places = [os.path.abspath(each) for each in roots if "://" not in each]
        self.roots = tuple(places)
        spill = spill or os.path.join(tempfile.gettempdir(), f"gatehouse-engine-{os.getpid()}-{id(self):x}")
        self._connection = locked_database(places, spill=spill, threads=threads, memory_limit=memory_limit)
        self._sources = Sources(self._connection, roots=places, resident_bytes=resident_bytes)
        self._statements = Statements(self._connection)
        self._held = HeldViews(resident_bytes)
        self._piece_bytes = piece_bytes
        self._views: dict[ViewSpec, ViewRows] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Free the sources held in memory."""
        self._statements.close()
        self._connection.close()

    def point_in_time(
        self,
        frame: pa.Table,
        views: Sequence[ViewSpec],
        *,
        timestamp: str,
        as_of: datetime,
        reasons: bool = False,
        progress: Progress | None = None,
    ) -> pa.Table:
        """See ``OfflineEngine.point_in_time``. A piece of progress is one view for some of the entities."""
        check_frame(frame, views, timestamp, reasons=reasons)
        asked = Frame(frame, timestamp)
        entities: dict[tuple[str, ...], Entities] = {}
        joined, done = frame, 0
        with self._sources.reading(), closing(self._connection.cursor()) as cursor:
            for number, view in enumerate(views):
                if view.join_keys not in entities:
                    entities[view.join_keys] = entities_of(frame, view.join_keys)
                with _explained(view):
                    join = Join(
                        cursor,
                        self._view_rows(cursor, view),
                        asked,
                        entities[view.join_keys],
                        as_of=as_of,
                        reasons=reasons,
                        piece_bytes=self._piece_bytes,
                    )
                    pieces = join.pieces()
                    total = done + len(pieces) + len(views) - number - 1
                    features = join.run(pieces, _counting(progress, done, total))
                done += len(pieces)
                for name in view.features:
                    joined = joined.append_column(view.column(name), features.column(name))
                if reasons:
                    joined = joined.append_column(view.reason_column, features.column("__reason"))
        return joined

    def values(self, view: ViewSpec, *, as_of: datetime, known_after: datetime | None = None) -> pa.Table:
        """See ``OfflineEngine.values``."""
        with self._sources.reading(), self._statements.lent() as statements, _explained(view):
            rows = self._view_rows(statements.cursor, view)
            batches = Batches(rows, statements, self._held, piece_bytes=self._piece_bytes)
            if view.aggregations:
                return window_values(batches, as_of=as_of, previous=known_after)
            return newest_values(batches, as_of=as_of, known_after=known_after)

    def rows(
        self, source: SourceTable, *, as_of: datetime, since: datetime | None = None, until: datetime | None = None
    ) -> pa.Table:
        """See ``OfflineEngine.rows``."""
        event = quoted(source.event_timestamp)
        bounds = [(">=", since), ("<", until)]
        inside = "".join(f" AND {event} {sign} {timestamp(at)}" for sign, at in bounds if at is not None)
        with self._reading(source) as (cursor, opened):
            low = epoch_us(since) if since is not None else None
            early = opened.within(source.event_timestamp, low, epoch_us(until) if until is not None else None)
            visible = opened.visible(timestamp(as_of), also=early)
            return with_utc(cursor.sql(f"SELECT * FROM ({visible}) WHERE TRUE{inside}").to_arrow_table())

    def freshness(self, source: SourceTable, *, as_of: datetime) -> datetime | None:
        """See ``OfflineEngine.freshness``."""
        with self._reading(source) as (cursor, opened):
            newest = f"SELECT max({quoted(source.event_timestamp)}) FROM ({opened.visible(timestamp(as_of))})"
            ((answer,),) = cursor.execute(newest).fetchall()
        return _as_utc(answer)

    def profile(self, source: SourceTable, *, as_of: datetime, arrived_after: datetime | None = None) -> SourceProfile:
        """See ``OfflineEngine.profile``."""
        event, arrival = quoted(source.event_timestamp), quoted(source.arrival)
        after = timestamp(arrived_after) if arrived_after else None
        with self._reading(source) as (cursor, opened):
            arrived = f"({opened.visible(timestamp(as_of), after)})"
            columns = [_ColumnQuery(name, type_) for name, type_ in opened.normalised_types.items()]
            wanted = ", ".join(["count(*)", f"max({event})", f"max({arrival})", *(each.sql for each in columns)])
            ((rows, newest, newest_arrival, *found),) = cursor.execute(f"SELECT {wanted} FROM {arrived}").fetchall()
        profiles = tuple(each.profile(*found[4 * index : 4 * index + 4]) for index, each in enumerate(columns))
        return SourceProfile(rows, _as_utc(newest), _as_utc(newest_arrival), profiles)

    # ------------------------------------------------------------------ sources and views

    @contextmanager
    def _reading(self, source: SourceTable) -> Iterator[tuple[duckdb.DuckDBPyConnection, OpenSource]]:
        with self._sources.reading(), closing(self._connection.cursor()) as cursor:
            opened = self._sources.open(source)
            opened.attach(cursor)
            yield cursor, opened

    def _view_rows(self, cursor: duckdb.DuckDBPyConnection, view: ViewSpec) -> ViewRows:
        """How to read the view from its sources as they are now; worked out once per state of their files."""
        sources = tuple(self._sources.open(source) for source in view.sources)
        with self._lock:
            known = self._views.get(view)
        if known is None or known.sources != sources:
            known = view_rows(cursor, view, sources)
            with self._lock:
                self._views[view] = known
        known.attach(cursor)
        return known


@dataclass(frozen=True)
class _ColumnQuery:
    """What is asked of a source's column: four expressions of one SELECT."""

    name: str
    type_: str

    @property
    def sql(self) -> str:
        column = quoted(self.name)
        bounds = f"min({column}), max({column})" if self.type_ not in ("VARCHAR", "BOOLEAN") else "NULL, NULL"
        return f"count(*) - count({column}), count(DISTINCT {column}), {bounds}"

    def profile(self, nulls: int, distinct: int, minimum: Any, maximum: Any) -> ColumnProfile:
        if self.type_ == "TIMESTAMP":
            minimum, maximum = _as_utc(minimum), _as_utc(maximum)
        return ColumnProfile(self.name, self.type_, nulls, distinct, minimum, maximum)


@contextmanager
def _explained(view: ViewSpec) -> Iterator[None]:
    """Say whose expression it was that could not be evaluated."""
    try:
        yield
    except (duckdb.Error, SumTooLargeError) as error:
        raise ViewError(f"{title(view)} cannot be evaluated: {error}") from error


def _counting(progress: Progress | None, done: int, total: int) -> Callable[[], None]:
    """What a join calls after each piece."""
    numbers = count(done + 1)
    return lambda: progress(next(numbers), total) if progress is not None else None


def _as_utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment else None
