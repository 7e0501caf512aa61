"""The point-in-time join of one view: what is read, in how many pieces, and what each row of the frame gets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cached_property
from itertools import pairwise

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engines.duckdb.frames import Entities, Frame
from engines.duckdb.histories import Asked, Flags, History, Ints, newest_known
from engines.duckdb.sources import Bounds
from engines.duckdb.sql import listed, quoted, span_us, timestamp
from engines.duckdb.view_rows import ViewRows, with_utc
from engines.duckdb.windows import aggregated
from engines.offline import EXPIRED, FOUND, NOT_KNOWN_YET, NULL_KEY, UNKNOWN_ENTITY

# Bytes that a row of a view takes while it is searched: times and code, their packed and sorted copies; its columns.
_BYTES_PER_ROW = 100
_BYTES_PER_COLUMN = 16
_BYTES_PER_TEXT = 80
# So many rows an expression that does not work row by row is feared to make of one row that it reads.
_YIELD = 64
_KEYS = "__keys"
_EVALUATED = "__evaluated"

Piece = tuple[int, int]


class Join:
    """One view, joined to a frame in pieces of whole entities."""

    def __init__(
        self,
        cursor: duckdb.DuckDBPyConnection,
        rows: ViewRows,
        frame: Frame,
        entities: Entities,
        *,
        as_of: datetime,
        reasons: bool,
        piece_bytes: int,
    ) -> None:
        """``piece_bytes`` is about what a piece may take in memory, DuckDB's own aside."""
        self._cursor = cursor
        self._rows = rows
        self._view = rows.view
        self._frame = frame
        self._entities = entities
        self._as_of = as_of
        self._reasons = reasons
        self._rows_per_piece = max(1, piece_bytes // bytes_per_row(rows))
        self._is_evaluated = False

    def pieces(self) -> list[Piece]:
        """Ranges of entities, by code, that fit into memory one after the other.

        The sources' row counts are an upper limit for a view that works row by row. Only where they do not fit is
        counted what the frame asks for. Any other expression over a large source is evaluated once, into a temporary
        table that DuckDB may spill: it may be slow, and may yield more rows than it reads.
        """
        rows = sum(each.rows for each in self._rows.sources) * (_YIELD if self._rows.plain is None else 1)
        entities = len(self._entities)
        if rows > self._rows_per_piece:
            self._load_keys((0, entities))
            if self._rows.plain is None:
                self._evaluate()
            relation = _EVALUATED if self._is_evaluated else f"({self._chosen('')})"
            ((rows,),) = self._cursor.execute(f"SELECT count(*) FROM {relation}").fetchall()
        count = max(1, min(-(-rows // self._rows_per_piece), entities))
        edges = [entities * number // count for number in range(count + 1)]
        return list(pairwise(edges))

    def run(self, pieces: Sequence[Piece], tick: Callable[[], None]) -> pa.Table:
        """The features, and ``__reason`` if wanted, for each row of the frame in its order."""
        parts: list[pa.Table] = []
        places: list[Ints] = []
        for piece in pieces:
            place = self._asking(piece)
            parts.append(self._joined(piece, place))
            places.append(place)
            tick()
        if self._is_evaluated:
            self._cursor.execute(f"DROP TABLE {_EVALUATED}")
        return self._in_order(pa.concat_tables(parts), np.concatenate(places))

    # ------------------------------------------------------------------ what is asked

    @cached_property
    def _live(self) -> Flags:
        """Rows of the frame that ask something: no null among keys and time."""
        flags: Flags = (self._entities.code >= 0) & self._frame.has_time
        return flags

    @cached_property
    def _bound(self) -> Ints:
        return self._frame.bounds(self._view)

    @cached_property
    def _bounds(self) -> Bounds:
        """What of the view can matter. Only reasons care for what has expired before anybody asked."""
        if not self._live.any():
            return Bounds()
        bound, oldest = self._bound[self._live], None
        if self._view.window is not None:
            oldest = int(bound.min()) - span_us(self._view.window) + 1
        elif self._view.ttl is not None:
            oldest = int(self._frame.time[self._live].min()) - span_us(self._view.ttl)
        latest = int(bound.max())
        return Bounds(None if self._reasons else oldest, latest, latest)

    def _asking(self, piece: Piece) -> Ints:
        """The rows of the frame that ask for these entities."""
        low, high = piece
        code = self._entities.code
        return np.flatnonzero(self._live & (code >= low) & (code < high))

    # ------------------------------------------------------------------ what is read

    def _chosen(self, columns: str, bounds: Bounds | None = None) -> str:
        """SQL for the rows of the loaded entities."""
        rows = self._rows.sql(timestamp(self._as_of), bounds=bounds or self._bounds)
        same = " AND ".join(f"r.{quoted(key)} = k.{quoted(key)}" for key in self._view.join_keys)
        return f"SELECT k.__code, r.__event, r.__known{columns} FROM ({rows}) r JOIN {_KEYS} k ON {same}"

    @property
    def _columns(self) -> str:
        return "".join(f", {each}" for each in [listed(self._view.columns, "r")] if each)

    def _evaluate(self) -> None:
        self._cursor.execute(f"CREATE OR REPLACE TEMP TABLE {_EVALUATED} AS {self._chosen(self._columns)}")
        self._is_evaluated = True

    def _load_keys(self, piece: Piece) -> None:
        low, high = piece
        codes = pa.array(np.arange(low, high, dtype=np.int64))
        self._cursor.register("incoming", self._entities.keys.slice(low, high - low).append_column("__code", codes))
        # Copied, so that DuckDB knows how few they are and builds its hash table of them, not of the view's rows.
        self._cursor.execute(f"CREATE OR REPLACE TEMP TABLE {_KEYS} AS SELECT * FROM incoming")
        self._cursor.unregister("incoming")

    def _read(self, piece: Piece) -> pa.Table:
        if self._is_evaluated:
            low, high = piece
            sql = f"SELECT * FROM {_EVALUATED} WHERE __code >= {low} AND __code < {high}"
        else:
            self._load_keys(piece)
            sql = self._chosen(self._columns)
        return self._cursor.sql(sql).to_arrow_table()

    # ------------------------------------------------------------------ what is answered

    def _joined(self, piece: Piece, place: Ints) -> pa.Table:
        """The answers to the rows of the frame at ``place``, which ask for the entities of the piece."""
        table = self._read(piece)
        low, _ = piece
        history = History(_codes(table, low), _times(table, "__event"), _times(table, "__known"))
        asked = Asked(self._entities.code[place] - low, self._bound[place])
        columns = with_utc(table.select(self._view.columns))
        del table
        if self._view.aggregations:
            return self._aggregated(history, columns, asked, piece)
        return self._newest(history, columns, asked, piece, self._frame.time[place])

    def _newest(self, history: History, columns: pa.Table, asked: Asked, piece: Piece, time: Ints) -> pa.Table:
        def tie(rows: Ints) -> Ints:
            return worst_first(history, columns, rows)

        found = newest_known(history, asked, codes=piece[1] - piece[0], break_ties=tie)
        answered = found >= 0
        if self._view.ttl is not None and len(history):
            answered &= time - history.event[found] <= span_us(self._view.ttl)
        features = _taken(columns, found, answered)
        return self._explained(features, asked, piece, answered, found >= 0)

    def _aggregated(self, history: History, columns: pa.Table, asked: Asked, piece: Piece) -> pa.Table:
        by_name = {name: columns.column(name) for name in columns.column_names}
        answers = aggregated(history, by_name, asked, self._view.aggregations, codes=piece[1] - piece[0])
        features = pa.table(dict(zip(self._view.features, answers.features, strict=True)))
        return self._explained(features, asked, piece, answers.present, answers.seen)

    def _explained(self, features: pa.Table, asked: Asked, piece: Piece, answered: Flags, seen: Flags) -> pa.Table:
        """The features with their reasons: ``answered`` now, or at least ``seen`` by then."""
        if not self._reasons:
            return features
        reason = np.where(answered, 0, np.where(seen, 1, 2))
        unseen = np.flatnonzero(~seen)
        if len(unseen):
            reason[unseen] = np.where(self._existing[asked.code[unseen] + piece[0]], 2, 3)
        names = pa.array([FOUND, EXPIRED, NOT_KNOWN_YET, UNKNOWN_ENTITY])
        return features.append_column("__reason", names.take(pa.array(reason)))

    @cached_property
    def _existing(self) -> Flags:
        """Which entities have any row that had arrived at ``as_of``, whatever its times."""
        entities = len(self._entities)
        self._load_keys((0, entities))
        found = self._cursor.sql(f"SELECT DISTINCT __code FROM ({self._chosen('', Bounds())})").to_arrow_table()
        existing = np.zeros(entities, np.bool_)
        existing[_codes(found, 0)] = True
        return existing

    def _in_order(self, answers: pa.Table, places: Ints) -> pa.Table:
        """Each answer at its row of the frame, nulls at rows that ask nothing."""
        rows = len(self._frame)
        if len(places) == rows and bool((places[1:] > places[:-1]).all()):
            return answers
        source = np.full(rows, -1, np.int64)
        source[places] = np.arange(len(places))
        ordered = _taken(answers, source, source >= 0)
        if not self._reasons:
            return ordered
        reason = pc.fill_null(ordered.column("__reason"), NULL_KEY)
        return ordered.set_column(ordered.num_columns - 1, "__reason", reason)


def _codes(table: pa.Table, low: int) -> Ints:
    codes: Ints = table.column("__code").to_numpy()
    return codes - low if low else codes


def _times(table: pa.Table, name: str) -> Ints:
    times: Ints = table.column(name).to_numpy()
    return times


def _taken(columns: pa.Table, rows: Ints, valid: Flags) -> pa.Table:
    """These rows of the columns, null where not valid."""
    if not columns.num_rows:
        return pa.table({name: pa.nulls(len(rows), columns.schema.field(name).type) for name in columns.column_names})
    return picked(columns, rows, ~valid)


def picked(columns: pa.Table, rows: Ints, mask: Flags | None = None) -> pa.Table:
    """These rows of the columns, null where masked."""
    place = pa.array(rows, mask=mask)
    # Column by column: of several chunks the right one is searched for each row, and the copies live one at a time.
    return pa.table({name: columns.column(name).combine_chunks().take(place) for name in columns.column_names})


def worst_first(history: History, columns: pa.Table, rows: Ints) -> Ints:
    """A tie break: rows by entity, event and known time; those equal in all three by value, the one to be used last."""
    keys = {"__code": history.code, "__event": history.event, "__known": history.known}
    tied = columns.take(pa.array(rows))
    for name, values in keys.items():
        tied = tied.append_column(name, pa.array(values[rows]))
    best_first = [(name, "descending") for name in keys] + [(name, "ascending") for name in columns.column_names]
    order = pc.sort_indices(tied, sort_keys=best_first).to_numpy()
    worst: Ints = rows[order[::-1].astype(np.int64)]
    return worst


def bytes_per_row(rows: ViewRows) -> int:
    """About what a row of the view takes in memory while it is searched."""
    types = [rows.types[name] for name in rows.view.columns]
    return _BYTES_PER_ROW + sum(_BYTES_PER_TEXT if pa.types.is_string(each) else _BYTES_PER_COLUMN for each in types)
