"""When an endpoint is frozen, also over the nights in which clocks are changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from rollout.freezes import Frozen, Span, WeeklyFreeze, covered, frozen, occurrences

NOON = datetime(2013, 4, 1, 12, tzinfo=UTC)  # a Monday
HOUR = timedelta(hours=1)
WEEKEND = WeeklyFreeze(starts="fri 16:00", ends="mon 08:00", zone="Europe/Amsterdam", note="Nobody is here.")


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]  # year, month, day, …


# ---------------------------------------------------------------------- single windows


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (NOON - HOUR, None),
        (NOON, Frozen(NOON + 2 * HOUR, "Sale.")),
        (NOON + HOUR, Frozen(NOON + 2 * HOUR, "Sale.")),
        (NOON + 2 * HOUR, None),
    ],
)
def test_frozen__one_window__from_its_start_to_just_before_its_end(moment: datetime, expected: Frozen | None) -> None:
    assert frozen([Span(NOON, NOON + 2 * HOUR, "Sale.")], [], moment) == expected


def test_frozen__windows_that_overlap_or_touch__are_one_freeze() -> None:
    windows = [
        Span(NOON + 3 * HOUR, NOON + 5 * HOUR, "Last."),
        Span(NOON, NOON + 2 * HOUR),
        Span(NOON + HOUR, NOON + 3 * HOUR),
        Span(NOON + 6 * HOUR, NOON + 7 * HOUR, "Another one."),
    ]
    assert frozen(windows, [], NOON) == Frozen(NOON + 5 * HOUR, "Last.")


def test_frozen__windows_of_a_year__end_with_the_last_weekend() -> None:
    christmas = Span(utc(2013, 12, 20), utc(2013, 12, 28), "Christmas.")  # it ends on a Saturday
    assert frozen([christmas], [WEEKEND], utc(2013, 12, 24)) == Frozen(utc(2013, 12, 30, 7), "Nobody is here.")


def test_frozen__weeks_without_a_gap__do_not_keep_it_looking_for_ever() -> None:
    always = [WeeklyFreeze(starts="mon 00:00", ends="thu 00:00"), WeeklyFreeze(starts="thu 00:00", ends="mon 00:00")]
    found = frozen([], always, NOON)
    assert found is not None
    assert found.until - NOON > timedelta(days=700)


def test_frozen__in_words__says_until_when_and_why() -> None:
    assert str(Frozen(NOON, "Sale.")) == "frozen until 2013-04-01 12:00 UTC (Sale.)"
    assert str(Frozen(NOON, "")) == "frozen until 2013-04-01 12:00 UTC"


# ---------------------------------------------------------------------- weekly windows


@pytest.mark.parametrize(
    ("moment", "is_frozen"),
    [
        (utc(2013, 7, 5, 13, 59), False),  # Friday 15:59 in Amsterdam
        (utc(2013, 7, 5, 14, 0), True),
        (utc(2013, 7, 7, 12, 0), True),
        (utc(2013, 7, 8, 5, 59), True),
        (utc(2013, 7, 8, 6, 0), False),  # Monday 08:00
        (utc(2013, 1, 4, 14, 59), False),  # in winter an hour later by UTC
        (utc(2013, 1, 4, 15, 0), True),
        (utc(2013, 1, 7, 6, 59), True),
        (utc(2013, 1, 7, 7, 0), False),
    ],
)
def test_weekly__a_weekend_in_amsterdam__follows_its_clocks(moment: datetime, is_frozen: bool) -> None:
    assert (frozen([], [WEEKEND], moment) is not None) == is_frozen


@pytest.mark.parametrize(
    ("weekend", "hours"),
    [
        (utc(2013, 3, 31), 63),  # clocks put forward
        (utc(2013, 4, 7), 64),
        (utc(2013, 10, 27), 65),  # clocks put back
    ],
)
def test_weekly__over_a_change_of_the_clocks__is_an_hour_shorter_or_longer(weekend: datetime, hours: int) -> None:
    (span,) = occurrences([WEEKEND], weekend, weekend + HOUR)
    assert span.until - span.since == hours * HOUR


def test_weekly__a_time_that_comes_twice__starts_with_the_first_and_ends_with_the_second() -> None:
    night = utc(2013, 10, 27)  # Sunday; 02:30 is 00:30 and 01:30 by UTC
    starts = WeeklyFreeze(starts="sun 02:30", ends="sun 12:00", zone="Europe/Amsterdam")
    ends = WeeklyFreeze(starts="sat 12:00", ends="sun 02:30", zone="Europe/Amsterdam")
    assert occurrences([starts], night, night + 9 * HOUR)[0].since == utc(2013, 10, 27, 0, 30)
    assert occurrences([ends], night, night + HOUR)[0].until == utc(2013, 10, 27, 1, 30)


def test_weekly__a_time_that_does_not_come__makes_the_freeze_rather_longer() -> None:
    night = utc(2013, 3, 31)  # Sunday; from 02:00 the clock goes to 03:00, at 01:00 by UTC
    starts = WeeklyFreeze(starts="sun 02:30", ends="sun 12:00", zone="Europe/Amsterdam")
    ends = WeeklyFreeze(starts="sat 12:00", ends="sun 02:30", zone="Europe/Amsterdam")
    assert occurrences([starts], night, night + 9 * HOUR)[0].since <= utc(2013, 3, 31, 1)
    assert occurrences([ends], night, night + HOUR)[0].until >= utc(2013, 3, 31, 1)


def test_weekly__ends_earlier_on_the_day_it_starts__lasts_nearly_a_week() -> None:
    nearly = WeeklyFreeze(starts="mon 10:00", ends="mon 09:00")
    assert frozen([], [nearly], NOON) == Frozen(utc(2013, 4, 8, 9), "")
    assert frozen([], [nearly], utc(2013, 4, 8, 9, 30)) is None


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago", "Asia/Kathmandu", "UTC"])
@pytest.mark.parametrize("starts", ["sun 23:59", "mon 00:00"])
def test_weekly__any_zone__is_found_at_every_minute_of_itself_and_no_other(zone: str, starts: str) -> None:
    weekly = WeeklyFreeze(starts=starts, ends="mon 01:00", zone=zone)
    spans = occurrences([weekly], NOON - timedelta(days=30), NOON + timedelta(days=30))
    assert len(spans) in (8, 9)
    for span in spans:
        assert frozen([], [weekly], span.since) == Frozen(span.until, "")
        assert frozen([], [weekly], span.until - timedelta(microseconds=1)) == Frozen(span.until, "")
        assert frozen([], [weekly], span.since - timedelta(microseconds=1)) is None
        assert frozen([], [weekly], span.until) is None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"zone": "Mars/Base"}, "no time zone 'Mars/Base'"),
        ({"zone": "../etc/passwd"}, "no time zone"),
        ({"zone": ""}, "no time zone"),
        ({"starts": "friday 16:00"}, "match pattern"),
        ({"starts": "fri 24:00"}, "match pattern"),
        ({"ends": "fri 16:00"}, "another time"),
        ({"until": "mon 08:00"}, "Extra inputs"),
    ],
)
def test_weekly__what_is_no_window__is_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        WeeklyFreeze.model_validate({"starts": "fri 16:00", "ends": "mon 08:00", **changed})


# ---------------------------------------------------------------------- time that is covered


def test_covered__spans_that_overlap__count_once_and_only_inside() -> None:
    spans = [
        Span(NOON + 2 * HOUR, NOON + 4 * HOUR),
        Span(NOON - 5 * HOUR, NOON + HOUR),
        Span(NOON + 3 * HOUR, NOON + 5 * HOUR),
        Span(NOON + 9 * HOUR, NOON + 30 * HOUR),
        Span(NOON + 50 * HOUR, NOON + 60 * HOUR),
        Span(NOON + 7 * HOUR, NOON + 6 * HOUR),  # called off before it began
    ]
    assert covered(spans, NOON, NOON + 10 * HOUR) == 5 * HOUR
    assert covered([], NOON, NOON + HOUR) == timedelta(0)
