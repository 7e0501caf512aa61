"""Definitions as they come from a team's repository: read from JSON, every fault named by object and field. Pure.

The form is that of the YAML files (docs/feature_store.md): ``entities``, ``sources``, ``views``, ``transforms`` and
``services``, each a mapping from name to fields. A fault is named ``views.weather.ttl``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from audit.errors import InvalidInput
from engines.offline import AGGREGATES
from features.meaning import TYPES
from features.spans import parse_span

KINDS = ("entities", "sources", "views", "transforms", "services")
MOST_OBJECTS = 500
MOST_FAULTS = 50
LANGUAGES = ("sql", "ibis")


@dataclass(frozen=True)
class EntityDefinition:
    name: str
    join_keys: tuple[str, ...]
    description: str = ""


@dataclass(frozen=True)
class SourceDefinition:
    name: str
    uri: str
    event_timestamp: str
    owner: str
    created_timestamp: str = ""
    freshness: timedelta | None = None
    push_schema: Mapping[str, str] | None = None
    description: str = ""


@dataclass(frozen=True)
class ViewDefinition:
    """``features`` are mappings with name and optionally dtype and description; ``aggregations`` as versions keep them,
    ``over`` in seconds."""

    name: str
    entity: str
    sources: tuple[str, ...]
    expression: str
    owner: str
    features: tuple[Mapping[str, str], ...] = ()
    aggregations: tuple[Mapping[str, Any], ...] = ()
    language: str = "sql"
    event_timestamp: str = "event_timestamp"
    known_at: str = "known_at"
    ttl: timedelta | None = None
    cadence: timedelta | None = None
    lookback: timedelta | None = None
    freshness: timedelta | None = None
    consistency_limit: float | None = None
    description: str = ""


@dataclass(frozen=True)
class TransformDefinition:
    name: str
    code: str
    features: tuple[Mapping[str, str], ...]
    owner: str
    description: str = ""


@dataclass(frozen=True)
class ServiceDefinition:
    name: str
    owner: str
    features: tuple[str, ...] = ()
    request_features: tuple[str, ...] = ()
    transforms: tuple[str, ...] = ()
    description: str = ""


@dataclass(frozen=True)
class Definitions:
    """What one apply is about. ``digest`` is a SHA-256 over the text of all of it."""

    entities: tuple[EntityDefinition, ...]
    sources: tuple[SourceDefinition, ...]
    views: tuple[ViewDefinition, ...]
    transforms: tuple[TransformDefinition, ...]
    services: tuple[ServiceDefinition, ...]
    digest: str


class _Fault(Exception):
    """What is wrong with one field."""


def read(told: Mapping[str, Any]) -> Definitions:
    """The definitions in ``told``. Raises InvalidInput with every fault, by ``kind.name.field``."""
    faults: dict[str, str] = {}
    unknown = [kind for kind in told if kind not in KINDS]
    faults.update({str(kind): f"There is no such kind. There are: {', '.join(KINDS)}." for kind in unknown})
    found = {kind: tuple(_objects(kind, {} if told.get(kind) is None else told[kind], faults)) for kind in KINDS}
    if not faults and not any(found.values()):
        faults["definitions"] = "There is no definition."
    if sum(map(len, found.values())) > MOST_OBJECTS:
        faults["definitions"] = f"At most {MOST_OBJECTS} at a time."
    if faults:
        raise InvalidInput(dict(list(faults.items())[:MOST_FAULTS]))
    text = json.dumps(told, sort_keys=True, separators=(",", ":"))
    return Definitions(**found, digest=hashlib.sha256(text.encode()).hexdigest())


def _objects(kind: str, told: Any, faults: dict[str, str]) -> Iterator[Any]:
    if not isinstance(told, Mapping):
        faults[kind] = "A mapping from name to fields is needed."
        return
    made, readers, needed = _SHAPES[kind]
    for name, fields in told.items():
        path = f"{kind}.{name}"
        if not isinstance(fields, Mapping):
            faults[path] = "A mapping of fields is needed."
            continue
        wrong = {
            f"{path}.{field}": f"There is no such field. There are: {', '.join(readers)}."
            for field in fields
            if field not in readers
        }
        wrong |= {f"{path}.{field}": "This is needed." for field in needed if fields.get(field) in (None, "", [])}
        values = {}
        for field, value in fields.items():
            if value is None or f"{path}.{field}" in wrong:
                continue
            try:
                values[field] = readers[field](value)
            except _Fault as fault:
                wrong[f"{path}.{field}"] = str(fault)
        faults.update(wrong)
        if not wrong:
            yield made(name=name, **values)


# ---------------------------------------------------------------------- how a field is read


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _Fault("A text is needed.")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise _Fault("A list of texts is needed.")
    return tuple(value)


def _span(value: Any) -> timedelta | None:
    try:
        return parse_span("0" if value == 0 and not isinstance(value, bool) else _text(value))
    except (ValueError, OverflowError) as problem:
        raise _Fault(str(problem)) from problem


def _share(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise _Fault("A share from 0 to below 1 is needed.")
    return float(value)


def _schema(value: Any) -> Mapping[str, str]:
    if not isinstance(value, Mapping) or not all(each in TYPES for each in value.values()):
        raise _Fault(f"A mapping from column to type is needed; types are {', '.join(TYPES)}.")
    return dict(value)


def _language(value: Any) -> str:
    if value not in LANGUAGES:
        raise _Fault(f"It is one of {', '.join(LANGUAGES)}.")
    return str(value)


def _features(value: Any) -> tuple[Mapping[str, str], ...]:
    if not isinstance(value, list):
        raise _Fault("A list of names, or of mappings with name, dtype and description, is needed.")
    return tuple(_feature(each) for each in value)


def _feature(value: Any) -> Mapping[str, str]:
    if isinstance(value, str):
        return {"name": value}
    known = {"name", "dtype", "description"}
    if (
        not isinstance(value, Mapping)
        or set(value) - known
        or not all(isinstance(each, str) for each in value.values())
    ):
        raise _Fault(f"{value!r}: a feature is a name or has name, dtype and description.")
    if value.get("dtype", "string") not in TYPES:
        raise _Fault(f"{value.get('name')}: the types are {', '.join(TYPES)}.")
    return dict(value)


def _aggregations(value: Any) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(value, list):
        raise _Fault("A list of mappings with name, function, column and over is needed.")
    return tuple(_aggregation(each) for each in value)


def _aggregation(value: Any) -> Mapping[str, Any]:
    known = {"name", "function", "column", "over", "description"}
    if not isinstance(value, Mapping) or set(value) - known or not isinstance(value.get("name"), str):
        raise _Fault(f"{value!r}: an aggregation has name, function, column, over and perhaps description.")
    name, function, column = value["name"], value.get("function"), value.get("column")
    if function not in AGGREGATES:
        raise _Fault(f"{name}: the functions are {', '.join(AGGREGATES)}.")
    if column is not None and not isinstance(column, str):
        raise _Fault(f"{name}: the column is a text.")
    if column is None and function != "count":
        raise _Fault(f"{name}: {function} needs a column.")
    over = _span(value.get("over"))
    if over is None or over % timedelta(seconds=1):
        raise _Fault(f"{name}: say over how long in whole seconds, such as over: 7d.")
    described = {"description": _text(value["description"])} if value.get("description") else {}
    return {"name": name, "function": function, "column": column, "over": int(over.total_seconds()), **described}


_Reader = Callable[[Any], Any]
_SHAPES: Mapping[str, tuple[Callable[..., Any], Mapping[str, _Reader], tuple[str, ...]]] = {
    "entities": (EntityDefinition, {"join_keys": _texts, "description": _text}, ("join_keys",)),
    "sources": (
        SourceDefinition,
        {
            "uri": _text,
            "event_timestamp": _text,
            "created_timestamp": _text,
            "freshness": _span,
            "push_schema": _schema,
            "owner": _text,
            "description": _text,
        },
        ("uri", "event_timestamp", "owner"),
    ),
    "views": (
        ViewDefinition,
        {
            "entity": _text,
            "sources": _texts,
            "expression": _text,
            "language": _language,
            "features": _features,
            "aggregations": _aggregations,
            "event_timestamp": _text,
            "known_at": _text,
            "ttl": _span,
            "cadence": _span,
            "lookback": _span,
            "freshness": _span,
            "consistency_limit": _share,
            "owner": _text,
            "description": _text,
        },
        ("entity", "sources", "expression", "owner"),
    ),
    "transforms": (
        TransformDefinition,
        {"code": _text, "features": _features, "owner": _text, "description": _text},
        ("code", "features", "owner"),
    ),
    "services": (
        ServiceDefinition,
        {
            "features": _texts,
            "request_features": _texts,
            "transforms": _texts,
            "owner": _text,
            "description": _text,
        },
        ("owner",),
    ),
}
