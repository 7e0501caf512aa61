"""How old joined values were: each view's own event times, windows by their slot."""

from datetime import timedelta

import numpy as np
import pytest

from engines.offline import Aggregation
from features.ages import joined_ages
from features.models import FeatureView
from tests.features.store import HOUR, asked, at, published, reading, service, source

pytestmark = pytest.mark.django_db


def test_joined_ages__values__are_as_old_as_their_events() -> None:
    published(source([reading(1), reading(5)]))
    (ages,) = joined_ages(service(), asked(at(0), at(2), at(5), at(9), None), timestamp="asked", as_of=at(20))

    assert np.array_equal(ages.seconds / 3600, [np.nan, 1, 0, 4, np.nan], equal_nan=True)
    assert (ages.known, ages.stale, ages.expired, ages.promise) == (3, 0, 0, None)


def test_joined_ages__late_arrival__is_not_known_before_it_came() -> None:
    published(source([reading(1), reading(5, arrived=at(8))]))
    (ages,) = joined_ages(service(), asked(at(6), at(9)), timestamp="asked", as_of=at(20))

    assert list(ages.seconds / 3600) == [5, 4]


def test_joined_ages__promise_and_ttl__tell_stale_from_expired() -> None:
    published(source([reading(1)]), ttl=6 * HOUR)
    FeatureView.objects.update(freshness=2 * HOUR)
    (ages,) = joined_ages(service(), asked(at(2), at(4), at(9)), timestamp="asked", as_of=at(20))

    assert (ages.known, ages.stale, ages.expired) == (3, 2, 1)


def test_joined_ages__cadence__counts_from_what_the_store_would_have_held() -> None:
    published(source([reading(1), reading(5)]), cadence=4 * HOUR)
    (ages,) = joined_ages(service(), asked(at(7)), timestamp="asked", as_of=at(20))

    assert list(ages.seconds / 3600) == [6]  # at 7 the store stood at 4


def test_joined_ages__shared_table_and_a_group__can_be_asked_too() -> None:
    published(
        source([reading(1), reading(5)]),
        expression=(
            "WITH newest AS (SELECT origin, carrier, max(happened) AS happened FROM readings GROUP BY origin, carrier) "
            "SELECT origin, carrier, happened, happened AS arrived, 1 AS temp FROM newest"
        ),
        features=["temp"],
        lookback=None,
    )
    (ages,) = joined_ages(service(), asked(at(7)), timestamp="asked", as_of=at(20))

    assert list(ages.seconds / 3600) == [2]


def test_joined_ages__windows__are_of_their_slot() -> None:
    published(
        source([reading(1)]),
        features=["temps"],
        cadence=4 * HOUR,
        aggregations=[Aggregation("temps", "count", "temp", 24 * HOUR)],
        expression="SELECT origin, carrier, happened, arrived, temp FROM readings",
    )
    (ages,) = joined_ages(service("weather.temps"), asked(at(7)), timestamp="asked", as_of=at(20))

    assert ages.seconds.tolist() == [timedelta(hours=3).total_seconds()]
