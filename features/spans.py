"""Lengths of time as a person types them: ``6h``, ``90 min``, ``1d 12h``."""

from __future__ import annotations

import re
from datetime import timedelta

_UNITS = {
    "s": 1, "sec": 1, "second": 1, "seconds": 1,
    "m": 60, "min": 60, "minute": 60, "minutes": 60,
    "h": 3_600, "hour": 3_600, "hours": 3_600,
    "d": 86_400, "day": 86_400, "days": 86_400,
    "w": 604_800, "week": 604_800, "weeks": 604_800,
}  # fmt: skip
_PART = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*")
ACCEPTED = "Write a number and a unit (s, min, h, d, w), such as 6h, 90 min or 1d 12h."


def parse_span(text: str) -> timedelta | None:
    """The length, or None of an empty text. Raises ValueError with what would be accepted."""
    rest = text.strip().lower()
    if not rest:
        return None
    if rest == "0":
        return timedelta(0)
    seconds = 0.0
    while rest:
        part = _PART.match(rest)
        if part is None or part[2] not in _UNITS:
            raise ValueError(f"{text!r} is no length of time. {ACCEPTED}")
        seconds += float(part[1]) * _UNITS[part[2]]
        rest = rest[part.end() :]
    return timedelta(seconds=seconds)
