from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from registry.windows import WindowError, holdout_period, training_period

NOW = datetime(2013, 6, 1, tzinfo=UTC)
FIRST = datetime(2013, 1, 1, tzinfo=UTC)


def period(window: dict[str, Any]) -> tuple[datetime, datetime]:
    return training_period(window, now=NOW, holdout_days=14, first=FIRST)


def test_training_period__expanding__runs_from_the_first_data_to_the_holdout() -> None:
    assert period({"name": "expanding"}) == (FIRST, NOW - timedelta(days=14))


def test_training_period__expanding_from_a_start__starts_there() -> None:
    assert period({"name": "expanding", "start": "2013-02-01"})[0] == datetime(2013, 2, 1, tzinfo=UTC)


def test_training_period__days__are_the_newest_before_the_holdout() -> None:
    assert period({"name": "last-month", "days": 28}) == (NOW - timedelta(days=42), NOW - timedelta(days=14))


def test_training_period__more_days_than_there_are__starts_at_the_first() -> None:
    assert period({"name": "long", "days": 1000})[0] == FIRST


def test_training_period__explicit__is_taken() -> None:
    window = {"name": "winter", "start": "2013-01-15T00:00:00+00:00", "end": "2013-03-01T00:00:00+01:00"}
    assert period(window) == (datetime(2013, 1, 15, tzinfo=UTC), datetime(2013, 2, 28, 23, tzinfo=UTC))


def test_training_period__end_inside_the_holdout__is_refused_naming_the_latest_end() -> None:
    with pytest.raises(WindowError, match="2013-05-18 00:00 at the latest"):
        period({"name": "greedy", "start": "2013-01-01", "end": "2013-05-30"})


def test_training_period__nothing_before_the_holdout__is_refused() -> None:
    with pytest.raises(WindowError, match="no data"):
        period({"name": "expanding", "start": "2013-05-25"})


@pytest.mark.parametrize(
    "window",
    [
        {},
        {"name": ""},
        {"name": "last-month"},
        {"name": "x", "days": 0},
        {"name": "x", "days": True},
        {"name": "x", "days": 3, "start": "2013-01-01"},
        {"name": "x", "start": "yesterday"},
        {"name": "x", "start": "2013-02-01", "end": "2013-01-01"},
        {"name": "x", "end": "2013-01-01"},
    ],
)
def test_training_period__window_without_meaning__is_refused(window: dict[str, Any]) -> None:
    with pytest.raises(WindowError):
        period(window)


def test_holdout_period__always__is_what_training_leaves() -> None:
    assert holdout_period(now=NOW, holdout_days=14) == (period({"name": "expanding"})[1], NOW)
