"""Which columns of which sources each feature of a view version is computed of, read from its expression. Pure.

The expression is parsed (``engines.expressions``) and each output column is followed through subqueries, WITH and UNION
to the sources. What decides which rows there are (WHERE, JOIN, GROUP BY, QUALIFY, the keys, the times) counts for every
feature. Where a feature can not be followed, everything that the expression reads counts for it, and ``is_whole`` says
so: the answer is then too long, never too short.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.scope import Scope, build_scope, walk_in_scope

from engines.expressions import ExpressionError, parsed

Column = tuple[str, str]
"""Source and column, both in lower case: SQL names do not tell cases apart."""
Columns = frozenset[Column]
ANY = "*"
"""Stands for every column of a source, where nothing narrower is known."""
_DECIDING = ("where", "joins", "group", "having", "qualify", "distinct", "laterals")
_DEEPEST = 200


@dataclass(frozen=True)
class Table:
    """A declared source: its columns where they are known (None: not), and those that say when a row happened and
    arrived, which the engine reads for every value."""

    name: str
    columns: frozenset[str] | None = None
    times: tuple[str, ...] = ()


@dataclass(frozen=True)
class Definition:
    """What of a view version decides which columns it reads. ``windows`` are (feature, output column)."""

    expression: str
    tables: tuple[Table, ...]
    features: tuple[str, ...]
    keys: tuple[str, ...]
    """Output columns that every feature depends on: join keys and times."""
    windows: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Reads:
    """``values`` the feature is computed of, ``rows`` decide which rows it is computed over."""

    values: Columns
    rows: Columns
    is_whole: bool = False

    def uses(self, source: str, column: str) -> bool:
        both = self.values | self.rows
        return (source.lower(), column.lower()) in both or (source.lower(), ANY) in both


@lru_cache(maxsize=4096)
def reads(content_hash: str, definition: Definition) -> Mapping[str, Reads]:
    """Reads by feature. ``content_hash`` names the version's meaning; the same meaning is followed once a process."""
    try:
        return _followed(definition)
    except (ExpressionError, SqlglotError, RecursionError):
        everything = frozenset((table.name.lower(), ANY) for table in definition.tables)
        return {feature: Reads(everything, frozenset(), is_whole=True) for feature in definition.features}


def _followed(definition: Definition) -> dict[str, Reads]:
    root = build_scope(parsed(definition.expression))
    if root is None:
        raise ExpressionError("the expression has no scope")
    follow = _Follow({table.name.lower(): table.columns for table in definition.tables})
    used = {table.name.lower() for scope in root.traverse() for table in scope.tables}
    times = [(each.name.lower(), time.lower()) for each in definition.tables for time in each.times]
    rows = follow.rows(root) | {each for each in times if each[0] in used}
    for key in definition.keys:
        rows |= follow.output(root, key.lower()) or frozenset()
    windows = dict(definition.windows)
    everything: Columns | None = None
    found = {}
    for feature in definition.features:
        column = windows.get(feature, feature).lower()
        values = follow.output(root, column) if column else frozenset()
        if values is None:
            everything = follow.everything(root) if everything is None else everything
        found[feature] = Reads(everything or frozenset() if values is None else values, rows, is_whole=values is None)
    return found


@dataclass(frozen=True)
class _Follow:
    """Follows names through the scopes of one expression. ``columns``: of each source, where known."""

    columns: Mapping[str, frozenset[str] | None]

    def output(self, scope: Scope, name: str, depth: int = 0) -> Columns | None:
        """What the output column ``name`` of a query is made of; None: it has no such column, or none we can tell."""
        if depth > _DEEPEST:
            raise RecursionError(name)
        query = scope.expression
        if isinstance(query, exp.SetOperation):
            return self._of_union(scope, name, depth)
        if not isinstance(query, exp.Select):
            return None
        for projection in query.expressions:
            if not projection.is_star and projection.alias_or_name.lower() == name:
                return self._read(scope, projection, depth, frozenset({name}))
        stars = [each for each in query.expressions if each.is_star]
        found = [self._through_star(scope, star, name, depth) for star in stars]
        told = [each for each in found if each is not None]
        return frozenset().union(*told) if told else None

    def rows(self, scope: Scope, depth: int = 0) -> Columns:
        """What decides which rows a query gives, down to the sources."""
        if depth > _DEEPEST:
            raise RecursionError("rows")
        found: Columns = frozenset()
        for each in scope.set_operation_scopes:
            found |= self.rows(each, depth + 1)
        if not isinstance(scope.expression, exp.Select):
            return found
        for part in _deciding(scope.expression):
            found |= self._read(scope, part, depth, frozenset())
        for _, source in _selected(scope):
            if isinstance(source, Scope):
                found |= self.rows(source, depth + 1)
        return found

    def everything(self, root: Scope) -> Columns:
        """Every column that the expression names anywhere."""
        found: Columns = frozenset()
        for scope in root.traverse():
            if isinstance(scope.expression, exp.Select):
                found |= self._read(scope, scope.expression, 0, frozenset())
        return found

    def _of_union(self, scope: Scope, name: str, depth: int) -> Columns | None:
        """By position: the name is that of the first branch."""
        branches = scope.set_operation_scopes
        names = _names(branches[0].expression) if branches else []
        if name not in names:
            return None
        found: Columns = frozenset()
        for branch in branches:
            theirs = _names(branch.expression)
            place = names.index(name)
            output = self.output(branch, theirs[place], depth + 1) if place < len(theirs) else None
            if output is None:
                return None
            found |= output
        return found

    def _through_star(self, scope: Scope, star: exp.Expr, name: str, depth: int) -> Columns | None:
        only = star.table.lower() if isinstance(star, exp.Column) else ""
        sources = [(alias, source) for alias, source in _selected(scope) if only in ("", alias.lower())]
        return self._among(sources, name, depth)

    def _read(self, scope: Scope, part: exp.Expr, depth: int, aliases: frozenset[str]) -> Columns:
        """What a piece of a query reads. ``aliases`` are output names that are being followed already."""
        found: Columns = frozenset()
        for node in walk_in_scope(part):
            if isinstance(node, exp.Column) and not node.is_star:
                found |= self._column(scope, node, depth, aliases)
        for nested in scope.subquery_scopes:
            if _is_inside(nested.expression, part):
                found |= self._whole(nested, depth)
        if isinstance(part, exp.Group):
            for place in _places(part):
                found |= self._read_place(scope, place, depth)
        return found

    def _whole(self, scope: Scope, depth: int) -> Columns:
        found = self.rows(scope, depth + 1)
        for name in _names(scope.expression):
            found |= self.output(scope, name, depth + 1) or frozenset()
        return found

    def _read_place(self, scope: Scope, place: int, depth: int) -> Columns:
        projections = scope.expression.expressions
        return (
            self._read(scope, projections[place - 1], depth, frozenset()) if place <= len(projections) else frozenset()
        )

    def _column(self, scope: Scope, column: exp.Column, depth: int, aliases: frozenset[str]) -> Columns:
        name, qualifier = column.name.lower(), column.table.lower()
        sources = [(alias, source) for alias, source in _selected(scope) if qualifier in ("", alias.lower())]
        found = self._among(sources, name, depth) if sources else None
        if found is None and scope.parent is not None and scope.is_correlated_subquery:
            found = self._column(scope.parent, column, depth + 1, aliases)
        named = frozenset() if qualifier or name in aliases else self._alias(scope, name, depth, aliases)
        return (found or frozenset()) | named

    def _alias(self, scope: Scope, name: str, depth: int, aliases: frozenset[str]) -> Columns:
        """DuckDB lets an output's name stand for its expression in WHERE, GROUP BY, QUALIFY and later outputs."""
        if not isinstance(scope.expression, exp.Select):
            return frozenset()
        for projection in scope.expression.expressions:
            if isinstance(projection, exp.Alias) and projection.alias.lower() == name:
                return self._read(scope, projection, depth + 1, aliases | {name})
        return frozenset()

    def _among(self, sources: list[tuple[str, exp.Table | Scope]], name: str, depth: int) -> Columns | None:
        """The column in whichever of the sources has it; in all that may, when none is known to."""
        sure: list[Columns] = []
        perhaps: list[Columns] = []
        for _, source in sources:
            if isinstance(source, Scope):
                output = self.output(source, name, depth + 1)
                if output is not None:
                    (perhaps if _is_open(source) else sure).append(output)
            elif isinstance(source.this, exp.Identifier):
                known = self.columns.get(source.name.lower())
                if known is None:
                    perhaps.append(frozenset({(source.name.lower(), name)}))
                elif name in known:
                    sure.append(frozenset({(source.name.lower(), name)}))
        chosen = sure or perhaps
        return frozenset().union(*chosen) if chosen else None


def _selected(scope: Scope) -> Iterator[tuple[str, exp.Table | Scope]]:
    """What a query selects from, by the name it has there."""
    for alias, (_, source) in scope.selected_sources.items():
        if isinstance(source, Scope | exp.Table):
            yield alias, source


def _deciding(select: exp.Select) -> Iterator[exp.Expr]:
    for name in _DECIDING:
        part = select.args.get(name)
        for each in part if isinstance(part, list) else [part]:
            if isinstance(each, exp.Join):
                yield from (on for on in [each.args.get("on"), *(each.args.get("using") or [])] if on is not None)
            elif isinstance(each, exp.Expr):
                yield each


def _places(group: exp.Group) -> list[int]:
    """Outputs that a GROUP BY names by their number."""
    return [int(each.this) for each in group.expressions if isinstance(each, exp.Literal) and each.is_int]


def _names(query: exp.Expr) -> list[str]:
    first = query
    while isinstance(first, exp.SetOperation | exp.Subquery):
        first = first.this
    return [each.alias_or_name.lower() for each in first.expressions] if isinstance(first, exp.Select) else []


def _is_open(scope: Scope) -> bool:
    """Whether it hands on columns that it does not name."""
    return isinstance(scope.expression, exp.Select) and any(each.is_star for each in scope.expression.expressions)


def _is_inside(query: exp.Expr, part: exp.Expr) -> bool:
    node: exp.Expr | None = query
    while node is not None:
        if node is part:
            return True
        node = node.parent
    return False
