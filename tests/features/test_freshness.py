"""Which sources break their promise."""

from __future__ import annotations

import pytest

from features.freshness import stale_sources
from tests.features.store import HOUR, at, reading, source

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
