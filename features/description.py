"""What a view's description must satisfy before its expression is looked at."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from engines.offline import Aggregation, ViewSpec

_COLUMN = re.compile(r"[A-Za-z0-9_]{1,60}")
_TAKEN = frozenset({"event_timestamp", "known_at"})
_ACCEPTED = "Letters, digits and '_', at most 60; not event_timestamp, known_at or two leading '_'."


def described_features(features: Sequence[str | Mapping[str, str]]) -> list[dict[str, str]]:
    """Features as mappings with ``name`` and ``description`` (and ``dtype`` where it was given)."""
    whole = [{"name": each} if isinstance(each, str) else dict(each) for each in features]
    return [{**each, "name": each.get("name", ""), "description": each.get("description", "")} for each in whole]


def description_errors(spec: ViewSpec) -> dict[str, str]:
    """Field to what is wrong with it ('' for nothing), as far as can be told without reading data."""
    zero = timedelta(0)
    return {
        "features": _features_error(spec),
        "sources": _repeated_error([source.name for source in spec.sources]) or ("" if spec.sources else "Name some."),
        "ttl": "" if spec.ttl is None or spec.ttl > zero else "A value lives longer than zero.",
        "cadence": "" if spec.cadence is None or spec.cadence > zero else "A cadence is longer than zero.",
        "lookback": "" if spec.lookback is None or spec.lookback >= zero else "It can not be negative.",
    }


LONGEST_WINDOW = timedelta(days=366)


def aggregation_errors(
    aggregations: Sequence[Aggregation], *, features: Sequence[str], ttl: timedelta | None, cadence: timedelta | None
) -> dict[str, str]:
    """Field to what is wrong with windows and what stands beside them ('' for nothing). None at all is right."""
    if not aggregations:
        return {}
    names = [each.name for each in aggregations]
    long = [each.name for each in aggregations if each.over > LONGEST_WINDOW]
    return {
        "aggregations": f"{', '.join(long)}: at most {LONGEST_WINDOW.days} days." if long else "",
        "features": ""
        if list(features) == names
        else f"They are the aggregations, in their order: {', '.join(names)}.",
        "ttl": "" if ttl is None else "The windows say what has expired; leave it out.",
        "cadence": "How often the windows are computed is needed." if cadence is None else "",
    }


def aggregations_of(stored: Sequence[Mapping[str, Any]]) -> tuple[Aggregation, ...]:
    """Aggregations as versions keep them (``over`` in seconds). Raises ValueError with what is wrong."""
    return tuple(
        Aggregation(each["name"], each["function"], each.get("column"), timedelta(seconds=each["over"]))
        for each in stored
    )


def unreadable_join_keys(join_keys: Sequence[str]) -> str:
    """What is wrong with an entity's join keys; '' for nothing."""
    if isinstance(join_keys, str) or not join_keys:
        return "Give a list with at least one column name."
    return _repeated_error(join_keys) or _names_error(join_keys)


def names_error(names: Sequence[str]) -> str:
    """What is wrong with the names of features; '' for nothing."""
    return _repeated_error(names) or _names_error(names)


def _features_error(spec: ViewSpec) -> str:
    if not spec.features:
        return "Name at least one."
    return _repeated_error([*spec.join_keys, *spec.features]) or _names_error(spec.features)


def _names_error(names: Sequence[str]) -> str:
    wrong = [name for name in names if not _COLUMN.fullmatch(name) or name.lower() in _TAKEN or name.startswith("__")]
    return f"{', '.join(map(repr, wrong))}: {_ACCEPTED}" if wrong else ""


def _repeated_error(names: Sequence[str]) -> str:
    """SQL does not tell names apart by case, so neither do we."""
    lower = [name.lower() for name in names]
    twice = sorted({name for name in lower if lower.count(name) > 1})
    return f"Named twice (join keys count): {', '.join(twice)}." if twice else ""
