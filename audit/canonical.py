"""What of an event is sealed, as bytes that are the same whichever database it was read back from. No Django.

The content is a JSON list in a fixed order, with sorted keys inside ``data`` and times in UTC to the microsecond.
PostgreSQL keeps JSON as numbers, not as text: 1e22 comes back as 10000000000000000000000 and -0.0 as 0.0. So a float
that fits 64 bits counts as the integer that its digits spell, once it is too large to be written with a point.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from typing import Any

import orjson

_UNUSUAL = re.compile(r"[ :\[,]-0|\de\+")
_SMALLEST, _LARGEST = -(2**63), 2**64
"""Integers that JSON parsers agree about."""


def content(values: list[Any], data: str) -> bytes:
    """The sealed bytes of ``values`` (texts, integers, None) and of ``data``, a JSON text as a database gives it.

    Raises ValueError for what is no JSON (NaN, half a surrogate pair).
    """
    parsed = orjson.loads(data)
    # Two quick looks before the slow one: this runs 100,000 times a second.
    if ("e+" in data or "-0" in data) and _UNUSUAL.search(data):
        parsed = _plain(parsed)
    return orjson.dumps([*values, parsed], option=orjson.OPT_SORT_KEYS)


def digest(values: list[Any], data: str) -> str:
    """SHA-256 of ``content``, hexadecimal."""
    return sha256(content(values, data)).hexdigest()


def as_text(data: Mapping[str, Any]) -> str:
    """``data`` as JSON. Raises ValueError for NaN and the infinite."""
    return json.dumps(data, allow_nan=False)


def require_keepable(data: Mapping[str, Any]) -> None:
    """Raise ValueError for what would not come back as it was written: NaN, integers beyond 64 bits."""
    json.loads(as_text(data), parse_int=_bounded)


def moment(at: datetime) -> str:
    """An aware time as both databases tell it to us: ``2013-04-01 12:00:00.000000``, UTC."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


def link(before: str, event_id: int, digest: str) -> str:
    """The hash of a link, hexadecimal: SHA-256 of the hash before, the event's id and its digest."""
    return sha256(f"{before}:{event_id}:{digest}".encode()).hexdigest()


def _bounded(text: str) -> int:
    number = int(text)
    if not _SMALLEST <= number < _LARGEST:
        raise ValueError(f"The integer {text[:24]} has more than 64 bits: write it as a text.")
    return number


def _plain(value: Any) -> Any:
    """The value with numbers as both databases tell them."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, float) and value == 0:
        return 0.0
    if isinstance(value, float) and abs(value) >= 1e16 and _SMALLEST <= value < _LARGEST:
        return int(Decimal(repr(value)))  # the digits that were written, not those of the nearest double
    return value
