"""The expression of a feature view, written in DuckDB's dialect, as the text that each engine runs.

``spark_sql`` compiles a checked expression (``engines.expressions``) to Spark SQL. It knows the kind of every value,
from the sources' columns, because most differences between engines depend on it (a double cast to a whole number is
rounded by one and cut by the other). Each operation is given DuckDB's meaning or refused by name, with the reason.
``duckdb_sql`` gives DuckDB's text, where the one function without a defined answer, ``arg_max_null`` on ties, gets one.

What no translation can mend is an expression whose answer depends on the order of storage: ``row_number()`` over an
ORDER BY with ties, a ROWS frame over one. ``engines.conformance`` is there to find those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache

import sqlglot
from sqlglot import exp

from engines import spark_functions as spark
from engines.expressions import check_expression, normalised
from engines.spark_functions import Call, DialectError, Kind, Typed, refused

__all__ = ["DialectError", "Kind", "Relation", "duckdb_sql", "spark_sql"]

Columns = dict[str, Kind]


@dataclass(frozen=True)
class Relation:
    """A data source as Spark SQL (a table's name or a SELECT), with the kinds of those columns that can be used."""

    sql: str
    columns: Mapping[str, Kind]


def spark_sql(expression: str, sources: Mapping[str, Relation]) -> tuple[str, Columns]:
    """``expression`` in Spark SQL, and the kinds of its columns.

    Needs the settings of ``engines.spark_engine``: time zone UTC, ANSI on, no variable substitution, decimals without
    loss. Raises ``DialectError``, or ``ExpressionError`` where the expression is not accepted anywhere.
    """
    check_expression(expression, list(sources))
    select = sqlglot.parse_one(normalised(expression), dialect="duckdb")
    tables = {name.lower(): relation for name, relation in sources.items()}
    return _Statement(tables).query(select, None)


@lru_cache(maxsize=1024)
def duckdb_sql(expression: str) -> str:
    """``expression`` as DuckDB runs it: ties of ``arg_max_null`` and ``arg_min_null`` are decided by the value.

    The same text as ``expressions.normalised`` when it uses neither.
    """
    select = sqlglot.parse_one(normalised(expression), dialect="duckdb")
    for call in list(select.find_all(exp.Anonymous)):
        if call.name.lower() in ("arg_max_null", "arg_min_null") and len(call.expressions) == 2:
            value, by = (each.sql(dialect="duckdb") for each in call.expressions)
            known = "IS NOT NULL" if call.name.lower() == "arg_max_null" else "IS NULL"
            order = f"CASE WHEN ({by}) IS NOT NULL THEN {{'a': {by}, 'b': ({value}) {known}, 'c': {value}}} END"
            call.set("expressions", [call.expressions[0], sqlglot.parse_one(order, dialect="duckdb")])
    return select.sql(dialect="duckdb", comments=False)


@dataclass(frozen=True)
class _Scope:
    """What a name can mean at one place of the expression."""

    tables: Mapping[str, Columns]
    shared: frozenset[str] = frozenset()  # columns of JOIN … USING: one column, of no table in particular
    aliases: Mapping[str, exp.Expr] = field(default_factory=dict)
    outer: _Scope | None = None

    def within(self, **aliases: exp.Expr) -> _Scope:
        return replace(self, aliases=aliases)


class _Statement:
    """Compiles one statement. ``tables`` are the sources and, as they are read, the names that WITH defines."""

    def __init__(self, tables: dict[str, Relation]) -> None:
        self._tables = tables
        self._unnamed = 0

    # ------------------------------------------------------------------ queries

    def query(self, node: exp.Expr, outer: _Scope | None) -> tuple[str, Columns]:
        """A SELECT or a UNION."""
        if isinstance(node, exp.Union):
            return self._union(node, outer)
        if isinstance(node, exp.Subquery):
            return self.query(node.this, outer)
        if not isinstance(node, exp.Select):
            raise refused(node, "a query is a SELECT or a UNION here")
        return self._select(node, outer)

    def _union(self, node: exp.Union, outer: _Scope | None) -> tuple[str, Columns]:
        _takes(node, "this", "expression", "distinct")
        (left, columns), (right, others) = self.query(node.this, outer), self.query(node.expression, outer)
        if len(columns) != len(others):
            raise refused(node, "both sides of a UNION have equally many columns")
        for one, two in zip(columns.values(), others.values(), strict=True):
            if one is not two and {one, two} - {Kind.NULL, Kind.INTEGER, Kind.HUGE, Kind.DECIMAL, Kind.DOUBLE}:
                raise refused(
                    node, f"a column is {one.value} on one side and {two.value} on the other; CAST one of them"
                )
        merged = {
            name: spark.meeting(node, (Typed("", one), Typed("", two)))
            for (name, one), two in zip(columns.items(), others.values(), strict=True)
        }
        return f"{left} UNION {'' if node.args.get('distinct') else 'ALL '}{right}", merged

    def _select(self, node: exp.Select, outer: _Scope | None) -> tuple[str, Columns]:
        _takes(
            node, "with_", "expressions", "from_", "joins", "where", "group", "having", "qualify", "distinct", "order"
        )  # an ORDER BY of a whole SELECT decides nothing: there is no LIMIT
        shared = self._with(node.args.get("with_"))
        sources, scope = self._from(node, outer)
        projections = list(self._projections(node, scope))
        scope = scope.within(
            **{each.alias.lower(): each.this for each in node.expressions if isinstance(each, exp.Alias)}
        )
        pieces = [f"{shared}SELECT {self._distinct(node)}{', '.join(sql for _, sql, _ in projections)}{sources}"]
        pieces += self._clauses(node, scope)
        return " ".join(pieces), {name: kind for name, _, kind in projections}

    def _with(self, node: exp.With | None) -> str:
        if node is None:
            return ""
        defined = []
        for cte in node.expressions:
            sql, columns = self.query(cte.this, None)
            sql, columns = _renamed(cte, sql, columns)
            self._tables[cte.alias.lower()] = Relation(_name(cte.alias), columns)
            defined.append(f"{_name(cte.alias)} AS ({sql})")
        return f"WITH {', '.join(defined)} "

    def _distinct(self, node: exp.Select) -> str:
        distinct = node.args.get("distinct")
        if distinct is None:
            return ""
        if distinct.args.get("on"):
            raise refused(distinct, "which row DISTINCT ON keeps depends on storage order; rank with row_number()")
        return "DISTINCT "

    def _clauses(self, node: exp.Select, scope: _Scope) -> Iterator[str]:
        if where := node.args.get("where"):
            yield f"WHERE {self._condition(where.this, scope)}"
        if group := node.args.get("group"):
            yield self._group(group, scope)
        if having := node.args.get("having"):
            self._check_shadows(having, scope)
            yield f"HAVING {self._condition(having.this, scope)}"
        if qualify := node.args.get("qualify"):
            yield f"QUALIFY {self._condition(qualify.this, scope)}"

    def _group(self, group: exp.Group, scope: _Scope) -> str:
        _takes(group, "expressions", "all")
        if group.args.get("all"):
            return "GROUP BY ALL"
        return f"GROUP BY {', '.join(self.value(each, scope).sql for each in group.expressions)}"

    def _check_shadows(self, having: exp.Having, scope: _Scope) -> None:
        """In HAVING, DuckDB reads a name sometimes as the column, sometimes as the alias."""
        columns = {name.lower() for table in scope.tables.values() for name in table}
        for column in having.find_all(exp.Column):
            if not column.table and column.name.lower() in columns & set(scope.aliases):
                raise refused(having, f"{column.name} is a column and an alias; give the alias another name")

    def _projections(self, node: exp.Select, scope: _Scope) -> Iterator[tuple[str, str, Kind]]:
        """Name, SQL and kind of each output column. An earlier column can be used by its name in a later one."""
        seen: dict[str, exp.Expr] = {}
        exploded = 0
        for each in node.expressions:
            if each.is_star:
                yield from self._star(each, scope)
                continue
            inner = each.this if isinstance(each, exp.Alias) else each
            value, exploding = self._projection(inner, scope.within(**seen))
            exploded += exploding
            if exploded > 1:
                raise refused(each, "one unnest in a SELECT: several are zipped by some engines, multiplied by others")
            name = each.alias_or_name or f"__column{len(seen)}"
            seen[name.lower()] = inner
            yield name, f"{value.sql} AS {_name(name)}", value.kind

    def _projection(self, node: exp.Expr, scope: _Scope) -> tuple[Typed, bool]:
        if isinstance(node, (exp.Explode, exp.Unnest)):
            sql, kind = self._exploded(node, scope)
            return Typed(sql, kind), True
        return self.value(node, scope), False

    def _star(self, node: exp.Expr, scope: _Scope) -> Iterator[tuple[str, str, Kind]]:
        star = node.this if isinstance(node, exp.Column) else node
        _takes(star, "except_")
        left_out = {each.name.lower() for each in star.args.get("except_") or ()}
        only = node.table.lower() if isinstance(node, exp.Column) else None
        shared: set[str] = set()
        for table, columns in scope.tables.items():
            for name, kind in columns.items():
                low = name.lower()
                if low in left_out or low in shared or (only is not None and table != only):
                    continue
                if low in scope.shared and only is None:
                    shared.add(low)
                    yield name, _name(name), kind
                else:
                    yield name, f"{_name(table)}.{_name(name)}", kind

    # ------------------------------------------------------------------ FROM

    def _from(self, node: exp.Select, outer: _Scope | None) -> tuple[str, _Scope]:
        scope = _Scope({}, outer=outer)
        if not (start := node.args.get("from_")):
            return "", scope
        sql, scope = self._joined("", start.this, None, scope)
        for join in node.args.get("joins") or ():
            sql, scope = self._joined(sql, join.this, join, scope)
        return f" FROM {sql}", scope

    def _joined(self, left: str, node: exp.Expr, join: exp.Join | None, scope: _Scope) -> tuple[str, _Scope]:
        sql, alias, columns = self._table(node, scope)
        if alias in scope.tables:
            raise refused(node, f"the name {alias} is used twice in this FROM")
        kept = scope
        scope = replace(scope, tables={**scope.tables, alias: columns})
        if join is None:
            return sql, scope
        _takes(join, "this", "side", "kind", "on", "using")
        how = " ".join(filter(None, (join.side, join.kind))).upper()
        if how not in (
            "",
            "INNER",
            "CROSS",
            "LEFT",
            "LEFT OUTER",
            "RIGHT",
            "RIGHT OUTER",
            "FULL",
            "FULL OUTER",
            "SEMI",
            "ANTI",
            "LEFT SEMI",
            "LEFT ANTI",
        ):
            raise refused(join, "this kind of join is not translated")
        if how in ("SEMI", "ANTI"):
            how = f"LEFT {how}"
        on = self._on(join, scope)
        if using := join.args.get("using"):
            scope = replace(scope, shared=scope.shared | {each.name.lower() for each in using})
        sql = f"{left} {how or ('INNER' if on else 'CROSS')} JOIN {sql}{on}"
        if how.endswith(("SEMI", "ANTI")):
            return sql, replace(kept, shared=kept.shared)
        return sql, scope

    def _on(self, join: exp.Join, scope: _Scope) -> str:
        if using := join.args.get("using"):
            return f" USING ({', '.join(_name(each.name) for each in using)})"
        if on := join.args.get("on"):
            return f" ON {self._condition(on, scope)}"
        return ""

    def _table(self, node: exp.Expr, scope: _Scope) -> tuple[str, str, Columns]:
        """SQL of one item of FROM, the name it goes by, and its columns."""
        if isinstance(node, exp.Unnest) or isinstance(node.this, exp.GenerateSeries):
            return self._series(node, scope)
        if isinstance(node, exp.Subquery):
            _takes(node, "this", "alias")
            sql, columns = self.query(node.this, scope.outer)
            sql = f"({sql})"
        else:
            _takes(node, "this", "alias")
            relation = self._tables[node.name.lower()]
            sql, columns = relation.sql, dict(relation.columns)
        alias = node.alias_or_name or self._new_name()
        if node.args.get("alias") and node.args["alias"].args.get("columns"):
            body, columns = _renamed(node, f"SELECT * FROM {sql}", columns)
            sql = f"({body})"
        return f"{sql} AS {_name(alias.lower())}", alias.lower(), columns

    def _series(self, node: exp.Expr, scope: _Scope) -> tuple[str, str, Columns]:
        _takes(node, "this", "expressions", "alias")
        lists = node.expressions if isinstance(node, exp.Unnest) else [node.this]
        if len(lists) != 1:
            raise refused(node, "one list in an unnest: several are zipped by some engines, multiplied by others")
        sql, kind = self._exploded(exp.Explode(this=lists[0]), scope)
        table = node.args.get("alias")
        alias = (table.name if table else "").lower() or self._new_name()
        names = [each.name for each in (table.args.get("columns") or ()) if table] if table else []
        column = names[0] if names else ("unnest" if isinstance(node, exp.Unnest) else "generate_series")
        return f"LATERAL {sql} AS {_name(alias)}({_name(column)})", alias, {column: kind}

    def _exploded(self, node: exp.Expr, scope: _Scope) -> tuple[str, Kind]:
        value = self.value(node.expressions[0] if isinstance(node, exp.Unnest) else node.this, scope)
        kinds = {Kind.INTEGERS: Kind.INTEGER, Kind.TIMES: Kind.TIME}
        if value.kind not in kinds:
            raise refused(node, "unnest takes a generate_series")
        return f"explode({value.sql})", kinds[value.kind]

    def _new_name(self) -> str:
        self._unnamed += 1
        return f"__unnamed{self._unnamed}"

    # ------------------------------------------------------------------ values

    def value(self, node: exp.Expr, scope: _Scope) -> Typed:
        """One expression in Spark SQL, with its kind."""
        compiled = self._leaf(node, scope) or self._operation(node, scope) or self._function(node, scope)
        if compiled is None:
            call = self._call(node, scope, None)
            compiled = Typed(call.outside.format(call.sql), call.kind)
        return compiled

    def _condition(self, node: exp.Expr, scope: _Scope) -> str:
        return spark.truth(node, self.value(node, scope))

    def _leaf(self, node: exp.Expr, scope: _Scope) -> Typed | None:
        match node:
            case exp.Column():
                return self._column(node, scope)
            case exp.Literal():
                return _literal(node)
            case exp.Boolean():
                return Typed("TRUE" if node.this else "FALSE", Kind.BOOLEAN)
            case exp.Null():
                return Typed("NULL", Kind.NULL)
            case exp.Paren():
                inner = self.value(node.this, scope)
                return replace(inner, sql=f"({inner.sql})")
            case exp.Subquery():
                sql, columns = self.query(node.this, scope)
                return Typed(f"({sql})", next(iter(columns.values())))
            case exp.Interval():
                return spark.interval(node, self._interval_length(node, scope))
        return None

    def _interval_length(self, node: exp.Interval, scope: _Scope) -> Typed:
        if isinstance(node.this, exp.Literal):
            if not node.this.name.removeprefix("-").isdigit():
                raise refused(node, "an interval is a whole number of one unit")
            return Typed(node.this.name, Kind.INTEGER, int(node.this.name))
        return self.value(node.this, scope)

    def _column(self, node: exp.Column, scope: _Scope) -> Typed:
        _takes(node, "this", "table")
        name, table = node.name.lower(), node.table.lower()
        place: _Scope | None = scope
        while place is not None:
            for alias, columns in place.tables.items():
                if table in ("", alias):
                    for known, kind in columns.items():
                        if known.lower() == name:
                            free = not table and name in place.shared
                            return Typed(_name(known) if free else f"{_name(alias)}.{_name(known)}", kind)
            if not table and name in place.aliases:
                # the alias itself is not among the names its own expression can use
                others = {key: value for key, value in place.aliases.items() if key != name}
                inner = self.value(place.aliases[name], replace(place, aliases=others))
                return replace(inner, sql=f"({inner.sql})")
            place = place.outer
        raise refused(node, "there is no such column, or none of a type that can be used here")

    # ------------------------------------------------------------------ operations

    def _operation(self, node: exp.Expr, scope: _Scope) -> Typed | None:
        if rule := _ARITHMETIC.get(type(node)):
            left, right = self._pair(node, scope)
            return rule(node, left, right)
        if sign := _COMPARISONS.get(type(node)):
            return spark.compare(node, *self._pair(node, scope), sign)
        match node:
            case exp.NullSafeNEQ():
                return Typed(f"NOT {spark.compare(node, *self._pair(node, scope), '<=>').sql}", Kind.BOOLEAN)
            case exp.And() | exp.Or():
                word = "AND" if isinstance(node, exp.And) else "OR"
                sides = (self._condition(each, scope) for each in (node.left, node.right))
                return Typed(f"({f' {word} '.join(sides)})", Kind.BOOLEAN)
            case exp.Not():
                return Typed(f"(NOT {self._condition(node.this, scope)})", Kind.BOOLEAN)
            case exp.Neg():
                value = self.value(node.this, scope)
                number = None if value.number is None else -value.number
                if value.kind is not Kind.SPAN:
                    spark.number(node, value)
                return Typed(f"(-{value.sql})", value.kind, number)
            case exp.Is():
                return self._is(node, scope)
            case exp.Between():
                _takes(node, "this", "low", "high")
                low = spark.compare(node, *self._against(node.this, node.args["low"], scope), ">=")
                high = spark.compare(node, *self._against(node.this, node.args["high"], scope), "<=")
                return Typed(f"({low.sql} AND {high.sql})", Kind.BOOLEAN)
            case exp.In():
                return self._in(node, scope)
            case exp.Like():
                sides = (spark.text_of(node, each) for each in self._pair(node, scope))
                # DuckDB's LIKE has no escape character; Spark needs one, so it gets one that nobody writes
                return Typed(f"({' LIKE '.join(sides)} ESCAPE '\\u0001')", Kind.BOOLEAN)
            case exp.Case() | exp.If():
                return self._case(node, scope)
            case exp.Cast():
                return self._cast(node, scope)
        return None

    def _pair(self, node: exp.Expr, scope: _Scope) -> tuple[Typed, Typed]:
        return self._against(node.this, node.expression, scope)

    def _against(self, one: exp.Expr, two: exp.Expr, scope: _Scope) -> tuple[Typed, Typed]:
        """Two values, of which a text literal beside a time is read as a time."""
        left, right = self.value(one, scope), self.value(two, scope)
        if left.kind in (Kind.TIME, Kind.DATE) and _is_text(two):
            right = _moment(two, Kind.TIME)
        elif right.kind in (Kind.TIME, Kind.DATE) and _is_text(one):
            left = _moment(one, Kind.TIME)
        return left, right

    def _is(self, node: exp.Is, scope: _Scope) -> Typed:
        value = self.value(node.this, scope)
        if isinstance(node.expression, exp.Null):
            return Typed(f"({value.sql} IS NULL)", Kind.BOOLEAN)
        if isinstance(node.expression, exp.Boolean):
            word = "TRUE" if node.expression.this else "FALSE"
            return Typed(f"({spark.truth(node, value)} IS {word})", Kind.BOOLEAN)
        raise refused(node, "IS takes NULL, TRUE or FALSE")

    def _in(self, node: exp.In, scope: _Scope) -> Typed:
        _takes(node, "this", "expressions", "query")
        value = self.value(node.this, scope)
        if query := node.args.get("query"):
            sql, columns = self.query(query, scope)
            (kind,) = columns.values() if len(columns) == 1 else (None,)
            if kind is not value.kind:
                raise refused(node, "IN (SELECT …) takes one column of the type on the left; CAST it")
            return Typed(_is_among(value.sql, sql, next(iter(columns))), Kind.BOOLEAN)
        pairs = [self._against(node.this, each, scope)[1] for each in node.expressions]
        (first, *rest), _ = spark.together(node, [value, *pairs])
        return Typed(f"({first} IN ({', '.join(rest)}))", Kind.BOOLEAN)

    def _case(self, node: exp.Case | exp.If, scope: _Scope) -> Typed:
        branches = [node] if isinstance(node, exp.If) else node.args["ifs"]
        otherwise = node.args.get("false") if isinstance(node, exp.If) else node.args.get("default")
        subject = node.this if isinstance(node, exp.Case) else None
        conditions = [self._branch(subject, each.this, scope) for each in branches]
        results = [self.value(each.args["true"], scope) for each in branches]
        results.append(self.value(otherwise, scope) if otherwise else Typed("NULL", Kind.NULL))
        (*values, last), kind = spark.together(node, results)
        whens = " ".join(f"WHEN {when} THEN {then}" for when, then in zip(conditions, values, strict=True))
        return Typed(f"(CASE {whens} ELSE {last} END)", kind)

    def _branch(self, subject: exp.Expr | None, when: exp.Expr, scope: _Scope) -> str:
        if subject is None:
            return self._condition(when, scope)
        return spark.compare(when, *self._against(subject, when, scope), "=").sql

    def _cast(self, node: exp.Cast, scope: _Scope) -> Typed:
        _takes(node, "this", "to", "safe")
        kind = {"TIMESTAMP": Kind.TIME, "TIMESTAMPNTZ": Kind.TIME, "DATE": Kind.DATE}.get(node.to.this.name)
        if kind and _is_text(node.this):
            return _moment(node.this, kind)
        return spark.cast(node, self.value(node.this, scope))

    # ------------------------------------------------------------------ functions

    def _function(self, node: exp.Expr, scope: _Scope) -> Typed | None:
        named = node.name.lower() if isinstance(node, exp.Anonymous) else type(node)
        if rule := spark.ONE_ARGUMENT.get(named):
            arguments = node.expressions if isinstance(node, exp.Anonymous) else [node.this]
            _takes(node, "this", *(("expressions",) if isinstance(node, exp.Anonymous) else ()))
            if len(arguments) != 1:
                raise refused(node, "takes one argument")
            return rule(node, self.value(arguments[0], scope))
        match node:
            case exp.Coalesce() | exp.Greatest() | exp.Least():
                return self._merged(node, scope)
            case exp.Nullif():
                value, other = self._pair(node, scope)
                equal = spark.compare(node, value, other, "=").sql
                return Typed(f"(CASE WHEN {equal} THEN NULL ELSE {value.sql} END)", value.kind)
            case exp.Round():
                _takes(node, "this", "decimals")
                digits = self.value(node.args["decimals"], scope).number if node.args.get("decimals") else 0
                if digits is None:
                    raise refused(node, "the digits of round are a number, written out")
                return spark.round_(node, self.value(node.this, scope), digits)
            case exp.Pow():
                return spark.power(node, *(self.value(each, scope) for each in (node.this, node.expression)))
            case exp.Trim():
                letters = node.args.get("expression")
                return spark.trim(node, self.value(node.this, scope), self.value(letters, scope) if letters else None)
            case exp.Substring():
                length = node.args.get("length")
                start = self.value(node.args["start"], scope)
                return spark.substring(
                    node, self.value(node.this, scope), start, self.value(length, scope) if length else None
                )
            case exp.Concat():
                return spark.concat(node, [self.value(each, scope) for each in node.expressions])
            case exp.TimestampTrunc() | exp.DateTrunc():
                _takes(node, "this", "unit", "unabbreviate", "input_type_preserved")
                return spark.date_trunc(node, node.args["unit"].name, self.value(node.this, scope))
            case exp.Extract():
                return spark.extract(node, node.name, self.value(node.expression, scope))
            case exp.UnixToTime():
                return self._from_epoch(node, scope)
            case exp.GenerateSeries():
                return self._generate_series(node, scope)
        return None

    def _from_epoch(self, node: exp.UnixToTime, scope: _Scope) -> Typed:
        """``make_timestamp(microseconds)``, and ``epoch_ms``, which goes both ways."""
        _takes(node, "this", "scale")
        value, scale = self.value(node.this, scope), node.args.get("scale")
        if scale is not None and scale.name == "3":
            if value.kind in (Kind.TIME, Kind.DATE):
                return spark.epoch_ms(node, value)
            return spark.make_timestamp(node, value, 1_000)
        if scale is None or scale.name != "6":
            raise refused(node, "write make_timestamp(microseconds)")
        return spark.make_timestamp(node, value)

    def _merged(self, node: exp.Expr, scope: _Scope) -> Typed:
        """A function that takes any number of values of one kind; all of them pass over nulls in both engines."""
        _takes(node, "this", "expressions", "ignore_nulls")
        first, *others = [node.this, *node.expressions]
        values = [self._against(first, each, scope)[1] for each in others]
        parts, kind = spark.together(node, [self.value(first, scope), *values])
        if len(parts) == 1:
            return Typed(parts[0], kind)
        return Typed(f"{node.key}({', '.join(parts)})", kind)

    def _generate_series(self, node: exp.GenerateSeries, scope: _Scope) -> Typed:
        start, stop = self._against(node.args["start"], node.args["end"], scope)
        step = node.args.get("step")
        return spark.generate_series(node, start, stop, self.value(step, scope) if step else None)

    # ------------------------------------------------------------------ aggregates and windows

    def _call(self, node: exp.Expr, scope: _Scope, condition: str | None) -> Call:
        """An aggregate, a filtered one, a window function with its window, or a refusal."""
        match node:
            case exp.Window():
                return self._window(node, scope)
            case exp.Filter():
                return self._call(node.this, scope, self._condition(node.expression.this, scope))
            case exp.Count():
                return self._count(node, scope, condition)
            case exp.CountIf():
                return spark.count_if(node, self.value(node.this, scope), condition)
            case exp.Anonymous() if (
                node.name.lower() in ("arg_max_null", "arg_min_null") and len(node.expressions) == 2
            ):
                value, by = (self.value(each, scope) for each in node.expressions)
                return spark.arg_extreme(node, node.name.lower(), value, by, condition)
        if rule := spark.AGGREGATES.get(type(node)):
            _takes(node, "this")
            inner, distinct = _distinct_argument(node)
            return rule(node, self.value(inner, scope), distinct, condition)
        raise refused(node, "this has no translation to Spark")

    def _count(self, node: exp.Count, scope: _Scope, condition: str | None) -> Call:
        if node.args.get("expressions"):
            raise refused(node, "count takes one argument")
        if node.this is None or isinstance(node.this, exp.Star):
            return Call(f"count({spark.only(condition, '1')})", Kind.INTEGER)
        inner, distinct = _distinct_argument(node)
        return Call(f"count({distinct}{spark.only(condition, self.value(inner, scope).sql)})", Kind.INTEGER)

    def _window(self, node: exp.Window, scope: _Scope) -> Call:
        _takes(node, "this", "partition_by", "order", "spec", "over")
        if node.find(exp.Distinct):
            raise refused(node, "DISTINCT inside a window is not defined on Spark; count in a GROUP BY and join")
        call = self._windowed(node, scope)
        parts = []
        if keys := node.args.get("partition_by"):
            parts.append(f"PARTITION BY {', '.join(self.value(each, scope).sql for each in keys)}")
        parts += self._frame(node, scope)
        return Call(call.outside.format(f"{call.sql} OVER ({' '.join(parts)})"), call.kind)

    def _windowed(self, node: exp.Window, scope: _Scope) -> Call:
        inner = node.this
        ranked = spark.RANKS.get(type(inner))
        if (ranked or isinstance(inner, (exp.Lag, exp.Lead))) and not node.args.get("order"):
            raise refused(node, "without ORDER BY the answer depends on storage order")
        if ranked:
            _takes(inner)
            return Call(f"{ranked}()", Kind.INTEGER, "CAST({} AS BIGINT)")
        if isinstance(inner, (exp.Lag, exp.Lead)):
            return self._neighbour(inner, scope)
        return self._call(inner, scope, None)

    def _neighbour(self, node: exp.Lag | exp.Lead, scope: _Scope) -> Call:
        value = self.value(node.this, scope)
        offset = self.value(node.args["offset"], scope).number if node.args.get("offset") else 1
        if offset is None:
            raise refused(node, f"how far {node.key} looks is a number, written out")
        default = self.value(node.args["default"], scope) if node.args.get("default") else Typed("NULL", Kind.NULL)
        if default.kind not in (value.kind, Kind.NULL):
            raise refused(node, f"the default is {default.kind.value}, the value {value.kind.value}; CAST one of them")
        return Call(f"{node.key}({value.sql}, {offset}, {default.sql})", value.kind)

    def _frame(self, node: exp.Window, scope: _Scope) -> Iterator[str]:
        """ORDER BY with its nulls said, and the frame."""
        order, spec = node.args.get("order"), node.args.get("spec")
        keys = [(each, self.value(each.this, scope)) for each in order.expressions] if order else []
        moving = spec is not None and spec.args["kind"] == "RANGE" and _has_distance(spec)
        if moving:
            if len(keys) != 1:
                raise refused(node, "a RANGE frame with a distance has one ORDER BY")
            keys = [(keys[0][0], _as_distance(node, keys[0][1]))]
        if keys:
            yield f"ORDER BY {', '.join(f'{value.sql} {_direction(each)}' for each, value in keys)}"
        if spec is not None:
            _takes(spec, "kind", "start", "start_side", "end", "end_side")
            if spec.args["kind"] not in ("ROWS", "RANGE"):
                raise refused(node, "a frame is ROWS or RANGE here")
            fractional = moving and keys[0][1].kind is Kind.DOUBLE
            ends = [self._frame_end(node, spec, side, scope, fractional=fractional) for side in ("start", "end")]
            yield f"{spec.args['kind']} BETWEEN {ends[0]} AND {ends[1]}"

    def _frame_end(self, node: exp.Window, spec: exp.WindowSpec, side: str, scope: _Scope, *, fractional: bool) -> str:
        end, where = spec.args.get(side), spec.args.get(f"{side}_side") or ""
        if end is None:
            return "CURRENT ROW"
        if isinstance(end, str):
            return f"{end} {where}".strip()
        distance = self.value(end, scope)
        if distance.number is None or distance.kind not in (Kind.INTEGER, Kind.SPAN):
            raise refused(node, "the distance of a frame is a whole number or an interval without months, written out")
        width = "D" if fractional else "" if spec.args["kind"] == "ROWS" else "L"
        return f"{distance.number}{width} {where}"


_ARITHMETIC: Mapping[type[exp.Expr], Callable[[exp.Expr, Typed, Typed], Typed]] = {
    exp.Add: spark.add,
    exp.Sub: spark.subtract,
    exp.Mul: spark.multiply,
    exp.Div: spark.divide,
    exp.IntDiv: spark.whole_divide,
    exp.Mod: spark.modulo,
}
_COMPARISONS: Mapping[type[exp.Expr], str] = {
    exp.EQ: "=",
    exp.NEQ: "<>",
    exp.GT: ">",
    exp.GTE: ">=",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.NullSafeEQ: "<=>",
}
_HARMLESS = frozenset({"comments", "typed", "safe", "coalesce", "big_int", "nested", "is_end_exclusive", "offset"})


def _takes(node: exp.Expr, *names: str) -> None:
    """Refuse a piece that carries more than the rule for it looks at."""
    for name, value in node.args.items():
        if value and name not in names and name not in _HARMLESS:
            raise refused(node, f"{name.strip('_').replace('_', ' ')} is not translated here")


def _name(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _renamed(node: exp.Expr, sql: str, columns: Columns) -> tuple[str, Columns]:
    """A query under the column names that its alias gives, if it gives any."""
    names = [each.name for each in node.args["alias"].args.get("columns") or ()]
    if not names:
        return sql, columns
    names += list(columns)[len(names) :]
    listed = ", ".join(map(_name, names))
    return f"SELECT * FROM ({sql}) AS renamed({listed})", dict(zip(names, columns.values(), strict=True))


def _literal(node: exp.Literal) -> Typed:
    if node.is_string:
        return Typed(spark.text(node.name), Kind.TEXT)
    if "e" in node.name.lower():
        return Typed(f"{node.name}D", Kind.DOUBLE)
    if "." in node.name:
        return Typed(f"{node.name}BD", Kind.DECIMAL)
    value = int(node.name)
    return Typed(node.name, Kind.INTEGER, value) if value < 2**63 else Typed(f"{value}BD", Kind.HUGE, value)


def _is_among(value: str, query: str, column: str) -> str:
    """IN (SELECT …) with its nulls: outside WHERE, Spark says false where SQL says unknown."""
    rows = f"SELECT count(*) FROM ({query})"
    unknown = f"({value} IS NULL AND ({rows}) > 0) OR ({rows} WHERE {_name(column)} IS NULL) > 0"
    return f"(CASE WHEN {value} IN ({query}) THEN TRUE WHEN {unknown} THEN NULL ELSE FALSE END)"


def _is_text(node: exp.Expr) -> bool:
    return isinstance(node, exp.Literal) and node.is_string


def _moment(node: exp.Expr, kind: Kind) -> Typed:
    """A time that stands in the expression as text."""
    try:
        moment = datetime.fromisoformat(node.name.strip())
    except ValueError as error:
        raise refused(node, "write a time as 'YYYY-MM-DD hh:mm:ss', in UTC") from error
    if moment.tzinfo:
        raise refused(node, "write a time in UTC, without an offset: engines disagree on what it does")
    if kind is Kind.DATE:
        return Typed(f"DATE '{moment.date().isoformat()}'", Kind.DATE)
    return Typed(f"TIMESTAMP_NTZ '{moment.isoformat(sep=' ')}'", Kind.TIME)


def _distinct_argument(node: exp.Expr) -> tuple[exp.Expr, str]:
    if not isinstance(node.this, exp.Distinct):
        return node.this, ""
    _takes(node.this, "expressions")
    if len(node.this.expressions) != 1 or isinstance(node.this.expressions[0], exp.Tuple):
        raise refused(node, "DISTINCT of one value: engines count several with nulls among them differently")
    return node.this.expressions[0], "DISTINCT "


def _has_distance(spec: exp.WindowSpec) -> bool:
    return any(isinstance(spec.args.get(side), exp.Expr) for side in ("start", "end"))


def _as_distance(node: exp.Expr, value: Typed) -> Typed:
    """What a RANGE frame measures along: microseconds, whole numbers or doubles."""
    if value.kind in (Kind.TIME, Kind.DATE):
        return Typed(spark.microseconds(spark.as_kind(value, Kind.TIME)), Kind.INTEGER)
    if value.kind is Kind.INTEGER:
        return Typed(f"CAST({value.sql} AS BIGINT)", Kind.INTEGER)
    if value.kind in (Kind.DOUBLE, Kind.FLOAT):
        return Typed(spark.as_kind(value, Kind.DOUBLE), Kind.DOUBLE)
    raise refused(node, f"a RANGE frame along {value.kind.value} is not translated; CAST it to DOUBLE")


def _direction(node: exp.Ordered) -> str:
    """Nulls come last in DuckDB whichever the direction, and first or last in Spark."""
    nulls = "FIRST" if node.args.get("nulls_first") else "LAST"
    return f"{'DESC' if node.args.get('desc') else 'ASC'} NULLS {nulls}"
