"""The embedded offline engine: DuckDB in this process, sources as in-memory tables.

The database is locked down before the first expression runs: no file, network, extension or Python variable can be
reached from SQL, and the lock cannot be undone. Sources therefore come in through Arrow, and an expression sees
nothing but its own.

How a point-in-time join is planned (``_best_rows``): the event time and the known time of a row are packed into one
128-bit key, and one ASOF join finds the newest row at or before each asked time. That is exact unless the row it finds
was not known yet (late data, a few per cent of rows at most). Those asked rows, and only those, are asked again on the
*staircase*: the rows that were the best known at the moment they became available. There one ASOF join over that moment
is exact whatever the order of arrival, but the staircase costs a sort. Never a range join, whose cost grows with the
square of the rows per key.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from glob import glob
from itertools import count
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs as pafs

from engines.expressions import check_expression, normalised
from engines.offline import (
    ColumnProfile,
    FrameError,
    SourceError,
    SourceProfile,
    SourceTable,
    ViewError,
    ViewSpec,
)

_LOCKED_DOWN = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
}
_TIME = pa.timestamp("us", "UTC")
# Types that reach a dataset or the online store. All numbers become one of two, so that stores and models need no more.
_STORED_TYPES = {
    "BOOLEAN": "BOOLEAN",
    "VARCHAR": "VARCHAR",
    "TIMESTAMP": "TIMESTAMP",
    **dict.fromkeys(("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER"), "BIGINT"),
    **dict.fromkeys(("UBIGINT", "HUGEINT", "FLOAT", "DOUBLE", "DECIMAL"), "DOUBLE"),
}
_ARROW_TYPES = {
    "BOOLEAN": pa.bool_(),
    "VARCHAR": pa.string(),
    "TIMESTAMP": _TIME,
    "BIGINT": pa.int64(),
    "DOUBLE": pa.float64(),
}
# A known time may precede 1970; shifted like this it still sorts inside the lower 63 bits of the packed key.
_KNOWN_SHIFT = 1 << 62

_File = tuple[str, int, int]  # path, modification time (ns), size


@dataclass(frozen=True)
class _Loaded:
    """A source that stands in memory: which files it was read from, and the table that holds it."""

    files: tuple[_File, ...]
    table: str
    columns: tuple[str, ...]


@dataclass(frozen=True)
class _Output:
    """How a view's expression is read: over which tables this was worked out, the SELECT list, and the Arrow types."""

    tables: tuple[str, ...]
    columns: str
    types: dict[str, pa.DataType]


class DuckDBEngine:
    """``OfflineEngine`` on an in-memory DuckDB. One per process; calls take turns, ``values`` alone may overlap."""

    name = "duckdb"
    version = duckdb.__version__

    def __init__(self, *, threads: int | None = None, memory_limit: str | None = None) -> None:
        """``memory_limit`` as DuckDB writes it, such as ``4GB``; without it DuckDB takes up to 80 % of the machine."""
        config: dict[str, str | bool | int | float | list[str]] = dict(_LOCKED_DOWN)
        if threads:
            config["threads"] = str(threads)
        if memory_limit:
            config["memory_limit"] = memory_limit
        self._connection = duckdb.connect(":memory:", config=config)
        self._connection.execute("SET lock_configuration = true")
        # Sources live outside the search path, so that no expression can name one by its stored name.
        self._connection.execute("CREATE SCHEMA sources")
        self._lock = threading.Lock()
        self._loaded: dict[SourceTable, _Loaded] = {}
        self._outputs: dict[ViewSpec, _Output] = {}
        self._numbers = count(1)

    def close(self) -> None:
        """Free the sources held in memory."""
        self._connection.close()

    def point_in_time(self, frame: pa.Table, views: Sequence[ViewSpec], *, timestamp: str, as_of: datetime) -> pa.Table:
        """See ``OfflineEngine.point_in_time``."""
        _check_frame(frame, views, timestamp)
        asked = _microseconds(frame.column(timestamp))
        joined = frame
        with self._lock:
            for view in views:
                with _explained(view):
                    features = self._joined_features(frame, view, asked, as_of)
                for name in view.features:
                    joined = joined.append_column(view.column(name), features.column(name))
        return joined

    def values(self, view: ViewSpec, *, as_of: datetime, known_after: datetime | None = None) -> pa.Table:
        """See ``OfflineEngine.values``."""
        increment = known_after if view.lookback is not None else None
        keys = _listed(view.join_keys)
        order = ", ".join(["__event DESC", "__known DESC", *map(_quoted, view.features)])
        # A row counts from the moment it has both happened and is known, as in the training join.
        since = f" AND greatest(__event, __known) > {_epoch_us(increment)}" if increment else ""
        with self._lock, _explained(view):
            rows = self._rows_of(view, as_of, increment)
            types = self._outputs[view].types
            cursor = self._connection.cursor()
        # On a cursor of its own and without the lock: a worker computes the next view while it writes this one.
        # numpy, because DuckDB plans a query twice on its way to Arrow: a third of the time of a small increment
        with closing(cursor), _explained(view):
            newest = cursor.execute(
                f"SELECT {keys}, make_timestamp(__event) AS event_timestamp, make_timestamp(__known) AS known_at, "
                f"{_listed(view.features)} FROM ({rows}) WHERE __event <= {_epoch_us(as_of)}{since} "
                f"QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY {order}) = 1"
            ).fetchnumpy()
        return pa.table({name: _as_arrow(column, types.get(name, _TIME)) for name, column in newest.items()})

    def rows(
        self, source: SourceTable, *, as_of: datetime, since: datetime | None = None, until: datetime | None = None
    ) -> pa.Table:
        """See ``OfflineEngine.rows``."""
        event = _quoted(source.event_timestamp)
        bounds = [(">=", since), ("<", until)]
        inside = "".join(
            f" AND {event} {sign} make_timestamp({_epoch_us(at)})" for sign, at in bounds if at is not None
        )
        with self._lock:
            loaded = self._load(source)
            return _with_utc(self._table(f"SELECT * FROM {loaded.table} WHERE {_arrived(source, as_of)}{inside}"))

    def freshness(self, source: SourceTable, *, as_of: datetime) -> datetime | None:
        """See ``OfflineEngine.freshness``."""
        with self._lock:
            loaded = self._load(source)
            (newest,) = self._row(
                f"SELECT max({_quoted(source.event_timestamp)}) FROM {loaded.table} WHERE {_arrived(source, as_of)}"
            )
        return _as_utc(newest)

    def profile(self, source: SourceTable, *, as_of: datetime, arrived_after: datetime | None = None) -> SourceProfile:
        """See ``OfflineEngine.profile``."""
        event, arrival = _quoted(source.event_timestamp), _quoted(source.arrival)
        with self._lock:
            loaded = self._load(source)
            arrived = f"{loaded.table} WHERE {_arrived(source, as_of, arrived_after)}"
            rows, newest, newest_arrival = self._row(f"SELECT count(*), max({event}), max({arrival}) FROM {arrived}")
            types = self._types(f"FROM {loaded.table}")
            columns = tuple(self._column_profile(name, types[name], arrived) for name in loaded.columns)
        return SourceProfile(rows, _as_utc(newest), _as_utc(newest_arrival), columns)

    # ------------------------------------------------------------------ sources

    def _load(self, source: SourceTable) -> _Loaded:
        """The source in memory, read again when its files changed since."""
        filesystem, files = _files_of(source)
        known = self._loaded.get(source)
        if known and known.files == files:
            return known
        dataset = ds.dataset([path for path, _, _ in files], filesystem=filesystem, format="parquet")
        _check_source_columns(source, dataset.schema)
        loaded = _Loaded(files, f"sources.s{next(self._numbers)}", tuple(dataset.schema.names))
        # Sorted by arrival, the zone maps of the table let an increment skip all older row groups.
        self._connection.register("incoming", _in_microseconds(dataset))
        self._connection.execute(
            f"CREATE TABLE {loaded.table} AS SELECT * FROM incoming ORDER BY {_quoted(source.arrival)}"
        )
        self._connection.unregister("incoming")
        if known:
            self._connection.execute(f"DROP TABLE {known.table}")
        self._loaded[source] = loaded
        return loaded

    def _column_profile(self, name: str, type_: str, arrived: str) -> ColumnProfile:
        column = _quoted(name)
        ranged = type_ not in ("VARCHAR", "BOOLEAN")
        bounds = f"min({column}), max({column})" if ranged else "NULL, NULL"
        nulls, distinct, minimum, maximum = self._row(
            f"SELECT count(*) - count({column}), count(DISTINCT {column}), {bounds} FROM {arrived}"
        )
        if type_ == "TIMESTAMP":
            minimum, maximum = _as_utc(minimum), _as_utc(maximum)
        return ColumnProfile(name, type_, nulls, distinct, minimum, maximum)

    # ------------------------------------------------------------------ the rows of a view

    def _rows_of(self, view: ViewSpec, as_of: datetime, known_after: datetime | None = None) -> str:
        """SQL for the view's rows known at ``as_of``: keys, ``__event``, ``__known`` (microseconds), features."""
        loaded = tuple(self._load(source) for source in view.sources)
        arrived_after = known_after - view.lookback if known_after and view.lookback is not None else None
        visible = ", ".join(
            f"{_quoted(source.name)} AS (SELECT * FROM {at.table} WHERE {_arrived(source, as_of, arrived_after)})"
            for source, at in zip(view.sources, loaded, strict=True)
        )
        output = self._output(view, visible, tuple(at.table for at in loaded)).columns
        present = " AND ".join(f"{_quoted(key)} IS NOT NULL" for key in (*view.join_keys, "__event", "__known"))
        with_sources = f"WITH {visible} " if visible else ""
        return (
            f"SELECT * FROM ({with_sources}SELECT {output} FROM ({normalised(view.expression)})) "
            f"WHERE {present} AND __known <= {_epoch_us(as_of)}"
        )

    def _output(self, view: ViewSpec, visible: str, tables: tuple[str, ...]) -> _Output:
        """How to bring the expression's columns to the engine's names and types; worked out once per view."""
        known = self._outputs.get(view)
        if known and known.tables == tables:
            return known
        columns = check_expression(view.expression, [source.name for source in view.sources])
        declared = (*view.join_keys, view.event_timestamp, view.known_at, *view.features)
        missing = [name for name in declared if name not in columns]
        if missing:
            raise ViewError(f"{_title(view)} declares {', '.join(missing)}; its expression yields {', '.join(columns)}")
        with_sources = f"WITH {visible} " if visible else ""
        found = self._types(f"{with_sources}SELECT * FROM ({normalised(view.expression)})")
        stored = {name: _stored_type(view, name, found[name]) for name in (*view.join_keys, *view.features)}
        casts = [f"CAST({_quoted(name)} AS {type_}) AS {_quoted(name)}" for name, type_ in stored.items()]
        event, known_at = (f"CAST({_quoted(name)} AS TIMESTAMP)" for name in (view.event_timestamp, view.known_at))
        select = ", ".join([*casts, f"epoch_us({event}) AS __event", f"epoch_us({known_at}) AS __known"])
        types = {name: _ARROW_TYPES[type_] for name, type_ in stored.items()}
        self._outputs[view] = _Output(tables, select, types)
        return self._outputs[view]

    # ------------------------------------------------------------------ point in time

    def _joined_features(self, frame: pa.Table, view: ViewSpec, asked: pa.Array, as_of: datetime) -> pa.Table:
        """The view's features for each row of the frame, in its order."""
        self._connection.register("incoming", _asked_rows(frame, view, asked))
        # Copied, because Arrow columns would be converted again by each of the joins below.
        self._connection.execute("CREATE OR REPLACE TEMP TABLE asked AS SELECT * FROM incoming")
        self._connection.unregister("incoming")
        self._store_rows(view, as_of)
        ttl = f"AND a.__time - r.__event <= {_span_us(view.ttl)}" if view.ttl is not None else ""
        features = ", ".join(f"r.{_quoted(name)}" for name in view.features)
        return _with_utc(
            self._table(
                f"SELECT {features} FROM asked a LEFT JOIN ({self._best_rows(view)}) b USING (__row) "
                f"LEFT JOIN known r ON r.__id = b.__id {ttl} ORDER BY a.__row",
            )
        )

    def _store_rows(self, view: ViewSpec, as_of: datetime) -> None:
        """Table ``known``: the view's rows that can matter to the asked rows, one per (key, event time, known time)."""
        keys = _listed(view.join_keys)
        self._connection.execute(
            "CREATE OR REPLACE TEMP TABLE known AS SELECT *, row_number() OVER () AS __id, "
            f"{_packed('__event', '__known')} AS __packed FROM ({self._rows_of(view, as_of)}) "
            f"WHERE __known <= (SELECT max(__bound) FROM asked) AND ({keys}) IN (SELECT ({keys}) FROM asked)",
        )
        if self._yields_rows(f"FROM known GROUP BY {keys}, __packed HAVING count(*) > 1"):
            self._connection.execute(
                "CREATE OR REPLACE TEMP TABLE known AS SELECT * FROM known QUALIFY "
                f"row_number() OVER (PARTITION BY {keys}, __packed ORDER BY {_listed(view.features)}) = 1"
            )

    def _best_rows(self, view: ViewSpec) -> str:
        """SQL for ``(__row, __id)``: which known row answers each asked row. The module's docstring has the plan."""
        same_key = " AND ".join(f"a.{_quoted(key)} = r.{_quoted(key)}" for key in view.join_keys)
        keys = _listed(view.join_keys)
        self._connection.execute(
            "CREATE OR REPLACE TEMP TABLE best AS SELECT a.__row, r.__id, r.__known <= a.__bound AS exact FROM asked a "
            f"ASOF JOIN known r ON {same_key} AND {_packed('a.__bound', 'a.__bound')} >= r.__packed"
        )
        if not self._yields_rows("FROM best WHERE NOT exact"):
            return "SELECT __row, __id FROM best"
        self._connection.execute(
            "CREATE OR REPLACE TEMP TABLE late AS SELECT a.* FROM asked a "
            "SEMI JOIN (FROM best WHERE NOT exact) USING (__row)"
        )
        stairs = (
            f"SELECT {keys}, __id, greatest(__event, __known) AS __available FROM known "
            f"WHERE ({keys}) IN (SELECT ({keys}) FROM late) "
            f"QUALIFY __packed = max(__packed) OVER (PARTITION BY {keys} ORDER BY greatest(__event, __known))"
        )
        return (
            "SELECT __row, __id FROM best WHERE exact UNION ALL "
            f"SELECT a.__row, r.__id FROM late a ASOF JOIN ({stairs}) r ON {same_key} AND a.__bound >= r.__available"
        )

    # ------------------------------------------------------------------ running SQL

    def _table(self, sql: str) -> pa.Table:
        return self._connection.sql(sql).to_arrow_table()

    def _row(self, sql: str) -> tuple[Any, ...]:
        """The only row of an aggregate without GROUP BY."""
        # fetchall, because a result not read to its end blocks the connection
        (row,) = self._connection.execute(sql).fetchall()
        return tuple(row)

    def _yields_rows(self, sql: str) -> bool:
        return bool(self._connection.execute(f"SELECT 1 {sql} LIMIT 1").fetchall())

    def _types(self, sql: str) -> dict[str, str]:
        """The output columns of a query and their types, without running it."""
        return {name: type_ for name, type_, *_ in self._connection.execute(f"DESCRIBE {sql}").fetchall()}


@contextmanager
def _explained(view: ViewSpec) -> Iterator[None]:
    """Say whose expression it was that the database could not evaluate."""
    try:
        yield
    except duckdb.Error as error:
        raise ViewError(f"{_title(view)} cannot be evaluated: {error}") from error


# ---------------------------------------------------------------------- frames


def _check_frame(frame: pa.Table, views: Iterable[ViewSpec], timestamp: str) -> None:
    present = set(frame.column_names)
    if timestamp not in present:
        raise FrameError(f"the entity frame has no time column {timestamp!r}; it has {', '.join(frame.column_names)}")
    if not pa.types.is_timestamp(frame.schema.field(timestamp).type):
        raise FrameError(f"the frame's {timestamp!r} must be a timestamp, not {frame.schema.field(timestamp).type}")
    written: set[str] = set()
    for view in views:
        missing = [key for key in view.join_keys if key not in present]
        if missing:
            raise FrameError(f"{_title(view)} needs the join key {', '.join(missing)} in the entity frame")
        columns = {view.column(name) for name in view.features}
        taken = sorted(columns & (present | written))
        if taken:
            raise FrameError(
                f"the column {', '.join(taken)} would be written twice; rename it, or ask for one version of a view"
            )
        written |= columns


def _microseconds(times: pa.ChunkedArray) -> pa.Array:
    """Times as microseconds since 1970 UTC. Finer units are cut, which can only make an asked time earlier."""
    return pc.cast(pc.cast(times, pa.timestamp("us"), safe=False), pa.int64()).combine_chunks()


def _asked_rows(frame: pa.Table, view: ViewSpec, asked: pa.Array) -> pa.Table:
    """Keys, ``__row`` (position), ``__time`` (asked) and ``__bound`` (asked, floored to the view's cadence)."""
    columns = {key: frame.column(key) for key in view.join_keys}
    columns["__row"] = pa.array(np.arange(frame.num_rows))
    columns["__time"] = asked
    columns["__bound"] = asked if view.cadence is None else _floored(asked, _span_us(view.cadence))
    return pa.table(columns)


def _floored(asked: pa.Array, step: int) -> pa.Array:
    # numpy floors towards the past also before 1970, where SQL's integer division would not
    filled = pc.fill_null(asked, 0).to_numpy(zero_copy_only=False)
    return pa.array(filled // step * step, mask=pc.is_null(asked).to_numpy(zero_copy_only=False))


# ---------------------------------------------------------------------- files


def _files_of(source: SourceTable) -> tuple[pafs.FileSystem, tuple[_File, ...]]:
    """Where the source's Parquet files are, and which they are now."""
    filesystem, path = _located(source.uri)
    files = tuple((info.path, info.mtime_ns, info.size) for info in _file_infos(filesystem, path))
    if not files:
        raise SourceError(f"data source {source.name}: no Parquet file at {source.uri}")
    return filesystem, files


def _located(uri: str) -> tuple[pafs.FileSystem, str]:
    if "://" in uri:
        filesystem, path = pafs.FileSystem.from_uri(uri)
        return filesystem, path
    return pafs.LocalFileSystem(), uri


def _file_infos(filesystem: pafs.FileSystem, path: str) -> list[pafs.FileInfo]:
    if isinstance(filesystem, pafs.LocalFileSystem) and any(mark in path for mark in "*?["):
        return [info for info in filesystem.get_file_info(sorted(glob(path, recursive=True))) if info.is_file]
    info = filesystem.get_file_info(path)
    if info.type != pafs.FileType.Directory:
        return [info] if info.is_file else []
    inside = filesystem.get_file_info(pafs.FileSelector(path, recursive=True))
    return sorted((f for f in inside if f.is_file and f.path.endswith(".parquet")), key=lambda f: f.path)


def _check_source_columns(source: SourceTable, schema: pa.Schema) -> None:
    for name in (source.event_timestamp, source.arrival):
        if name not in schema.names:
            raise SourceError(f"data source {source.name} has no column {name}; it has {', '.join(schema.names)}")
        if not pa.types.is_timestamp(schema.field(name).type):
            raise SourceError(f"data source {source.name}: {name} must be a timestamp, not {schema.field(name).type}")


def _in_microseconds(dataset: ds.Dataset) -> ds.Scanner:
    """The dataset with every timestamp as naive UTC microseconds, read lazily.

    Naive, because time zones in DuckDB need an extension and a session setting, and neither may decide a value.
    """
    columns = {
        field.name: ds.field(field.name).cast(pa.timestamp("us"), safe=False)
        if pa.types.is_timestamp(field.type)
        else ds.field(field.name)
        for field in dataset.schema
    }
    return dataset.scanner(columns=columns)


# ---------------------------------------------------------------------- SQL pieces


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(_quoted, names))


def _packed(event: str, known: str) -> str:
    """SQL for one integer that orders by event time, then known time (both microseconds)."""
    return f"((({event})::HUGEINT << 63) + ({known}) + {_KNOWN_SHIFT})"


def _arrived(source: SourceTable, as_of: datetime, after: datetime | None = None) -> str:
    """SQL condition: the row had arrived at ``as_of`` (and not yet at ``after``)."""
    column = _quoted(source.arrival)
    until = f"{column} <= make_timestamp({_epoch_us(as_of)})"
    return until if after is None else f"{until} AND {column} > make_timestamp({_epoch_us(after)})"


def _epoch_us(moment: datetime) -> int:
    if moment.tzinfo is None:
        raise ValueError(f"{moment!r} has no time zone; pass an aware datetime")
    return _span_us(moment - datetime(1970, 1, 1, tzinfo=UTC))


def _span_us(span: timedelta) -> int:
    return span // timedelta(microseconds=1)


def _stored_type(view: ViewSpec, name: str, type_: str) -> str:
    stored = _STORED_TYPES.get(type_.partition("(")[0])
    if stored is None:
        accepted = "numbers, text, booleans and timestamps"
        raise ViewError(f"{_title(view)}: column {name} has the type {type_}; accepted are {accepted}")
    return stored


def _with_utc(table: pa.Table) -> pa.Table:
    """The table with its (naive UTC) timestamps marked as UTC."""
    fields = [field.with_type(_TIME) if pa.types.is_timestamp(field.type) else field for field in table.schema]
    return table.cast(pa.schema(fields))


def _as_arrow(column: Any, type_: pa.DataType) -> pa.Array:
    """A numpy column of DuckDB, masked where null, as Arrow."""
    return pa.array(np.ma.getdata(column), type=type_, mask=np.ma.getmaskarray(column))


def _as_utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment else None


def _title(view: ViewSpec) -> str:
    return f"feature view {view.name} version {view.version}"
