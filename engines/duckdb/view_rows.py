"""SQL for the rows of a view: its expression over what of its sources had arrived, in the engine's names and types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import duckdb
import pyarrow as pa
import sqlglot
from sqlglot import exp

from engines.dialects import duckdb_sql
from engines.duckdb.sources import Bounds, OpenSource
from engines.duckdb.sql import quoted
from engines.expressions import check_expression, normalised
from engines.offline import ViewError, ViewSpec

TIME = pa.timestamp("us", "UTC")
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
    "TIMESTAMP": TIME,
    "BIGINT": pa.int64(),
    "DOUBLE": pa.float64(),
}
# What makes an output row depend on more than one input row.
_BEYOND_ONE_ROW: tuple[type[exp.Expr], ...] = (
    *(exp.AggFunc, exp.Window, exp.Join, exp.Group, exp.Having, exp.Qualify, exp.Distinct, exp.With),
    *(exp.Subquery, exp.UDTF, exp.Explode, exp.GenerateSeries, exp.Order, exp.Limit),
)
# Aggregates that the parser does not know as such.
_AGGREGATES = frozenset({"arg_max_null", "arg_min_null"})


@dataclass(frozen=True, eq=False)
class ViewRows:
    """A view over opened sources.

    ``plain`` maps output columns that are a source column as it is to that column, if the expression works row by row
    on one source; else it is None. ``types`` are those of the join keys and of the view's columns.
    """

    view: ViewSpec
    sources: tuple[OpenSource, ...]
    select: str
    types: dict[str, pa.DataType]
    plain: Mapping[str, str] | None

    @property
    def relations(self) -> tuple[str, ...]:
        """The tables read, which change when a source's files do."""
        return tuple(each.relation for each in self.sources)

    def attach(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Make the sources visible to a cursor."""
        for each in self.sources:
            each.attach(cursor)

    def sql(self, until: str, after: str | None = None, bounds: Bounds | None = None, also: str = "TRUE") -> str:
        """The rows known at ``until``: join keys, ``__event``, ``__known`` (microseconds), the view's columns.

        ``until`` and ``after`` (arrival of source rows) are SQL timestamps; ``also`` is a condition on the result.
        Rows outside the bounds are left out, in the sources already where the expression allows that.
        """
        visible = ", ".join(
            f"{quoted(each.source.name)} AS ({each.visible(until, after, self._early(each, bounds))})"
            for each in self.sources
        )
        with_sources = f"WITH {visible} " if visible else ""
        present = [f"{quoted(name)} IS NOT NULL" for name in (*self.view.join_keys, "__event", "__known")]
        conditions = " AND ".join([*present, f"__known <= epoch_us({until})", *_exact(bounds), also])
        return (
            f"SELECT * FROM ({with_sources}SELECT {self.select} FROM ({duckdb_sql(self.view.expression)})) "
            f"WHERE {conditions}"
        )

    def _early(self, source: OpenSource, bounds: Bounds | None) -> list[str]:
        if bounds is None or self.plain is None:
            return []
        event, known = self.plain.get(self.view.event_timestamp), self.plain.get(self.view.known_at)
        conditions = source.within(event, bounds.event_from, bounds.event_until) if event else []
        return conditions + (source.within(known, None, bounds.known_until) if known else [])


def view_rows(cursor: duckdb.DuckDBPyConnection, view: ViewSpec, sources: Sequence[OpenSource]) -> ViewRows:
    """Check the view's expression and work out how to read it. Raises ViewError, ExpressionError, duckdb.Error."""
    columns = check_expression(view.expression, [each.source.name for each in sources])
    declared = (*view.join_keys, view.event_timestamp, view.known_at, *view.columns)
    missing = [name for name in declared if name not in columns]
    if missing:
        raise ViewError(f"{title(view)} declares {', '.join(missing)}; its expression yields {', '.join(columns)}")
    for each in sources:
        each.attach(cursor)
    visible = ", ".join(f"{quoted(each.source.name)} AS ({each.visible('make_timestamp(0)')})" for each in sources)
    with_sources = f"WITH {visible} " if visible else ""
    described = cursor.execute(f"DESCRIBE {with_sources}SELECT * FROM ({duckdb_sql(view.expression)})").fetchall()
    found = {name: type_ for name, type_, *_ in described}
    stored = {name: _stored_type(view, name, found[name]) for name in (*view.join_keys, *view.columns)}
    casts = [f"CAST({quoted(name)} AS {type_}) AS {quoted(name)}" for name, type_ in stored.items()]
    event, known_at = (f"CAST({quoted(name)} AS TIMESTAMP)" for name in (view.event_timestamp, view.known_at))
    select = ", ".join([*casts, f"epoch_us({event}) AS __event", f"epoch_us({known_at}) AS __known"])
    types = {name: _ARROW_TYPES[type_] for name, type_ in stored.items()}
    for aggregation in view.aggregations:
        try:
            aggregation.result_type(types[aggregation.column] if aggregation.column else None)
        except ValueError as error:
            raise ViewError(f"{title(view)}: {error}") from error
    return ViewRows(view, tuple(sources), select, types, plain_columns(view.expression))


def feature_types(view: ViewSpec, types: Mapping[str, pa.DataType]) -> dict[str, pa.DataType]:
    """The types of a view's features, given those of its columns."""
    if not view.aggregations:
        return {name: types[name] for name in view.features}
    return {each.name: each.result_type(types[each.column] if each.column else None) for each in view.aggregations}


@lru_cache(maxsize=1024)
def plain_columns(expression: str) -> Mapping[str, str] | None:
    """The output columns that are an input column as it is, if each output row comes from one row of one source."""
    select = sqlglot.parse_one(normalised(expression), dialect="duckdb")
    source = select.args.get("from_") or select.args.get("from")
    if source is None or not isinstance(source.this, exp.Table) or not isinstance(source.this.this, exp.Identifier):
        return None
    if any(isinstance(node, _BEYOND_ONE_ROW) or node.name.lower() in _AGGREGATES for node in select.walk()):
        return None
    pairs = ((each.alias_or_name, each.unalias()) for each in select.expressions)
    return {name: column.name for name, column in pairs if isinstance(column, exp.Column)}


def with_utc(table: pa.Table) -> pa.Table:
    """The table with its (naive UTC) timestamps marked as UTC."""
    fields = [field.with_type(TIME) if pa.types.is_timestamp(field.type) else field for field in table.schema]
    return table.cast(pa.schema(fields))


def title(view: ViewSpec) -> str:
    """How messages name a view."""
    return f"feature view {view.name} version {view.version}"


def _exact(bounds: Bounds | None) -> list[str]:
    if bounds is None:
        return []
    limits = (
        ("__event >= ", bounds.event_from),
        ("__event <= ", bounds.event_until),
        ("__known <= ", bounds.known_until),
    )
    return [f"{condition}{value}" for condition, value in limits if value is not None]


def _stored_type(view: ViewSpec, name: str, type_: str) -> str:
    stored = _STORED_TYPES.get(type_.partition("(")[0])
    if stored is None:
        accepted = "numbers, text, booleans and timestamps"
        raise ViewError(f"{title(view)}: column {name} has the type {type_}; accepted are {accepted}")
    return stored
