"""The one source of event time."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from django.utils import timezone as wall

from audit import clock
from tests.builders import NOON


def test_now__running__is_the_wall_clock_in_utc() -> None:
    assert abs(clock.now() - wall.now()) < timedelta(seconds=5)
    assert clock.now().tzinfo is UTC


def test_at__inside_the_block__stands_still_and_runs_again_after() -> None:
    with clock.at(NOON):
        with clock.at(NOON + timedelta(days=1)):
            assert clock.now() == NOON + timedelta(days=1)
        assert clock.now() == NOON
    assert clock.now() > NOON + timedelta(days=365)


def test_set_to__a_moment_of_another_zone__is_given_in_utc() -> None:
    clock.set_to(datetime(2013, 4, 1, 8, tzinfo=timezone(timedelta(hours=-4))))

    assert clock.now() == NOON
    assert clock.now().tzinfo is UTC


def test_set_to__a_moment_without_zone__is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        clock.set_to(datetime(2013, 4, 1))


def test_now__started_elsewhere__runs_on_from_there(monkeypatch: pytest.MonkeyPatch) -> None:
    there = datetime(2013, 12, 31, 5, tzinfo=UTC)
    for name, value in clock.starting_at(there).items():
        monkeypatch.setenv(name, value)

    first, second = clock.now(), clock.now()

    assert first.tzinfo is UTC
    assert there <= first < there + timedelta(seconds=30)
    assert second >= first
