from datetime import UTC, datetime, timedelta

from monitoring.windows import CATCH_UP, Window, closed

SINCE = datetime(2013, 4, 3, 9, tzinfo=UTC)
WEEK = timedelta(days=7)


def test_closed__a_moment_before_the_first_week_is_over__is_none() -> None:
    assert closed(since=SINCE, now=SINCE + WEEK - timedelta(seconds=1), length=WEEK, after=None) == []


def test_closed__exactly_after_a_week__is_the_first_window() -> None:
    assert closed(since=SINCE, now=SINCE + WEEK, length=WEEK, after=None) == [Window(SINCE, SINCE + WEEK)]


def test_closed__first_one_judged__leaves_the_second() -> None:
    found = closed(since=SINCE, now=SINCE + 2 * WEEK, length=WEEK, after=SINCE + WEEK)
    assert found == [Window(SINCE + WEEK, SINCE + 2 * WEEK)]


def test_closed__outcomes_have_not_arrived__waits_for_them() -> None:
    now = SINCE + WEEK + timedelta(hours=35)
    assert closed(since=SINCE, now=now, length=WEEK, after=None, settle=timedelta(hours=36)) == []
    assert closed(since=SINCE, now=now + timedelta(hours=1), length=WEEK, after=None, settle=timedelta(hours=36))


def test_closed__long_silence__judges_the_newest_windows_only() -> None:
    found = closed(since=SINCE, now=SINCE + 30 * WEEK, length=WEEK, after=None)
    assert len(found) == CATCH_UP
    assert found[-1].end == SINCE + 30 * WEEK


def test_closed__judged_in_an_earlier_reign__starts_anew() -> None:
    assert closed(since=SINCE, now=SINCE + WEEK, length=WEEK, after=SINCE - 5 * WEEK) == [Window(SINCE, SINCE + WEEK)]
