"""Ibis expressions as the one SELECT that the portal checks and runs. Needs ``gatehouse-sdk[ibis]``.

Ibis is compiled here, in the DuckDB dialect, so that the portal sees text and needs no Ibis. What its checks refuse
(clocks, random numbers, functions that differ between engines) is refused of an Ibis expression alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gatehouse.definitions import DefinitionError

_MISSING = "Ibis expressions need Ibis: pip install 'gatehouse-sdk[ibis]'."


def table(name: str, schema: Mapping[str, str]) -> Any:
    """``ibis.table(schema, name=name)``."""
    try:
        import ibis
    except ImportError as missing:
        raise DefinitionError(_MISSING) from missing
    return ibis.table(dict(schema), name=name)


def compiled(expression: Any) -> str:
    """One SELECT in the DuckDB dialect that names each of its columns. Raises DefinitionError."""
    try:
        import ibis
        import sqlglot.expressions as sg
        from ibis.backends.sql.compilers import DuckDBCompiler
    except ImportError as missing:
        raise DefinitionError(_MISSING) from missing
    if not isinstance(expression, ibis.expr.types.Table):
        raise DefinitionError(f"An expression is a text or an Ibis table, not {type(expression).__name__}.")
    try:
        select = DuckDBCompiler().to_sqlglot(expression.unbind())
    except ibis.common.exceptions.IbisError as problem:
        raise DefinitionError(f"Ibis can not compile the expression: {problem}") from problem
    columns = [sg.column(name, quoted=True) for name in expression.columns]
    if not isinstance(select, sg.Select):  # a bare table, a union
        select = sg.Select(expressions=columns).from_(select.subquery("t") if isinstance(select, sg.Query) else select)
    elif any(isinstance(each, sg.Star) or each.is_star for each in select.expressions):
        select.set("expressions", columns)
    for window in select.find_all(sg.WindowSpec):
        _mend_bounds(window, sg)
    return str(select.sql(dialect="duckdb", pretty=True))


def _mend_bounds(window: Any, sg: Any) -> None:
    """``following=0`` of a window over time comes out as TO_DAYS(0), which means the current row."""
    for side in ("start", "end"):
        bound = window.args.get(side)
        if hasattr(bound, "find_all") and _is_no_time(bound, sg):
            window.set(side, "CURRENT ROW")
            window.set(f"{side}_side", None)


def _is_no_time(bound: Any, sg: Any) -> bool:
    converts = bound.sql(dialect="duckdb").upper().startswith(("TO_", "INTERVAL"))
    literals = list(bound.find_all(sg.Literal))
    return converts and len(literals) == 1 and str(literals[0].this) == "0"
