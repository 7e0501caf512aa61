"""Frozen evidence (a JSON object) as rows of name and text that a person can read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def readable(evidence: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Rows of name and value; nested names are joined by a dot, entries of a list of objects get a row each."""
    return list(_rows("", evidence))


def _rows(prefix: str, evidence: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in evidence.items():
        title = f"{prefix} · {_words(name)}" if prefix else _words(name)
        if isinstance(value, Mapping):
            yield from _rows(title, value)
        elif _is_list(value) and any(isinstance(item, Mapping) for item in value):
            for position, item in enumerate(value, start=1):
                yield f"{title} {position}", _phrase(item)
        else:
            yield title, _phrase(value)


def _words(name: str) -> str:
    return str(name).replace("_", " ")


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _phrase(value: Any) -> str:
    """One value in one line: numbers to four digits, objects as ``name: value`` pairs."""
    if isinstance(value, Mapping):
        pairs = ((name, _phrase(inner)) for name, inner in value.items())
        return ", ".join(f"{_words(name)}: {text}" for name, text in pairs if text != "—")
    if _is_list(value):
        return "; ".join(_phrase(item) for item in value) or "—"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "—" if value is None or value == "" else str(value)
