"""Which windows of a champion's service have closed. They count from the moment it became champion (event time)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

CATCH_UP = 12
"""After a long silence only so many newest windows are judged; older ones would change nothing any more."""


@dataclass(frozen=True)
class Window:
    """Predictions with ``start`` <= event time < ``end``."""

    start: datetime
    end: datetime

    def __str__(self) -> str:
        return f"{self.start:%Y-%m-%d} to {self.end:%Y-%m-%d}"


def closed(
    *, since: datetime, now: datetime, length: timedelta, after: datetime | None, settle: timedelta = timedelta(0)
) -> list[Window]:
    """Windows that closed by ``now``, oldest first, whose end lies beyond ``after`` (the last judged end; None: all).

    ``settle`` is how long after its end a window may be judged: the time outcomes need to arrive.
    """
    first = 0 if after is None else max(0, (after - since) // length)
    until = (now - settle - since) // length
    return [Window(since + k * length, since + (k + 1) * length) for k in range(first, until)][-CATCH_UP:]
