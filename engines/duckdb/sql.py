"""Pieces of DuckDB's SQL: names, and times of every kind of timestamp column."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# Nanoseconds since 1970 fit into 64 bits only from 1678 to 2261.
_NANO_FIRST = datetime(1678, 1, 1, tzinfo=UTC)
_NANO_LAST = datetime(2262, 1, 1, tzinfo=UTC)
_FIRST = datetime(1, 1, 1, tzinfo=UTC)
_LAST = datetime(9999, 12, 31, tzinfo=UTC)


def quoted(name: str) -> str:
    """A name that may hold anything."""
    return '"' + name.replace('"', '""') + '"'


def listed(names: Iterable[str], table: str | None = None) -> str:
    """Names, each of the table if one is given, for a SELECT list or an ORDER BY."""
    prefix = f"{table}." if table else ""
    return ", ".join(prefix + quoted(name) for name in names)


def quoted_text(text: str) -> str:
    """A string literal."""
    return "'" + text.replace("'", "''") + "'"


def epoch_us(moment: datetime) -> int:
    """Microseconds since 1970 UTC of an aware datetime. Raises ValueError for a naive one."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment!r} has no time zone; pass an aware datetime")
    return span_us(moment - _EPOCH)


def span_us(span: timedelta) -> int:
    """A length of time in microseconds."""
    return span // _MICROSECOND


def timestamp(moment: datetime) -> str:
    """An aware datetime as SQL, in naive UTC."""
    return f"make_timestamp({epoch_us(moment)})"


def from_raw(column: str, type_: str) -> str:
    """SQL that brings a column of any type of timestamp to naive UTC microseconds; other columns as they are.

    No cast from a zoned type, which would go through the session's time zone.
    """
    if type_ == "TIMESTAMP WITH TIME ZONE":
        return f"make_timestamp(epoch_us({column}))"
    if type_ == "TIMESTAMPTZ_NS":
        return f"CAST(make_timestamp_ns(epoch_ns({column})) AS TIMESTAMP)"
    if type_.startswith("TIMESTAMP") and type_ != "TIMESTAMP":
        return f"CAST({column} AS TIMESTAMP)"
    return column


def not_before(column: str, type_: str, low: int) -> str | None:
    """SQL condition in the column's own type that it is not before ``low`` (microseconds).

    Written so that readers of Parquet can skip row groups by their statistics. It may let through more, never less.
    """
    first, last = _range(type_)
    if low < epoch_us(first):
        return None
    return f"{column} >= {_literal(min(low, epoch_us(last)), type_)}"


def not_after(column: str, type_: str, high: int) -> str | None:
    """The same that it is not after ``high``."""
    first, last = _range(type_)
    if high >= epoch_us(last):
        return None
    # less than the next microsecond: a finer column is cut to microseconds, and so may lie above this one
    return f"{column} < {_literal(max(high, epoch_us(first)) + 1, type_)}"


def _range(type_: str) -> tuple[datetime, datetime]:
    return (_NANO_FIRST, _NANO_LAST) if type_.endswith("_NS") else (_FIRST, _LAST)


def _literal(microseconds: int, type_: str) -> str:
    moment = (_EPOCH + microseconds * _MICROSECOND).replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")
    zone = "+00" if "TZ" in type_ or "ZONE" in type_ else ""
    # seconds and milliseconds would cut the literal, so there the column is widened instead
    return f"'{moment}{zone}'::{'TIMESTAMP' if type_ in ('TIMESTAMP_S', 'TIMESTAMP_MS') else type_}"
