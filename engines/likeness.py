"""The form of what computes a feature, without names and layout: equal forms compute equal values.

Two teams that write the same feature choose other names for it, other aliases for the tables, another order of operands
and another layout. None of that is in the form: output names are left out, tables are where their data lies, WITH and
subqueries are the same, operands of commutative operators are sorted, ``a > b`` is ``b < a``. What is in it: the
expression of the feature, of the join keys and times, and all that decides which rows there are.

Unequal forms may still compute equal values (``x * 2`` and ``x + x``); comparing values finds those.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from sqlglot import exp

from engines.expressions import ExpressionError, parsed

LONGEST_PART = 200

_COMMUTATIVE = (exp.Add, exp.Mul, exp.And, exp.Or)
_SYMMETRIC = (exp.EQ, exp.NEQ, exp.NullSafeEQ, exp.NullSafeNEQ)
_MIRRORED: Mapping[type[exp.Expr], str] = {exp.GT: "LT", exp.GTE: "LTE"}


def form_of(sql: str, columns: Sequence[str], places: Mapping[str, str]) -> str:
    """SHA-256 over the form of these output columns of an expression, in this order.

    ``places`` say for each source (its name in lower case) where it lies and how it tells time. Raises ExpressionError.
    """
    select = parsed(sql)
    projections = {each.alias_or_name.lower(): each for each in select.expressions}
    missing = [name for name in columns if name.lower() not in projections]
    if missing:
        raise ExpressionError(f"no output column {', '.join(missing)}")
    former = _Former(select, places)
    chosen = [former.form(projections[name.lower()].unalias()) for name in columns]
    return _hashed("\n".join([*chosen, former.rows(select)]))


class _Former:
    def __init__(self, select: exp.Select, places: Mapping[str, str]) -> None:
        self._places = places
        self._shared: dict[str, str] = {}
        inner = [each for each in select.find_all(exp.Alias) if each.parent is not select]
        self._columns = {name: f"a{at}" for at, name in enumerate(dict.fromkeys(each.alias.lower() for each in inner))}
        tables = [each.alias_or_name.lower() for each in select.find_all(exp.Table, exp.Subquery)]
        self._tables = {name: f"t{at}" for at, name in enumerate(dict.fromkeys(filter(None, tables)))}
        for shared in select.find_all(exp.CTE):
            self._shared[shared.alias.lower()] = _short(self.form(shared.this))

    def rows(self, select: exp.Select) -> str:
        """The form of a SELECT without what it gives out: FROM, WHERE, GROUP BY and the like."""
        return self._call(select, without=("expressions", "with", "with_"))

    def form(self, node: Any) -> str:
        if not isinstance(node, exp.Expr):
            return repr(node)
        if isinstance(node, exp.Paren):
            return self.form(node.this)
        if isinstance(node, exp.Subquery):
            return _short(self.form(node.this))
        if isinstance(node, exp.Alias):
            return f"{self.form(node.this)} as {self._columns.get(node.alias.lower(), '')}"
        if isinstance(node, exp.Column):
            return self._column(node)
        if isinstance(node, exp.Table):
            return self._table(node)
        if isinstance(node, exp.Literal):
            return f"'{node.this}'" if node.is_string else _number(node.this)
        if isinstance(node, exp.DataType):
            return node.sql(dialect="duckdb")
        if isinstance(node, _COMMUTATIVE):
            operands = sorted(self.form(each) for each in node.flatten())
            return f"{type(node).__name__}({', '.join(operands)})"
        if isinstance(node, _SYMMETRIC):
            sides = sorted(self.form(each) for each in (node.this, node.expression))
            return f"{type(node).__name__}({', '.join(sides)})"
        if type(node) in _MIRRORED:
            return f"{_MIRRORED[type(node)]}(expression={self.form(node.this)}, this={self.form(node.expression)})"
        if isinstance(node, exp.Select) and _is_everything(node):
            return self.form(node.args["from_"].this)
        return self._call(node, without=("with", "with_"))

    def _call(self, node: exp.Expr, *, without: Sequence[str]) -> str:
        parts = [
            f"{name}={self._argument(value)}"
            for name, value in sorted(node.args.items())
            if name not in without and value not in (None, False, [])
        ]
        return f"{type(node).__name__}({', '.join(parts)})"

    def _argument(self, value: Any) -> str:
        return f"[{', '.join(map(self.form, value))}]" if isinstance(value, list) else self.form(value)

    def _column(self, column: exp.Column) -> str:
        name = self._columns.get(column.name.lower(), column.name.lower())
        scope = column.find_ancestor(exp.Select)
        joined = scope is not None and bool(scope.args.get("joins"))
        table = self._tables.get(column.table.lower(), "") if joined and column.table else ""
        return f"{table}.{name}" if table else name

    def _table(self, table: exp.Table) -> str:
        if not isinstance(table.this, exp.Identifier):
            return self._call(table, without=("alias",))
        name = table.name.lower()
        where = self._shared.get(name) or self._places.get(name, name)
        joined = isinstance(table.parent, exp.Join) or bool(table.find_ancestor(exp.Select).args.get("joins"))  # type: ignore[union-attr]  # a table stands in a SELECT
        return f"{where} as {self._tables.get(table.alias_or_name.lower(), '')}" if joined else where


def _is_everything(select: exp.Select) -> bool:
    """``SELECT * FROM one`` and nothing else."""
    given = {name for name, value in select.args.items() if value not in (None, False, [])}
    return (
        given == {"expressions", "from_"} and len(select.expressions) == 1 and type(select.expressions[0]) is exp.Star
    )


def _number(text: str) -> str:
    try:
        return repr(float(text))
    except ValueError:
        return text


def _short(form: str) -> str:
    """A part that may stand in many places, so that forms do not grow with the square of their WITHs."""
    return form if len(form) <= LONGEST_PART else _hashed(form)


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
