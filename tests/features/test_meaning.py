"""Slots of materialization."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from features.meaning import slot


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (datetime(2013, 4, 1, 2, 59, 59, 999999, UTC), datetime(2013, 4, 1, 0, tzinfo=UTC)),
        (datetime(2013, 4, 1, 3, tzinfo=UTC), datetime(2013, 4, 1, 3, tzinfo=UTC)),
        (datetime(1969, 12, 31, 23, tzinfo=UTC), datetime(1969, 12, 31, 21, tzinfo=UTC)),
    ],
)
def test_slot__cadence_of_three_hours__is_the_last_multiple_since_1970(now: datetime, expected: datetime) -> None:
    assert slot(now, timedelta(hours=3)) == expected


def test_slot__without_cadence__is_now() -> None:
    now = datetime(2013, 4, 1, 2, 59, tzinfo=UTC)
    assert slot(now, None) == now
