"""The one place where edges get the time from. A replay sets it; rules get it as an argument ``now``.

``GATEHOUSE_CLOCK_OFFSET`` (seconds, usually negative) shifts the clock of a process: a portal that is served after a
replay goes on living in the replay's year, and all its processes agree on the time, also after a restart.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from django.utils import timezone

OFFSET = "GATEHOUSE_CLOCK_OFFSET"
_frozen: datetime | None = None


def now() -> datetime:
    """The current event time, in UTC."""
    if _frozen is not None:
        return _frozen
    return timezone.now() + timedelta(seconds=float(os.environ.get(OFFSET, "0")))


def starting_at(moment: datetime) -> dict[str, str]:
    """The environment that lets a process live on from ``moment``."""
    return {OFFSET: str((moment - timezone.now()).total_seconds())}


def set_to(moment: datetime | None) -> None:
    """Stop the clock of this process at ``moment`` (None: let it run again). For replays and tests only."""
    global _frozen
    if moment is not None and moment.tzinfo is None:
        raise ValueError("moment must carry a time zone")
    _frozen = None if moment is None else moment.astimezone(UTC)


@contextmanager
def at(moment: datetime) -> Iterator[None]:
    """The clock stands at ``moment`` inside the block."""
    before = _frozen
    set_to(moment)
    try:
        yield
    finally:
        set_to(before)
