"""The offline engine on Spark, for sources that outgrow one machine: PySpark 4.3, the optional extra ``spark``.

It answers as ``engines.duckdb_engine`` does, to the last bit where the port promises that; ``engines.conformance``
compares the two. Expressions are translated by ``engines.dialects``. The session is started when the first question is
asked (some seconds); every setting that can decide a value is made here: time zone UTC, ANSI errors, exact decimals.
Nothing is ever fetched: no packages, no Hive, no web page of its own.

How a point-in-time join is planned: the rows of a view that were the best known at the moment they became available are
its *staircase*. One search for the last step at or before each asked time is then exact, whatever the order of arrival.
Spark has that search (``ASOF JOIN``, behind a flag); where it is missing, asked times are mixed among the rows and a
running maximum carries the step to them. Never a range join, whose cost grows with the square of the rows per key: only
aggregations take one, between the asked times and the events of one key.
"""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs as pafs

from engines.dialects import Kind, Relation, spark_sql
from engines.duckdb.frames import Frame, check_frame
from engines.duckdb.sources import File, files_of
from engines.duckdb.sql import epoch_us, span_us
from engines.duckdb.view_rows import feature_types, title
from engines.expressions import check_expression
from engines.offline import (
    EXPIRED,
    FOUND,
    NOT_KNOWN_YET,
    NULL_KEY,
    UNKNOWN_ENTITY,
    Aggregation,
    ColumnProfile,
    FrameError,
    OfflineError,
    Progress,
    SourceError,
    SourceProfile,
    SourceTable,
    ViewError,
    ViewSpec,
)

LOCAL = "local[2]"
_TIME = pa.timestamp("us", "UTC")
# What can decide a value, or which SQL is understood. ``engines.dialects`` relies on each.
_MEANING = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",
    "spark.sql.caseSensitive": "false",
    "spark.sql.decimalOperations.allowPrecisionLoss": "false",
    "spark.sql.parser.escapedStringLiterals": "false",
    "spark.sql.variable.substitute": "false",
    "spark.sql.parquet.inferTimestampNTZ.enabled": "true",
    "spark.sql.parquet.datetimeRebaseModeInRead": "CORRECTED",
    "spark.sql.parquet.int96RebaseModeInRead": "CORRECTED",
    "spark.sql.legacy.parquet.nanosAsLong": "true",
}
_ASOF_FLAG = "spark.sql.join.asofJoin.enabled"
_STORED_KINDS = {
    Kind.BOOLEAN: pa.bool_(),
    Kind.TEXT: pa.string(),
    Kind.TIME: _TIME,
    Kind.INTEGER: pa.int64(),
    **dict.fromkeys((Kind.HUGE, Kind.DECIMAL, Kind.FLOAT, Kind.DOUBLE), pa.float64()),
}
_SQL_TYPES = {pa.bool_(): "BOOLEAN", pa.string(): "STRING", _TIME: "TIMESTAMP_NTZ", pa.int64(): "BIGINT"}
_SQL_TYPES |= {pa.float64(): "DOUBLE"}
# Spark's names of types as DuckDB writes them: a profile reads the same whichever engine took it.
_TYPE_NAMES = {"INT": "INTEGER", "STRING": "VARCHAR", "TIMESTAMP_NTZ": "TIMESTAMP"}
# Sums and means leave out what does not fit (engines.duckdb.fixed_point): infinite, NaN, or as large as this.
_SUM_LIMIT = "1e18D"
# More than any view reads. Reviews read copies of sources that are gone afterwards, and must not pile up.
_SOURCES_KEPT = 200


@dataclass(frozen=True)
class _Opened:
    """A source that Spark has been told of: the files it was read from, its view's name, and its columns."""

    files: tuple[File, ...]
    view: str
    kinds: Mapping[str, Kind]
    types: Mapping[str, str]


@dataclass(frozen=True)
class _Rows:
    """A view's rows as SQL (join keys, ``__event``, ``__known`` in microseconds, columns), and the stored types."""

    sql: str
    types: dict[str, pa.DataType]


class SparkEngine:
    """``OfflineEngine`` on a Spark session of its own. Calls take turns; Spark spreads each over its executors."""

    name = "spark"

    def __init__(
        self, *, master: str = LOCAL, settings: Mapping[str, str] | None = None, asof_join: bool = True
    ) -> None:
        """``settings`` are Spark's own, such as ``spark.executor.memory``; those that decide a value are fixed.

        Without ``asof_join`` the plan for a Spark that lacks it is used. Raises OfflineError without PySpark.
        """
        try:
            self.version = version("pyspark")
        except PackageNotFoundError as error:
            raise OfflineError("Spark is not installed: pip install '.[spark]' (it needs Java 17 as well)") from error
        self._master = master
        self._settings = dict(settings or {})
        self._asof_join = asof_join
        self._session: Any = None
        self._opened: dict[SourceTable, _Opened] = {}
        self._numbers = count(1)
        self._lock = threading.RLock()

    def close(self) -> None:
        """Stop Spark in this process."""
        with self._lock:
            if self._session is not None:
                self._session.stop()
            self._session = None
            self._opened.clear()

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
        """See ``OfflineEngine.point_in_time``. A piece of work is one view."""
        check_frame(frame, views, timestamp, reasons=reasons)
        asked, joined = Frame(frame, timestamp), frame
        for done, view in enumerate(views, start=1):
            answers = self._answers(asked, view, as_of)
            for name in view.features:
                joined = joined.append_column(view.column(name), answers.column(name))
            if reasons:
                joined = joined.append_column(view.reason_column, answers.column("__reason"))
            if progress is not None:
                progress(done, len(views))
        return joined

    def values(self, view: ViewSpec, *, as_of: datetime, known_after: datetime | None = None) -> pa.Table:
        """See ``OfflineEngine.values``."""
        with self._lock, _explained(view):
            if view.aggregations:
                rows = self._rows_of(view, as_of)
                sql = _values_of_windows(view, rows, as_of, known_after)
            else:
                increment = known_after if view.lookback is not None else None
                rows = self._rows_of(view, as_of, increment)
                sql = _newest_values(view, rows, as_of, increment)
            types = {key: rows.types[key] for key in view.join_keys}
            types |= {"event_timestamp": _TIME, "known_at": _TIME} | feature_types(view, rows.types)
            return self._table(sql, types)

    def rows(
        self, source: SourceTable, *, as_of: datetime, since: datetime | None = None, until: datetime | None = None
    ) -> pa.Table:
        """See ``OfflineEngine.rows``."""
        bounds = [(">=", since), ("<", until)]
        event = _name(source.event_timestamp)
        inside = "".join(f" AND {event} {sign} {_moment(at)}" for sign, at in bounds if at is not None)
        with self._lock, _read(source):
            opened = self._open(source)
            found = self._run(f"SELECT * FROM {opened.view} WHERE {_arrived(source, as_of)}{inside}").toArrow()
        return _with_utc(found)

    def freshness(self, source: SourceTable, *, as_of: datetime) -> datetime | None:
        """See ``OfflineEngine.freshness``."""
        with self._lock, _read(source):
            opened = self._open(source)
            event = _name(source.event_timestamp)
            (newest,) = self._row(f"SELECT max({event}) FROM {opened.view} WHERE {_arrived(source, as_of)}")
        return _as_utc(newest)

    def profile(self, source: SourceTable, *, as_of: datetime, arrived_after: datetime | None = None) -> SourceProfile:
        """See ``OfflineEngine.profile``."""
        event, arrival = _name(source.event_timestamp), _name(source.arrival)
        with self._lock, _read(source):
            opened = self._open(source)
            arrived = f"FROM {opened.view} WHERE {_arrived(source, as_of, arrived_after)}"
            rows, newest, newest_arrival = self._row(f"SELECT count(*), max({event}), max({arrival}) {arrived}")
            columns = tuple(self._column_profile(name, type_, arrived) for name, type_ in opened.types.items())
        return SourceProfile(rows, _as_utc(newest), _as_utc(newest_arrival), columns)

    def _column_profile(self, name: str, type_: str, arrived: str) -> ColumnProfile:
        column = _name(name)
        bounds = "NULL, NULL" if type_ in ("VARCHAR", "BOOLEAN") else f"min({column}), max({column})"
        nulls, distinct, low, high = self._row(
            f"SELECT count(*) - count({column}), count(DISTINCT {column}), {bounds} {arrived}"
        )
        if type_ == "TIMESTAMP":
            low, high = _as_utc(low), _as_utc(high)
        return ColumnProfile(name, type_, nulls, distinct, low, high)

    # ------------------------------------------------------------------ the session

    @property
    def session(self) -> Any:
        """The Spark session (``pyspark.sql.SparkSession``), started when first asked for."""
        with self._lock:
            if self._session is None:
                with _started():
                    self._session = self._new_session()
            return self._session

    def _new_session(self) -> Any:
        with warnings.catch_warnings():
            # PySpark says that it does not fully support pandas 3. Tables go to and from it as Arrow, never as pandas.
            warnings.filterwarnings("ignore", category=FutureWarning, module="pyspark")
            from pyspark.sql import SparkSession

            builder = SparkSession.builder.master(self._master).appName("gatehouse")
            for name, value in (_process_settings(self._master) | self._settings).items():
                builder = builder.config(name, value)
            session = builder.getOrCreate().newSession()
        # What fails is raised here, with its reason; Spark's own lines would only repeat it, at length.
        session.sparkContext.setLogLevel("OFF")
        logging.getLogger("SQLQueryContextLogger").setLevel(logging.CRITICAL)
        for name, value in _MEANING.items():
            session.conf.set(name, value)
        if self._asof_join:
            session.conf.set(_ASOF_FLAG, "true")
        return session

    def _run(self, sql: str) -> Any:
        return self.session.sql(sql)

    def _row(self, sql: str) -> tuple[Any, ...]:
        (row,) = self._run(sql).collect()
        return tuple(row)

    def _table(self, sql: str, types: Mapping[str, pa.DataType]) -> pa.Table:
        """The answer with the columns and types of ``types``."""
        found = _with_utc(self._run(sql).toArrow())
        return pa.table({name: found.column(name).cast(type_) for name, type_ in types.items()})

    # ------------------------------------------------------------------ sources

    def _open(self, source: SourceTable) -> _Opened:
        """The source as a temporary view with times in ``TIMESTAMP_NTZ``; told again when its files changed."""
        filesystem, files = files_of(source)
        known = self._opened.get(source)
        if known and known.files == files:
            return known
        schema = _schema_of(source, filesystem, files)
        view = f"gatehouse_source_{next(self._numbers)}"
        paths = [_path(source, filesystem, path) for path, _, _ in files]
        raw = self.session.read.parquet(*paths)
        normalised = raw.selectExpr(*(_normalised(field) for field in schema))
        normalised.createOrReplaceTempView(view)
        types = {field.name: _type_name(field.dataType.simpleString()) for field in normalised.schema.fields}
        kinds = {field.name: kind for field in schema if (kind := _kind_of(field.type)) is not None}
        self._forget(source)
        while len(self._opened) >= _SOURCES_KEPT:
            self._forget(next(iter(self._opened)))
        self._opened[source] = _Opened(files, view, kinds, types)
        return self._opened[source]

    def _forget(self, source: SourceTable) -> None:
        if known := self._opened.pop(source, None):
            self.session.catalog.dropTempView(known.view)

    def _rows_of(self, view: ViewSpec, as_of: datetime, known_after: datetime | None = None) -> _Rows:
        """The view's rows known at ``as_of``."""
        columns = check_expression(view.expression, [source.name for source in view.sources])
        declared = (*view.join_keys, view.event_timestamp, view.known_at, *view.columns)
        missing = [name for name in declared if name not in columns]
        if missing:
            raise ViewError(f"{title(view)} declares {', '.join(missing)}; its expression yields {', '.join(columns)}")
        arrived_after = known_after - view.lookback if known_after and view.lookback is not None else None
        relations = {}
        for source in view.sources:
            opened = self._open(source)
            visible = f"(SELECT * FROM {opened.view} WHERE {_arrived(source, as_of, arrived_after)})"
            relations[source.name] = Relation(visible, opened.kinds)
        sql, kinds = spark_sql(view.expression, relations)
        types = {name: _stored_type(view, name, kinds[name]) for name in (*view.join_keys, *view.columns)}
        for each in view.aggregations:
            _check_aggregation(view, each, types)
        casts = [f"CAST({_name(name)} AS {_SQL_TYPES[type_]}) AS {_name(name)}" for name, type_ in types.items()]
        event, known = (_as_microseconds(view, name, kinds[name]) for name in (view.event_timestamp, view.known_at))
        present = " AND ".join(f"{_name(key)} IS NOT NULL" for key in (*view.join_keys, "__event", "__known"))
        selected = ", ".join([*casts, f"{event} AS __event", f"{known} AS __known"])
        return _Rows(
            f"SELECT * FROM (SELECT {selected} FROM ({sql})) WHERE {present} AND __known <= {epoch_us(as_of)}", types
        )

    # ------------------------------------------------------------------ point in time

    def _answers(self, asked: Frame, view: ViewSpec, as_of: datetime) -> pa.Table:
        """The view's features and ``__reason`` for each row of the frame, in its order."""
        with self._lock, _explained(view):
            rows = self._rows_of(view, as_of)
            types = feature_types(view, rows.types)
            questions = _questions(asked, view, rows.types)
            found = self._found(questions, view, rows, types)
        place = np.full(len(asked), -1, np.int64)
        place[found.column("__row").to_numpy()] = np.arange(found.num_rows)
        taken = found.drop_columns(["__row"]).take(pa.array(place, mask=place < 0))
        reason = pc.fill_null(taken.column("__reason"), NULL_KEY)
        return taken.set_column(taken.column_names.index("__reason"), "__reason", reason)

    def _found(self, questions: pa.Table, view: ViewSpec, rows: _Rows, types: Mapping[str, pa.DataType]) -> pa.Table:
        """``__row``, the features and ``__reason`` of each question, in no order."""
        answer_types = {"__row": pa.int64(), **types, "__reason": pa.string()}
        if not questions.num_rows:
            return pa.table({name: pa.array([], type_) for name, type_ in answer_types.items()})
        name = f"gatehouse_asked_{next(self._numbers)}"
        self.session.createDataFrame(questions).createOrReplaceTempView(name)
        # Only entities that are asked about: what is left out here is neither sorted nor sent between machines.
        wanted = f"SELECT r.* FROM ({rows.sql}) r LEFT SEMI JOIN {name} a ON {_same(view, 'r', 'a')}"
        rows = replace(rows, sql=wanted)
        try:
            if view.aggregations:
                sql = _windows_at(view, rows, name)
            elif self._asof_join:
                sql = _answered(view, rows, _steps_by_asof_join(view, name))
            else:
                sql = _answered(view, rows, _steps_by_union(view, name))
            return self._table(sql, answer_types)
        finally:
            self.session.catalog.dropTempView(name)


def _process_settings(master: str) -> dict[str, str]:
    """What is set before Spark starts: no pages, no Hive, no progress bars; on one machine few, small tasks."""
    settings = {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.catalogImplementation": "in-memory",
        "spark.log.level": "OFF",
    }
    if master.startswith("local"):
        settings |= {
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.sql.shuffle.partitions": "4",
        }
    return settings


@contextmanager
def _refused(refusal: Callable[[str], OfflineError]) -> Iterator[None]:
    """Turn what Spark raises into a refusal of ours, given the first line of it: the rest is Java's stack."""
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException

    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        raise refusal(str(error).partition("\n")[0][:500]) from error


def _explained(view: ViewSpec) -> AbstractContextManager[None]:
    """Say whose expression it was that Spark could not evaluate."""
    return _refused(lambda words: ViewError(f"{title(view)} cannot be evaluated on Spark: {words}"))


def _read(source: SourceTable) -> AbstractContextManager[None]:
    """Say which source it was that Spark could not read."""
    return _refused(lambda words: SourceError(f"data source {source.name} cannot be read by Spark: {words}"))


def _started() -> AbstractContextManager[None]:
    return _refused(lambda words: OfflineError(f"Spark cannot start (it needs Java 17): {words}"))


# ---------------------------------------------------------------------- plans


def _answered(view: ViewSpec, rows: _Rows, steps: str) -> str:
    """SQL for the answers of a view without aggregations, given how the best known row (``__best``) is found."""
    features = _listed(view.features, last_null=True)
    packed = ", ".join(f"'{name}', {_name(column)}" for name, column in _fields(view))
    fresh = "TRUE" if view.ttl is None else f"__time - __best.event <= {span_us(view.ttl)}"
    answers = ", ".join(
        f"CASE WHEN {fresh} THEN __best.{name} END AS {_name(column)}" for name, column in _fields(view)
    )
    return (
        f"WITH rows AS ({rows.sql}), once AS (SELECT {_listed(view.join_keys)}, "
        f"greatest(__event, __known) AS __at, named_struct('event', __event, 'known', __known, {packed}) AS __best "
        f"FROM rows QUALIFY row_number() OVER (PARTITION BY {_listed(view.join_keys)}, __event, __known "
        f"ORDER BY {features}) = 1), "
        f"{_entities(view)}, answered AS ({steps}) "
        f"SELECT __row, {answers}, CASE WHEN e.__first IS NULL THEN '{UNKNOWN_ENTITY}' "
        f"WHEN __best IS NULL THEN '{NOT_KNOWN_YET}' WHEN {fresh} THEN '{FOUND}' ELSE '{EXPIRED}' END AS __reason "
        f"FROM answered a LEFT JOIN entities e ON {_same(view, 'a', 'e')}"
    )


def _steps_by_asof_join(view: ViewSpec, asked: str) -> str:
    """The step of the staircase at each asked time, by Spark's own search."""
    keys = _listed(view.join_keys)
    return (
        f"SELECT a.*, s.__best FROM {asked} a LEFT OUTER ASOF JOIN (SELECT {keys}, __at, __best FROM once QUALIFY "
        f"__best = max(__best) OVER (PARTITION BY {keys} ORDER BY __at RANGE UNBOUNDED PRECEDING)) s "
        f"MATCH_CONDITION (a.__bound >= s.__at) ON {_same(view, 'a', 's')}"
    )


def _steps_by_union(view: ViewSpec, asked: str) -> str:
    """The same without ASOF JOIN: asked times among the rows, and a running maximum."""
    keys = _listed(view.join_keys)
    return (
        f"SELECT {keys}, __row, __time, __best FROM (SELECT {keys}, __row, __time, max(__best) OVER ("
        f"PARTITION BY {keys} ORDER BY __at, __row NULLS FIRST ROWS UNBOUNDED PRECEDING) AS __best "
        f"FROM (SELECT {keys}, __at, NULL AS __row, NULL AS __time, __best FROM once "
        f"UNION ALL SELECT {keys}, __bound, __row, __time, NULL FROM {asked})) WHERE __row IS NOT NULL"
    )


def _windows_at(view: ViewSpec, rows: _Rows, asked: str) -> str:
    """SQL for the answers of a view with aggregations."""
    keys, longest = _listed(view.join_keys), span_us(_longest(view))
    answers = ", ".join(f"h.{_name(each.name)}" for each in view.aggregations)
    inside = f"r.__event > q.__bound - {longest} AND r.__event <= q.__bound AND r.__known <= q.__bound"
    return (
        f"WITH rows AS ({_ranked(view, rows)}), {_entities(view)}, "
        f"hits AS (SELECT {_listed(view.join_keys, 'q')}, q.__bound, {_aggregates(view, rows, 'q.__bound')} "
        f"FROM (SELECT DISTINCT {keys}, __bound FROM {asked}) q "
        f"JOIN rows r ON {_same(view, 'q', 'r')} AND {inside} GROUP BY {_listed(view.join_keys, 'q')}, q.__bound) "
        f"SELECT a.__row, {answers}, CASE WHEN e.__first IS NULL THEN '{UNKNOWN_ENTITY}' "
        f"WHEN h.__bound IS NOT NULL THEN '{FOUND}' WHEN e.__first <= a.__bound THEN '{EXPIRED}' "
        f"ELSE '{NOT_KNOWN_YET}' END AS __reason "
        f"FROM {asked} a LEFT JOIN hits h ON {_same(view, 'a', 'h')} AND a.__bound = h.__bound "
        f"LEFT JOIN entities e ON {_same(view, 'a', 'e')}"
    )


def _entities(view: ViewSpec) -> str:
    """A named subquery: each key of the view, and when its first row was available."""
    keys = _listed(view.join_keys)
    return f"entities AS (SELECT {keys}, min(greatest(__event, __known)) AS __first FROM rows GROUP BY {keys})"


def _newest_values(view: ViewSpec, rows: _Rows, as_of: datetime, since: datetime | None) -> str:
    keys = _listed(view.join_keys)
    order = f"__event DESC, __known DESC, {_listed(view.features, last_null=True)}"
    # A row counts from the moment it has both happened and is known, as in the training join.
    after = f" AND greatest(__event, __known) > {epoch_us(since)}" if since else ""
    return (
        f"SELECT {keys}, {_time('__event')} AS event_timestamp, {_time('__known')} AS known_at, "
        f"{_listed(view.features)} FROM ({rows.sql}) WHERE __event <= {epoch_us(as_of)}{after} "
        f"QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY {order}) = 1"
    )


def _values_of_windows(view: ViewSpec, rows: _Rows, slot: datetime, previous: datetime | None) -> str:
    """One row per key with an event in the longest window; one of nulls for a key that had one at ``previous``."""
    keys, at, longest = _listed(view.join_keys), epoch_us(slot), span_us(_longest(view))
    moment = f"{_time(str(at))} AS event_timestamp, {_time(str(at))} AS known_at"
    inside = "__event > {0} - {1} AND __event <= {0} AND __known <= {0}"
    live = (
        f"SELECT {keys}, {moment}, {_aggregates(view, rows, str(at))} FROM rows r "
        f"WHERE {inside.format(at, longest)} GROUP BY {keys}"
    )
    ranked = f"WITH rows AS ({_ranked(view, rows)}), live AS ({live}) SELECT * FROM live"
    if previous is None:
        return ranked
    types = feature_types(view, rows.types)
    nothing = ", ".join(f"CAST(NULL AS {_SQL_TYPES[type_]}) AS {_name(name)}" for name, type_ in types.items())
    return (
        f"{ranked} UNION ALL SELECT {_listed(view.join_keys, 'p')}, {moment}, {nothing} FROM (SELECT DISTINCT {keys} "
        f"FROM rows WHERE {inside.format(epoch_us(previous), longest)}) p "
        f"LEFT ANTI JOIN live l ON {_same(view, 'p', 'l')}"
    )


# ---------------------------------------------------------------------- aggregations


def _ranked(view: ViewSpec, rows: _Rows) -> str:
    """The rows, with what is better worked out per row than per row and asked time.

    ``__order_<n>``: the order of the rows with a value, for columns of which the last one is wanted; ``__fixed_<n>``:
    the value in fixed point, for columns of fractional numbers that are summed.
    """
    used = {each.function: set[str]() for each in view.aggregations}
    for each in view.aggregations:
        used[each.function] |= {each.column} if each.column else set()
    keys, more = _listed(view.join_keys), []
    for column in view.columns:
        if column in used.get("last", ()):
            order = f"PARTITION BY {keys} ORDER BY __event, __known, {_name(column)} DESC"
            more.append(f"row_number() OVER ({order}) AS {_order(view, column)}")
        if column in used.get("sum", set()) | used.get("mean", set()) and pa.types.is_floating(rows.types[column]):
            more.append(f"{_fixed_point(_name(column))} AS {_fixed(view, column)}")
    return f"SELECT {', '.join(['*', *more])} FROM ({rows.sql})"


def _order(view: ViewSpec, column: str) -> str:
    return f"__order_{view.columns.index(column)}"


def _fixed(view: ViewSpec, column: str) -> str:
    return f"__fixed_{view.columns.index(column)}"


def _aggregates(view: ViewSpec, rows: _Rows, bound: str) -> str:
    return ", ".join(f"{_aggregate(view, each, rows, bound)} AS {_name(each.name)}" for each in view.aggregations)


def _aggregate(view: ViewSpec, each: Aggregation, rows: _Rows, bound: str) -> str:
    """SQL of one aggregation over ``r``, the rows of the longest window."""
    inside = f"r.__event > {bound} - {span_us(each.over)}"
    if each.column is None:
        return f"count_if({inside})"
    column, type_ = f"r.{_name(each.column)}", rows.types[each.column]
    value = f"CASE WHEN {inside} THEN {column} END"
    fixed = f"CASE WHEN {inside} THEN r.{_fixed(view, each.column)} END"
    match each.function:
        case "count":
            return f"count({value})"
        case "distinct":
            return f"count(DISTINCT {value})"
        case "sum" if pa.types.is_integer(type_):
            return f"CAST(coalesce({_whole_sum(value)}, 0) AS BIGINT)"
        case "sum":
            return f"coalesce(CAST(sum({fixed}) AS DOUBLE), 0D)"
        case "mean" if pa.types.is_integer(type_):
            return f"CAST({_whole_sum(value)} AS DOUBLE) / nullif(CAST(count({value}) AS DOUBLE), 0D)"
        case "mean":
            return f"CAST(sum({fixed}) AS DOUBLE) / nullif(CAST(count({fixed}) AS DOUBLE), 0D)"
        case "share":
            return f"CAST(count_if({inside} AND {column}) AS DOUBLE) / nullif(CAST(count({value}) AS DOUBLE), 0D)"
        case "last":
            order = f"CASE WHEN {inside} AND {column} IS NOT NULL THEN r.{_order(view, each.column)} END"
            return f"max_by({column}, {order})"
        case _:
            return f"{each.function}({value})"


def _whole_sum(value: str) -> str:
    return f"sum(CAST({value} AS DECIMAL(19, 0)))"


def _fixed_point(column: str) -> str:
    """A double in fixed point as in ``engines.duckdb.fixed_point``: the whole part, and the rest in billionths."""
    whole = f"CAST({column} AS BIGINT)"
    rest = f"CAST(round(({column} - CAST({whole} AS DOUBLE)) * 1000000000D) AS DECIMAL(10, 0))"
    fixed = f"CAST({whole} AS DECIMAL(19, 0)) + {rest} * CAST(0.000000001BD AS DECIMAL(9, 9))"
    # NaN is larger than every number in Spark, so it does not pass the limit either
    return f"CASE WHEN abs({column}) < {_SUM_LIMIT} THEN {fixed} END"


def _check_aggregation(view: ViewSpec, each: Aggregation, types: Mapping[str, pa.DataType]) -> None:
    try:
        each.result_type(types[each.column] if each.column else None)
    except ValueError as error:
        raise ViewError(f"{title(view)}: {error}") from error


def _longest(view: ViewSpec) -> timedelta:
    return max(each.over for each in view.aggregations)


# ---------------------------------------------------------------------- frames


def _questions(asked: Frame, view: ViewSpec, types: Mapping[str, pa.DataType]) -> pa.Table:
    """Keys (in the view's types), ``__row``, ``__time``, ``__bound``: the rows of the frame that can have an answer."""
    keys = {key: _key_column(asked.table.column(key), view, key, types[key]) for key in view.join_keys}
    answerable = asked.has_time
    for column in keys.values():
        answerable = answerable & column.is_valid().to_numpy()
    numbers = {"__row": np.arange(len(asked)), "__time": asked.time, "__bound": asked.bounds(view)}
    columns = keys | {name: pa.chunked_array([pa.array(column)]) for name, column in numbers.items()}
    return pa.table(columns).filter(pa.array(answerable))


def _key_column(column: pa.ChunkedArray, view: ViewSpec, key: str, type_: pa.DataType) -> pa.ChunkedArray:
    naive = pa.timestamp("us") if type_ == _TIME else type_
    try:
        return column.cast(naive, safe=naive != pa.timestamp("us"))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise FrameError(f"{title(view)} has the join key {key} as {type_}, the frame as {column.type}") from error


# ---------------------------------------------------------------------- files and types


def _schema_of(source: SourceTable, filesystem: pafs.FileSystem, files: tuple[File, ...]) -> pa.Schema:
    try:
        schema = ds.dataset([path for path, _, _ in files], filesystem=filesystem, format="parquet").schema
    except (OSError, pa.ArrowInvalid) as error:
        raise SourceError(f"data source {source.name} cannot be read: {error}") from error
    for name in (source.event_timestamp, source.arrival):
        if name not in schema.names:
            raise SourceError(f"data source {source.name} has no column {name}; it has {', '.join(schema.names)}")
        if not pa.types.is_timestamp(schema.field(name).type):
            raise SourceError(f"data source {source.name}: {name} must be a timestamp, not {schema.field(name).type}")
    return schema


def _path(source: SourceTable, filesystem: pafs.FileSystem, path: str) -> str:
    """A file as Hadoop names it. Stores other than the local disk need their connector in Spark's class path."""
    if isinstance(filesystem, pafs.LocalFileSystem):
        return f"file://{os.path.abspath(path)}"
    scheme = source.uri.partition("://")[0]
    return f"{'s3a' if scheme == 's3' else scheme}://{path}"


def _normalised(field: pa.Field) -> str:
    """SQL that reads a column, times as ``TIMESTAMP_NTZ`` in UTC."""
    name = _name(field.name)
    if not pa.types.is_timestamp(field.type):
        return name
    if field.type.unit == "ns":  # read as BIGINT; what is finer than microseconds is cut
        return f"CAST(timestamp_micros({name} DIV 1000) AS TIMESTAMP_NTZ) AS {name}"
    return f"CAST({name} AS TIMESTAMP_NTZ) AS {name}"


def _kind_of(type_: pa.DataType) -> Kind | None:
    """What a column is to an expression; None if expressions can not use it."""
    if pa.types.is_dictionary(type_):
        type_ = type_.value_type
    known = (
        (pa.types.is_boolean, Kind.BOOLEAN),
        (pa.types.is_uint64, Kind.HUGE),
        (pa.types.is_integer, Kind.INTEGER),
        (pa.types.is_float32, Kind.FLOAT),
        (pa.types.is_float64, Kind.DOUBLE),
        (pa.types.is_decimal, Kind.DECIMAL),
        (pa.types.is_string, Kind.TEXT),
        (pa.types.is_large_string, Kind.TEXT),
        (pa.types.is_timestamp, Kind.TIME),
        (pa.types.is_date32, Kind.DATE),
    )
    return next((kind for is_it, kind in known if is_it(type_)), None)


def _stored_type(view: ViewSpec, name: str, kind: Kind) -> pa.DataType:
    if kind not in _STORED_KINDS:
        accepted = "numbers, text, booleans and timestamps"
        raise ViewError(f"{title(view)}: column {name} has the type {kind.value}; accepted are {accepted}")
    return _STORED_KINDS[kind]


def _as_microseconds(view: ViewSpec, name: str, kind: Kind) -> str:
    if kind not in (Kind.TIME, Kind.DATE):
        raise ViewError(f"{title(view)}: {name} must be a timestamp, not {kind.value}")
    return f"unix_micros(CAST({_name(name)} AS TIMESTAMP))"


def _type_name(spark: str) -> str:
    return _TYPE_NAMES.get(spark.upper(), spark.upper())


def _with_utc(table: pa.Table) -> pa.Table:
    """The table with its timestamps in UTC."""
    fields = [field.with_type(_TIME) if pa.types.is_timestamp(field.type) else field for field in table.schema]
    return table.cast(pa.schema(fields))


def _as_utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment else None


# ---------------------------------------------------------------------- SQL pieces


def _name(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _listed(names: Iterable[str], table: str | None = None, *, last_null: bool = False) -> str:
    prefix, suffix = (f"{table}." if table else ""), (" NULLS LAST" if last_null else "")
    return ", ".join(f"{prefix}{_name(name)}{suffix}" for name in names)


def _same(view: ViewSpec, one: str, other: str) -> str:
    """SQL condition: the same entity."""
    return " AND ".join(f"{one}.{_name(key)} = {other}.{_name(key)}" for key in view.join_keys)


def _fields(view: ViewSpec) -> list[tuple[str, str]]:
    """The features under names that need no quoting inside a struct."""
    return [(f"f{number}", name) for number, name in enumerate(view.features)]


def _moment(moment: datetime) -> str:
    return _time(str(epoch_us(moment)))


def _time(microseconds: str) -> str:
    return f"CAST(timestamp_micros({microseconds}) AS TIMESTAMP_NTZ)"


def _arrived(source: SourceTable, as_of: datetime, after: datetime | None = None) -> str:
    """SQL condition: the row had arrived at ``as_of`` (and not yet at ``after``)."""
    column = _name(source.arrival)
    until = f"{column} <= {_moment(as_of)}"
    return until if after is None else f"{until} AND {column} > {_moment(after)}"
