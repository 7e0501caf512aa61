"""When an endpoint is frozen: no candidate starts, gets more traffic or is promoted then. Pure.

Two kinds of windows: single ones that the product owner decides (rows), and weekly ones of the plan, told in the local
time of a place. Whenever a clock is put forward or back, a weekly window is rather longer than shorter.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Annotated, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
WEEK = timedelta(days=7)
LONGEST = timedelta(days=730)
"""How far ahead the end of a freeze is looked for: windows that cover every week have none."""


def _zone_known(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, OSError, ValueError) as problem:  # no such zone; a folder of zones; no name at all
        raise ValueError(f"there is no time zone {name!r}; an example: Europe/Amsterdam") from problem
    return name


Moment = Annotated[
    str,
    StringConstraints(pattern=r"^(mon|tue|wed|thu|fri|sat|sun) ([01]\d|2[0-3]):[0-5]\d$"),
]
"""A time of the week, such as "fri 16:00"."""


class WeeklyFreeze(BaseModel):
    """Each week from ``starts`` to the next ``ends``, in the local time of ``zone``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    starts: Moment = Field(description='Such as "fri 16:00".')
    ends: Moment = Field(description='Such as "mon 08:00".')
    zone: Annotated[str, AfterValidator(_zone_known)] = "UTC"
    note: str = ""

    @model_validator(mode="after")
    def _takes_time(self) -> Self:
        if self.starts == self.ends:
            raise ValueError("a weekly freeze ends at another time than it starts")
        return self


@dataclass(frozen=True)
class Span:
    """A stretch of time, its end not included, and what it is for."""

    since: datetime
    until: datetime
    note: str = ""


@dataclass(frozen=True)
class Frozen:
    """An endpoint is frozen until then; ``note`` is that of the window which ends last."""

    until: datetime
    note: str

    def __str__(self) -> str:
        what = f" ({self.note})" if self.note else ""
        return f"frozen until {self.until:%Y-%m-%d %H:%M} UTC{what}"


def frozen(windows: Iterable[Span], weekly: Sequence[WeeklyFreeze], now: datetime) -> Frozen | None:
    """Whether ``now`` lies in a window, and when it ends: windows that overlap or touch are one freeze."""
    single = list(windows)
    until, note = now, ""
    while until - now < LONGEST:
        around = [*single, *occurrences(weekly, until, until + timedelta(microseconds=1))]
        last = max(
            (each for each in around if each.since <= until < each.until), key=lambda each: each.until, default=None
        )
        if last is None:
            break
        until, note = last.until, last.note
    return Frozen(until, note) if until > now else None


def occurrences(weekly: Iterable[WeeklyFreeze], since: datetime, until: datetime) -> list[Span]:
    """When the weekly windows were or will be, as far as they touch the time from ``since`` to ``until``."""
    found = []
    for each in weekly:
        zone = ZoneInfo(each.zone)
        day = (since.astimezone(zone) - 2 * WEEK).date()
        day += timedelta(days=(_weekday(each.starts) - day.weekday()) % 7)
        length = timedelta(days=(_weekday(each.ends) - _weekday(each.starts)) % 7)
        if not length and _clock(each.ends) < _clock(each.starts):
            length = WEEK
        last = until.astimezone(zone).date()
        while day <= last:
            span = Span(
                min(_moments(datetime.combine(day, _clock(each.starts)), zone)),
                max(_moments(datetime.combine(day + length, _clock(each.ends)), zone)),
                each.note,
            )
            if span.since < until and span.until > since:
                found.append(span)
            day += WEEK
    return found


def covered(spans: Iterable[Span], since: datetime, until: datetime) -> timedelta:
    """How much of the time from ``since`` to ``until`` lies in at least one of the spans."""
    total, reached = timedelta(0), since
    for span in sorted(spans, key=lambda each: each.since):
        begin, end = max(span.since, reached), min(span.until, until)
        if end > begin:
            total += end - begin
            reached = end
    return total


def _weekday(moment: str) -> int:
    return DAYS.index(moment[:3])


def _clock(moment: str) -> time:
    return time.fromisoformat(moment[4:])


def _moments(local: datetime, zone: ZoneInfo) -> list[datetime]:
    """The two readings of a local time, which are one but for the hours in which the clock is changed."""
    return [local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)]
