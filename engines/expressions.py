"""Which SQL a feature view may be written in: one SELECT over its declared sources, made of listed operations only.

The expression of a view is text a person types into a portal, and it runs inside our process. So it is parsed (sqlglot,
DuckDB dialect) and every node of the tree must be on a list; what is not known is refused. The list also keeps out what
would make a feature wrong rather than dangerous: clocks and random numbers, whose value depends on when it is computed;
``LIMIT`` and ``first``, which depend on storage order; functions that differ between engines without telling
(``date_diff`` counts calendar boundaries on one and whole days on another; ``arg_max`` skips nulls).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import lru_cache

import sqlglot
from sqlglot import exp
from sqlglot.errors import ParseError, TokenError

_STRUCTURE = """
    Select From Where Group Having Qualify Order Ordered Join Union With CTE Subquery Table TableAlias Alias Column
    Identifier Star Literal Boolean Null Paren Tuple Distinct Window WindowSpec Filter Interval Var DataType
    DataTypeParam
"""
_OPERATORS = """
    Add Sub Mul Div IntDiv Mod Neg EQ NEQ GT GTE LT LTE NullSafeEQ NullSafeNEQ And Or Not Xor Is In Between Like Cast
    TryCast Case If DPipe
"""
# sqlglot's class for a function -> the name a person writes
_FUNCTIONS = {
    "Count": "count",
    "CountIf": "count_if",
    "Sum": "sum",
    "Avg": "avg",
    "Min": "min",
    "Max": "max",
    "Stddev": "stddev",
    "StddevPop": "stddev_pop",
    "StddevSamp": "stddev_samp",
    "Variance": "variance",
    "VariancePop": "var_pop",
    "Median": "median",
    "Coalesce": "coalesce",
    "Nullif": "nullif",
    "Greatest": "greatest",
    "Least": "least",
    "Abs": "abs",
    "Sign": "sign",
    "Round": "round",
    "Floor": "floor",
    "Ceil": "ceil",
    "Exp": "exp",
    "Sqrt": "sqrt",
    "Pow": "pow",
    "Ln": "ln",
    "Lower": "lower",
    "Upper": "upper",
    "Trim": "trim",
    "Length": "length",
    "Substring": "substring",
    "Concat": "concat",
    "TimestampTrunc": "date_trunc",
    "DateTrunc": "date_trunc",
    "Extract": "extract",
    "UnixToTime": "make_timestamp",
    "TimeToUnix": "epoch",
    "GenerateSeries": "generate_series",
    "Unnest": "unnest",
    "Explode": "unnest",
    "RowNumber": "row_number",
    "Rank": "rank",
    "DenseRank": "dense_rank",
    "Lag": "lag",
    "Lead": "lead",
}
_PLAIN_FUNCTIONS = frozenset({"epoch_us", "epoch_ms", "arg_max_null", "arg_min_null"})
_NODES = frozenset(_STRUCTURE.split()) | frozenset(_OPERATORS.split()) | frozenset(_FUNCTIONS)
_BETTER = {
    "argmax": "arg_max skips nulls, so an old value would survive a null correction; write arg_max_null",
    "argmin": "arg_min skips nulls; write arg_min_null",
    "datediff": "day and month differences mean different things on different engines; subtract epoch_us(...)",
    "currenttimestamp": "a feature may not depend on when it is computed; use the times in the source",
    "currentdate": "a feature may not depend on when it is computed; use the times in the source",
    "now": "a feature may not depend on when it is computed; use the times in the source",
    "limit": "which rows a LIMIT keeps depends on storage order; rank with row_number() and QUALIFY",
}


class ExpressionError(ValueError):
    """The expression of a feature view is refused. Says which piece, and what would be accepted."""


def check_expression(sql: str, sources: Collection[str]) -> tuple[str, ...]:
    """The output column names of ``sql``, in order, if it is one SELECT that reads only ``sources``.

    Raises ``ExpressionError`` with the offending piece. Nothing is executed.
    """
    return _checked(sql, frozenset(name.lower() for name in sources))


@lru_cache(maxsize=1024)
def normalised(sql: str) -> str:
    """``sql`` without comments and layout, so that equal expressions hash equally.

    Engines run this text rather than the one that was typed: what was checked is what runs, even where our parser and
    the database would read the same characters differently. Names keep their case, which decides the output columns.
    """
    return parsed(sql).sql(dialect="duckdb", comments=False)


def laid_out(sql: str) -> str:
    """``normalised`` over several lines, so that two expressions can be compared line by line."""
    return parsed(sql).sql(dialect="duckdb", comments=False, pretty=True)


@lru_cache(maxsize=1024)
def _checked(sql: str, sources: frozenset[str]) -> tuple[str, ...]:
    select = parsed(sql)
    shared_tables = _shared_tables(select, sources)
    for node in select.walk():
        _check_node(node)
        if isinstance(node, exp.Table):
            _check_table(node, sources | shared_tables, sources)
        elif isinstance(node, exp.Join) and node.args.get("method"):
            raise ExpressionError(f"{_shown(node)}: {node.args['method']} joins are not accepted; use JOIN … ON")
        elif isinstance(node, exp.With) and (node.recursive or node.parent is not select):
            raise ExpressionError("WITH is accepted once, at the top, and not RECURSIVE")
    return _output_columns(select)


def parsed(sql: str) -> exp.Select:
    """``sql`` as a tree, if it is one SELECT. Raises ``ExpressionError``. What it is made of is not looked at."""
    try:
        statements = [statement for statement in sqlglot.parse(sql, dialect="duckdb") if statement is not None]
    except (ParseError, TokenError) as error:
        raise ExpressionError(f"the expression cannot be read as SQL: {error}") from error
    if len(statements) != 1:
        raise ExpressionError(f"an expression is exactly one SELECT, this text has {len(statements)} statements")
    statement = statements[0]
    if not isinstance(statement, exp.Select):
        raise ExpressionError(f"an expression is one SELECT (WITH is accepted), not {statement.key.upper()}")
    return statement


def _shared_tables(select: exp.Select, sources: frozenset[str]) -> frozenset[str]:
    """Names defined by WITH. One that hides a source would hide the arrival rule too, so it is refused."""
    names = frozenset(cte.alias.lower() for cte in select.find_all(exp.CTE))
    for name in sorted(names & sources):
        raise ExpressionError(f"WITH {name}: this name belongs to a data source; choose another")
    return names


def _check_node(node: exp.Expr) -> None:
    if isinstance(node, exp.Anonymous):
        name = str(node.this).lower()
        if name not in _PLAIN_FUNCTIONS:
            raise ExpressionError(f"{name}(): {_BETTER.get(name, 'this function is not accepted')}. {_accepted()}")
    elif type(node).__name__ not in _NODES:
        why = _BETTER.get(node.key, "this is not accepted in a feature view")
        raise ExpressionError(f"{_shown(node)}: {why}. {_accepted()}")


def _check_table(table: exp.Table, readable: frozenset[str], sources: frozenset[str]) -> None:
    if isinstance(table.this, exp.GenerateSeries):
        return
    if not isinstance(table.this, exp.Identifier) or table.db or table.catalog or table.name.lower() not in readable:
        raise ExpressionError(
            f"{_shown(table)}: only the declared data sources can be read here ({', '.join(sorted(sources)) or 'none'})"
        )


def _output_columns(select: exp.Select) -> tuple[str, ...]:
    columns = tuple(_output_names(select))
    repeated = sorted({name for name in columns if columns.count(name) > 1})
    if repeated:
        raise ExpressionError(f"output columns must differ, these are repeated: {', '.join(repeated)}")
    return columns


def _output_names(select: exp.Select) -> Iterator[str]:
    for projection in select.expressions:
        if isinstance(projection, exp.Star) or projection.is_star or not projection.alias_or_name:
            raise ExpressionError(f"{_shown(projection)}: name each output column (… AS name); * is not accepted here")
        yield projection.alias_or_name


def _shown(node: exp.Expr) -> str:
    text = node.sql(dialect="duckdb", comments=False)
    return text if len(text) <= 80 else text[:77] + "…"


def _accepted() -> str:
    names = sorted(set(_FUNCTIONS.values()) | _PLAIN_FUNCTIONS)
    return f"Accepted are SELECT, joins, GROUP BY, windows, CASE, CAST, arithmetic and: {', '.join(names)}"
