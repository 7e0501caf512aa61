"""What is kept of the online store each day: coverage by TTL, lag, distributions, bounded memory and history."""

from __future__ import annotations

from datetime import timedelta

import pytest

from features import actions, statistics
from features.materialize import materialize
from features.models import FeatureStatistics
from tests.builders import NOON, ROBOT
from tests.features.store import HOUR, applied, at, published, reading, source

pytestmark = pytest.mark.django_db


def test_describe__values_past_their_ttl__are_counted_but_not_described() -> None:
    rows = [reading(0, origin="EWR", temp=1.0), reading(8, origin="JFK", temp=None), reading(9, origin="LGA", temp=3.0)]
    version = published(source(rows), ttl=6 * HOUR)
    run = materialize(version, now=at(10))
    assert run is not None
    found = statistics.describe(version, now=at(12))
    assert (found.entities, found.alive) == (3, 2)
    assert (found.newest, found.lag) == (at(9), at(12) - run.up_to)
    assert found.features["temp"]["nulls"] == 0.5
    assert found.features["temp"]["quantiles"]["100"] == 3.0
    assert found.features["tag"]["top"] == [["x", 2]]


def test_describe__nothing_stored__says_nothing_rather_than_all_is_well() -> None:
    found = statistics.describe(published(source()), now=at(1))
    assert (found.entities, found.alive, found.newest, found.lag) == (0, 0, None, None)
    assert found.features["temp"]["nulls"] is None


def test_describe_due__twice_a_day__describes_once_and_forgets_what_is_old() -> None:
    version = published(source([reading()]))
    materialize(version, now=at(1))
    old = FeatureStatistics.objects.create(view_version=version, at=NOON - timedelta(days=91), entities=1, alive=1)
    assert [each.view_version for each in statistics.describe_due(now=NOON)] == [version]
    assert statistics.describe_due(now=NOON + HOUR) == []
    assert not FeatureStatistics.objects.filter(pk=old.pk).exists()
    assert len(statistics.describe_due(now=NOON + timedelta(days=1))) == 1


def test_describe_due__draft_and_retired__are_not_described() -> None:
    origin = source([reading()])
    applied(origin)
    version = published(origin, name="other")
    actions.deprecate(version, actor=ROBOT, reason="Nobody pins it.", now=NOON)
    assert statistics.describe_due(now=NOON) == []


def test_one_pass__keeps_a_bounded_and_even_sample() -> None:
    stored = ((event, event.to_bytes(4, "little")) for event in range(1_000))
    found = statistics._gone_through(stored, oldest=100, empty=(500).to_bytes(4, "little"), most=64)
    kept = [int.from_bytes(record, "little") for record in found.sample]
    assert (found.entities, found.alive, found.newest) == (1_000, 899, 999)
    assert 32 <= len(kept) <= 64
    assert min(kept) < 130
    assert max(kept) > 960
