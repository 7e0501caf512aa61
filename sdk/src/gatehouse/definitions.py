"""Feature definitions in Python: objects at module level of the files that ``gatehouse plan`` and ``apply`` read.

from gatehouse.definitions import Aggregation, Entity, FeatureService, FeatureView, Source, on_demand

owner = "delay-science"  # of everything in this file that names none

carrier = Entity("carrier", join_keys=["carrier"])
arrivals = Source("arrivals", "sources/arrivals.parquet", event_timestamp="event_at", created_timestamp="created_at")
delays = FeatureView(
    "carrier_delays",
    entity=carrier,
    sources=[arrivals],
    expression="SELECT carrier, arr_delay > 15 AS late, event_at, created_at FROM arrivals",
    event_timestamp="event_at",
    known_at="created_at",
    cadence="4h",
    aggregations=[Aggregation("late_7d", "share", column="late", over="7d")],
)

The same in YAML: docs/feature_store.md. Lengths of time are texts (``6h``, ``90 min``, ``7d``) or timedeltas. What is
accepted is the portal's to say; these classes only say what there is.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar

Span = str | timedelta
"""A length of time."""


class DefinitionError(ValueError):
    """A file or an object in it can not be read as a definition; says which and why."""


@dataclass(frozen=True)
class Entity:
    """What features describe, and the columns that identify one."""

    kind: ClassVar[str] = "entities"

    name: str
    join_keys: Sequence[str]
    description: str = ""

    def as_json(self) -> dict[str, Any]:
        return _given(join_keys=list(self.join_keys), description=self.description)


@dataclass(frozen=True)
class Source:
    """A table of events: ``uri`` lies below the portal's data root. ``push_schema`` (column to dtype) makes it a source
    that rows may be pushed to."""

    kind: ClassVar[str] = "sources"

    name: str
    uri: str
    event_timestamp: str
    created_timestamp: str = ""
    freshness: Span | None = None
    push_schema: Mapping[str, str] | None = None
    owner: str = ""
    description: str = ""

    def as_json(self) -> dict[str, Any]:
        return _given(
            uri=self.uri,
            event_timestamp=self.event_timestamp,
            created_timestamp=self.created_timestamp,
            freshness=_span(self.freshness),
            push_schema=dict(self.push_schema) if self.push_schema else None,
            owner=self.owner,
            description=self.description,
        )

    def table(self, schema: Mapping[str, str]) -> Any:
        """An Ibis table of this source, to build a view's expression on (``gatehouse-sdk[ibis]``)."""
        from gatehouse.ibis_sql import table

        return table(self.name, schema)


@dataclass(frozen=True)
class Aggregation:
    """One feature over a trailing window of the rows of the view's expression.

    ``function`` is count, sum, mean, share, min, max, last or distinct; only count does without a column.
    """

    name: str
    function: str
    over: Span
    column: str | None = None
    description: str = ""

    def as_json(self) -> dict[str, Any]:
        told = {"name": self.name, "function": self.function, "column": self.column, "over": _span(self.over)}
        return _given(**told, description=self.description)


@dataclass(frozen=True)
class FeatureView:
    """A group of features of one entity.

    ``expression`` is one SELECT as text, or an Ibis expression over ``source.table(schema)``. ``features`` are names or
    mappings with name, dtype and description; of a view with aggregations they are those. What is not given keeps its
    default, and of an existing view its words and promises.
    """

    kind: ClassVar[str] = "views"

    name: str
    entity: Entity | str
    sources: Sequence[Source | str]
    expression: Any
    features: Sequence[str | Mapping[str, str]] = ()
    aggregations: Sequence[Aggregation] = ()
    event_timestamp: str = ""
    known_at: str = ""
    ttl: Span | None = None
    cadence: Span | None = None
    lookback: Span | None = None
    freshness: Span | None = None
    consistency_limit: float | None = None
    owner: str = ""
    description: str = ""

    def as_json(self) -> dict[str, Any]:
        text, language = _expression(self.expression)
        return _given(
            entity=_name(self.entity),
            sources=[_name(each) for each in self.sources],
            expression=text,
            language=language,
            features=[each if isinstance(each, str) else dict(each) for each in self.features],
            aggregations=[each.as_json() for each in self.aggregations],
            event_timestamp=self.event_timestamp,
            known_at=self.known_at,
            ttl=_span(self.ttl),
            cadence=_span(self.cadence),
            lookback=_span(self.lookback),
            freshness=_span(self.freshness),
            consistency_limit=self.consistency_limit,
            owner=self.owner,
            description=self.description,
        )


@dataclass(frozen=True)
class OnDemand:
    """A function of columns that is computed at the request, made by ``on_demand``. Calling it calls the function."""

    kind: ClassVar[str] = "transforms"

    name: str
    function: Callable[..., Any]
    code: str
    features: Mapping[str, str]
    owner: str = ""
    description: str = ""

    def __call__(self, *columns: Any, **named: Any) -> Any:
        return self.function(*columns, **named)

    def as_json(self) -> dict[str, Any]:
        features = [{"name": name, "dtype": dtype} for name, dtype in self.features.items()]
        return _given(code=self.code, features=features, owner=self.owner, description=self.description)


@dataclass(frozen=True)
class FeatureService:
    """The vector that a model takes: request features, then ``view.feature`` in this order, then on-demand features."""

    kind: ClassVar[str] = "services"

    name: str
    features: Sequence[str] = ()
    request_features: Sequence[str] = ()
    transforms: Sequence[OnDemand | str] = ()
    owner: str = ""
    description: str = ""

    def as_json(self) -> dict[str, Any]:
        return _given(
            features=list(self.features),
            request_features=list(self.request_features),
            transforms=[_name(each) for each in self.transforms],
            owner=self.owner,
            description=self.description,
        )


Definition = Entity | Source | FeatureView | OnDemand | FeatureService


def on_demand(
    *, features: Mapping[str, str], owner: str = "", name: str = "", description: str = ""
) -> Callable[[Callable[..., Any]], OnDemand]:
    """Decorate a function of columns: its arguments are request features or ``view__feature``, it returns a dict.

    ``features`` say the dtype of each thing returned. The function's own text is sent to the portal, which says what
    may stand in it (``np`` and arithmetic on whole columns; annotate an argument with ``str`` for text).
    """

    def made(function: Callable[..., Any]) -> OnDemand:
        said = description or (inspect.getdoc(function) or "").partition("\n")[0]
        return OnDemand(name or function.__name__, function, _code_of(function), dict(features), owner, said)

    return made


def _code_of(function: Callable[..., Any]) -> str:
    """The function's text without its decorators."""
    try:
        text = textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError) as problem:
        raise DefinitionError(f"The text of {function!r} can not be found: define it in a file.") from problem
    node = ast.parse(text).body[0]
    if not isinstance(node, ast.FunctionDef):
        raise DefinitionError(f"{function!r} is no plain function (def …).")
    return "\n".join(text.splitlines()[node.lineno - 1 :]) + "\n"


def _expression(expression: Any) -> tuple[str, str]:
    if isinstance(expression, str):
        return expression, "sql"
    from gatehouse.ibis_sql import compiled

    return compiled(expression), "ibis"


def _name(named: Any) -> str:
    return named if isinstance(named, str) else str(named.name)


def _span(span: Span | None) -> str | None:
    """As a person writes it, so that a timedelta and a text of one length are the same definition."""
    if not isinstance(span, timedelta):
        return span
    for unit, seconds in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if span and span % timedelta(seconds=seconds) == timedelta(0):
            return f"{span // timedelta(seconds=seconds)}{unit}"
    return f"{span.total_seconds():g}s"


def _given(**fields: Any) -> dict[str, Any]:
    """Without what was left out; a span or a limit of zero says something."""
    return {name: value for name, value in fields.items() if value is not None and value not in ("", [], {})}
