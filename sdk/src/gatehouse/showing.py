"""How answers look in a notebook: plain tables, every text escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime
from html import escape
from typing import Any, TypeVar

T = TypeVar("T")

LONGEST = 300
"""Characters of a value that a cell shows."""


class Shown:
    """A dataclass that a notebook shows as a table of its fields."""

    def _repr_html_(self) -> str:
        names = [field.name for field in fields(self)]  # type: ignore[arg-type]  # every subclass is a dataclass
        rows = [(name, getattr(self, name)) for name in names if getattr(self, name) not in (None, "", ())]
        return f"<b>{escape(type(self).__name__)}</b>{table((), rows)}"


class Rows(list[T]):
    """A list of answers that a notebook shows as one table."""

    def _repr_html_(self) -> str:
        if not self or not is_dataclass(self[0]):
            return escape(repr(list(self)))
        names = [field.name for field in fields(self[0])]
        told = [name for name in names if any(_is_short(getattr(row, name)) for row in self)]
        return table(told, [[getattr(row, name) for name in told] for row in self])


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """An HTML table; without ``heads`` the first cell of each row is its head."""
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    lines = [f"<thead><tr>{head}</tr></thead>"] if heads else []
    for row in rows:
        first, *rest = row
        lead = f"<td>{cell(first)}</td>" if heads else f"<th>{cell(first)}</th>"
        lines.append("<tr>" + lead + "".join(f"<td>{cell(value)}</td>" for value in rest) + "</tr>")
    return f"<table>{''.join(lines)}</table>"


def cell(value: Any) -> str:
    """A value as text for HTML."""
    return escape(said(value))


def said(value: Any) -> str:
    """A value for a person: short, times in ISO, mappings as name: value."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        text = ", ".join(f"{name}: {said(each)}" for name, each in value.items())
    elif isinstance(value, tuple | list):
        text = ", ".join(said(each) for each in value)
    else:
        text = str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _is_short(value: Any) -> bool:
    return value is not None and not isinstance(value, Mapping) and not (isinstance(value, tuple) and not value)
