"""How a definition reads: its SQL laid out, its settings in words, and what changed between two versions of a view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from difflib import unified_diff
from functools import lru_cache
from typing import Any

import sqlglot
from sqlglot.errors import SqlglotError

CONTEXT = 3
"""Unchanged lines around each change."""


@dataclass(frozen=True)
class Line:
    """One line of a comparison; ``tone`` is added, removed, same or gap."""

    tone: str
    text: str

    @property
    def mark(self) -> str:
        """What tells the tones apart without colour."""
        return {"added": "+", "removed": "−", "gap": "…"}.get(self.tone, " ")


@dataclass(frozen=True)
class Definition:
    """What a version means, as text. ``settings`` are name and value in the order a person reads them."""

    expression: str
    settings: tuple[tuple[str, str], ...]
    features: tuple[str, ...]

    @property
    def lines(self) -> tuple[str, ...]:
        settings = [f"{name}: {value}" for name, value in self.settings]
        features = [f"feature {each}" for each in self.features]
        return (*settings, *features, *self.expression.splitlines())


def definition(version: Any, sources: Sequence[str]) -> Definition:
    """The text of a ``FeatureViewVersion`` that reads the sources of these names."""
    settings = (
        ("reads", ", ".join(sorted(sources)) or "nothing"),
        ("event time", version.event_timestamp),
        ("known at", version.known_at),
        ("lives", span(version.ttl) if version.ttl else "for ever"),
        ("materialized every", span(version.cadence) if version.cadence else "time it is due"),
        ("looks back", _lookback(version.lookback)),
        ("language", version.get_language_display()),
    )
    windows = {each["name"]: aggregation(each) for each in version.aggregations}
    features = tuple(
        f"{each['name']}: {each.get('dtype', '')}" + (f" = {windows[each['name']]}" if each["name"] in windows else "")
        for each in version.features
    )
    return Definition(formatted(version.expression), settings, features)


def _lookback(lookback: timedelta | None) -> str:
    if lookback is None:
        return "over everything"
    return span(lookback) if lookback else "no further than the row itself"


def aggregation(described: Mapping[str, Any]) -> str:
    """An aggregation in words: ``mean(dep_delay) over 6 hours``."""
    column = described.get("column") or "*"
    return f"{described.get('function')}({column}) over {span(timedelta(seconds=float(described.get('over', 0))))}"


@lru_cache(maxsize=512)
def formatted(expression: str) -> str:
    """The SQL with one clause a line; as it was typed where it can not be parsed."""
    try:
        return sqlglot.transpile(expression, read="duckdb", write="duckdb", pretty=True)[0]
    except (SqlglotError, IndexError):
        return expression.strip()


def changes(before: Definition, after: Definition) -> list[Line]:
    """The lines that differ between two definitions, with a little around them; empty when they read the same."""
    found = list(unified_diff(before.lines, after.lines, lineterm="", n=CONTEXT))[2:]
    tones = {"+": "added", "-": "removed", " ": "same", "@": "gap"}
    lines = [Line(tones[each[0]], "" if each[0] == "@" else each[1:]) for each in found]
    return lines[1:] if lines and lines[0].tone == "gap" else lines


def span(length: timedelta) -> str:
    """A length of time in the largest units that say it exactly: ``1 day 12 hours``."""
    seconds = length.total_seconds()
    if seconds == 0:
        return "0"
    parts = []
    left = abs(seconds)
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count:.0f} {unit}{'s' if count != 1 else ''}")
    if left:
        parts.append(f"{left:g} second{'s' if left != 1 else ''}")
    return ("−" if seconds < 0 else "") + " ".join(parts)
