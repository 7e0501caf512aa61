"""What two definitions differ in, in words and lines for people."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from engines.expressions import laid_out
from features.actions.feature_views import Prepared
from features.description import aggregations_of
from features.models import FeatureService, FeatureViewVersion


@dataclass(frozen=True)
class FieldChange:
    """One field that changes, in words."""

    field: str
    before: str
    after: str


def changed_meaning(before: FeatureViewVersion, prepared: Prepared) -> tuple[FieldChange, ...]:
    """What a view's new meaning changes against a version."""
    spec = prepared.spec
    after: dict[str, Any] = {
        "sources": sorted(source.name for source in spec.sources),
        "event_timestamp": spec.event_timestamp,
        "known_at": spec.known_at,
        "ttl": spec.ttl,
        "cadence": spec.cadence,
        "lookback": spec.lookback,
        "features": [f"{name} {dtype}" for name, dtype in prepared.types.items()],
        "aggregations": [_window(each.name, each.function, each.column, each.over) for each in spec.aggregations],
    }
    old: dict[str, Any] = {
        "sources": sorted(source.name for source in before.sources.all()),
        "features": [f"{name} {dtype}" for name, dtype in before.types.items()],
        "aggregations": [
            _window(each.name, each.function, each.column, each.over) for each in aggregations_of(before.aggregations)
        ],
    }
    fields = [
        FieldChange(name, said(was), said(value))
        for name, value in after.items()
        if (was := old.get(name, getattr(before, name))) != value
    ]
    if laid_out(before.expression) != laid_out(spec.expression):
        fields.insert(0, FieldChange("expression", "", "see the difference of the text"))
    return tuple(fields)


def changed_vector(
    before: FeatureService, features: Sequence[str], request_features: Sequence[str], transforms: Sequence[str]
) -> tuple[FieldChange, ...]:
    """What a service's new vector changes. ``features`` are written weather@2.temp, ``transforms`` chill@1."""
    compared = [
        ("features", [f"{each.view_version}.{each.feature}" for each in before.pinned()], features),
        ("request_features", before.request_features, request_features),
        ("transforms", [str(each) for each in before.pinned_transforms()], transforms),
    ]
    return tuple(FieldChange(name, said(old), said(new)) for name, old, new in compared if list(old) != list(new))


def sql_diff(before: FeatureViewVersion, prepared: Prepared) -> str:
    """The unified difference of the expressions, both laid out in one way."""
    return text_diff(laid_out(before.expression), laid_out(prepared.spec.expression), str(before), "new")


def text_diff(before: str, after: str, named: str, now_named: str) -> str:
    """The unified difference of two texts."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), named, now_named, lineterm="")
    return "\n".join(lines)


def _window(name: str, function: str, column: str | None, over: timedelta) -> str:
    return f"{name} = {function}({column or '*'}) over {said(over)}"


def said(value: Any) -> str:
    """A field's value for people."""
    if value is None or value == "":
        return "nothing"
    if isinstance(value, timedelta):
        return _span(value)
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "nothing"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {each}" for name, each in value.items()) or "nothing"
    return str(value)


def _span(span: timedelta) -> str:
    for unit, seconds in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if span and span % timedelta(seconds=seconds) == timedelta(0):
            return f"{span // timedelta(seconds=seconds)}{unit}"
    return f"{span.total_seconds():g}s"
