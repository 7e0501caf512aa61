"""What a report is made of: fields, each with where its value comes from and what proves it. No Django.

``system``: Gatehouse wrote it down when it happened. ``person``: somebody's words, from the model card. ``missing``:
nobody said it, and it is shown as *not stated* (a person's to say) or *unverified* (the record's to know).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

SYSTEM: Literal["system"] = "system"
PERSON: Literal["person"] = "person"
MISSING: Literal["missing"] = "missing"
NOT_STATED = "not stated"
UNVERIFIED = "unverified"

Source = Literal["system", "person", "missing"]


@dataclass(frozen=True)
class Field:
    """``value``: a text, number, truth value, list of texts, or a table. ``evidence``: ``event:12``, ``sha256:…``."""

    key: str
    label: str
    value: Any
    source: Source
    evidence: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "label": self.label,
            "value": writable(self.value),
            "source": self.source,
            "evidence": list(self.evidence),
        }


@dataclass(frozen=True)
class Section:
    """``evidence_for``: the requirements that the section is evidence for, by principle."""

    key: str
    title: str
    evidence_for: tuple[str, ...]
    fields: tuple[Field, ...]

    def as_dict(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "title": self.title,
            "evidence_for": list(self.evidence_for),
            "fields": [field.as_dict() for field in self.fields],
        }


def told(key: str, label: str, value: Any, evidence: Iterable[str] = ()) -> Field:
    """A field that the system fills; *unverified* when the record does not know."""
    if value is None or value == "":
        return Field(key, label, UNVERIFIED, MISSING)
    return Field(key, label, value, SYSTEM, distinct(evidence))


def said(key: str, label: str, value: Any, evidence: Iterable[str] = ()) -> Field:
    """A field that a person fills; *not stated* when nobody did."""
    if value is None or value == "":
        return Field(key, label, NOT_STATED, MISSING)
    return Field(key, label, value, PERSON, distinct(evidence))


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, none: str) -> Any:
    """A table of plain cells; the text ``none`` where there is no row."""
    cells = [[cell(each) for each in row] for row in rows]
    return {"columns": list(columns), "rows": cells} if cells else none


def pairs(values: Mapping[str, Any], *, names: tuple[str, str] = ("Name", "Value"), none: str) -> Any:
    """A nested mapping as a table of dotted names and values, by name."""
    return table(names, sorted(_flat(values, ""), key=lambda each: each[0]), none=none) if values else none


def _flat(value: Any, path: str) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        return [found for name in value for found in _flat(value[name], f"{path}.{name}" if path else str(name))]
    return [(path, value)]


def cell(value: Any) -> Any:
    """What a cell shows: numbers stay numbers, the rest becomes text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float | str):
        return number(value) if isinstance(value, int | float) else value
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, timedelta):
        return duration(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {cell(value[name])}" for name in sorted(value, key=str))
    return ", ".join(str(cell(each)) for each in value)


EXACT = 2**53


def number(value: float) -> Any:
    """Integers that a double can not hold become text."""
    return str(value) if isinstance(value, int) and abs(value) >= EXACT else value


def writable(value: Any) -> Any:
    """The value as RFC 8785 can write it, whatever somebody put into a name: numbers too large and half characters
    become text that says what they are."""
    if isinstance(value, dict):
        return {name: writable(each) for name, each in value.items()}
    if isinstance(value, list):
        return [writable(each) for each in value]
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return number(value) if isinstance(value, int) and not isinstance(value, bool) else value


def moment(at: datetime | None) -> str | None:
    """UTC to the second, ISO 8601."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if at else None


def duration(span: timedelta | None) -> str | None:
    """For a person: the two largest units."""
    if span is None:
        return None
    seconds = int(span.total_seconds())
    if seconds < 0:
        return f"-{duration(-span)}"
    parts = [(seconds // 86_400, "d"), (seconds // 3600 % 24, "h"), (seconds // 60 % 60, "min"), (seconds % 60, "s")]
    first = next((at for at, (count, _) in enumerate(parts) if count), len(parts) - 1)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count or first == len(parts) - 1)


def distinct(evidence: Iterable[str]) -> tuple[str, ...]:
    """Each once, in the order given."""
    return tuple(dict.fromkeys(evidence))


def completeness(sections: Sequence[Section]) -> dict[str, Any]:
    """How many fields each source fills, in all and by section; ``system_share`` of all fields, in [0, 1]."""
    counted = {section.key: _counts(section.fields) for section in sections}
    total = _counts([field for section in sections for field in section.fields])
    return {**total, "by_section": counted}


def _counts(fields: Sequence[Field]) -> dict[str, Any]:
    sources = [field.source for field in fields]
    counts: dict[str, Any] = {source: sources.count(source) for source in (SYSTEM, PERSON, MISSING)}
    share = round(counts[SYSTEM] / len(fields), 4) if fields else 0.0
    return {"fields": len(fields), **counts, "system_share": share}
