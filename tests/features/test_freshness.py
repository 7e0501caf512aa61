"""Which sources break their promise."""

from __future__ import annotations

from typing import Any

import pytest

from features import actions
from features.freshness import stale_sources, stale_views
from features.materialize import materialize
from features.models import FeatureViewVersion
from tests.builders import ROBOT
from tests.features.store import HOUR, applied, at, published, reading, source

pytestmark = pytest.mark.django_db


def test_stale_sources__newest_row_older_than_promised__is_named_with_its_age() -> None:
    source([reading(1), reading(2)], freshness=3 * HOUR)
    assert stale_sources(now=at(5)) == []
    (stale,) = stale_sources(now=at(6))
    assert (stale.source.name, stale.newest, stale.promise, stale.age) == ("readings", at(2), 3 * HOUR, 4 * HOUR)


def test_stale_sources__newer_row_not_arrived_yet__does_not_help() -> None:
    source([reading(1), reading(5, arrived=at(50))], freshness=3 * HOUR)
    assert len(stale_sources(now=at(6))) == 1


def test_stale_sources__without_a_promise__is_never_stale() -> None:
    source([reading(1)])
    assert stale_sources(now=at(5000)) == []


def test_stale_sources__nothing_arrived__is_stale_without_an_age() -> None:
    source([reading(9)], freshness=3 * HOUR)
    (stale,) = stale_sources(now=at(1))
    assert (stale.newest, stale.age, stale.problem) == (None, None, "Nothing has arrived.")


def test_stale_sources__file_missing__is_stale_and_says_so() -> None:
    source(freshness=HOUR, uri="sources/gone.parquet")
    (stale,) = stale_sources(now=at(1))
    assert "gone.parquet" in stale.problem


def view(**changes: Any) -> FeatureViewVersion:
    """A version of a view that promises values of at most three hours."""
    version = published(source([reading(1)]), **changes)
    version.view.freshness = 3 * HOUR
    version.view.save()
    return version


def test_stale_views__newest_value_older_than_promised__is_named_with_its_age() -> None:
    version = view()
    materialize(version, now=at(2))
    assert stale_views(now=at(4)) == []
    (stale,) = stale_views(now=at(4.5))
    assert (stale.version, stale.newest, stale.promise, stale.age) == (version, at(1), 3 * HOUR, 3.5 * HOUR)


def test_stale_views__materialized_again_without_anything_new__stays_stale() -> None:
    version = view()
    for hour in (2, 5):
        materialize(version, now=at(hour))
    assert len(stale_views(now=at(5))) == 1


def test_stale_views__nothing_written__counts_from_publication() -> None:
    version = view()
    published_at = version.state_since
    assert published_at is not None
    assert stale_views(now=published_at + 3 * HOUR) == []
    (stale,) = stale_views(now=published_at + 4 * HOUR)
    assert (stale.newest, stale.age) == (None, 4 * HOUR)
    assert "Nothing was written" in stale.problem


def test_stale_views__without_a_promise_or_not_published__can_not_be_stale() -> None:
    published(source([reading(1)]))
    draft = applied(source([reading(1)]), name="wind")
    draft.view.freshness = HOUR
    draft.view.save()
    assert stale_views(now=at(5000)) == []


def test_stale_views__deprecated_and_pinned_by_nobody__is_not_served_and_promises_nothing() -> None:
    actions.deprecate(view(), actor=ROBOT, reason="Replaced.", now=at(0))
    assert stale_views(now=at(5000)) == []
