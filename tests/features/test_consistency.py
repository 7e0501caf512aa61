"""Served against recomputed."""

from __future__ import annotations

import pyarrow as pa
import pytest

from audit.errors import InvalidInput
from features import online
from features.consistency import check
from features.materialize import materialize
from features.models import FeatureService
from tests.features.store import HOUR, asked, at, published, reading, service, source, write_source

pytestmark = pytest.mark.django_db


def served_at(pinned: FeatureService, *hours: float) -> pa.Table:
    """What the prediction log holds after a request at each of these hours, each just after a materialization."""
    parts = []
    for hour in hours:
        for feature in {each.view_version for each in pinned.pinned()}:
            materialize(feature, now=at(hour))
        frame = asked(at(hour))
        got = online.read(pinned, frame, now=at(hour))
        parts.append(
            pa.table(
                {
                    **{n: frame.column(n) for n in frame.column_names},
                    **dict(zip(got.column_names, got.columns, strict=True)),
                }
            )
        )
    return pa.concat_tables(parts)


def test_check__honest_view__no_cell_differs() -> None:
    published(source([reading(1, temp=1.0), reading(2, temp=2.0, arrived=at(6)), reading(5)]), cadence=HOUR)
    (result,) = check(
        service("weather.temp", "weather.tag"),
        served_at(service("weather.temp", "weather.tag"), 1, 3, 5, 7),
        timestamp="asked",
        now=at(20),
    )
    assert (result.cells, result.differing, result.examples) == (8, 0, [])


def test_check__view_that_claims_to_have_known__differs_and_shows_where() -> None:
    rows = [reading(1, temp=1.0), reading(2, temp=2.0, arrived=at(6))]
    published(source(rows), known_at="happened", lookback=None)
    (result,) = check(service(), served_at(service(), 1, 3), timestamp="asked", now=at(20))
    assert (result.cells, result.differing) == (2, 1)
    assert result.examples == [
        {
            "entity": {"carrier": "UA", "origin": "EWR"},
            "at": str(at(3)),
            "feature": "temp",
            "served": "1.0",
            "recomputed": "2.0",
        }
    ]


def test_check__served_before_its_materialization__differs() -> None:
    version = published(source([reading(1, temp=1.0)]), cadence=HOUR)
    stale = asked(at(2)).append_column("weather__temp", pa.array([None], pa.float64()))
    (result,) = check(service(), stale, timestamp="asked", now=at(3))
    assert (result.view_version, result.differing) == (version, 1)


def test_check__nan_in_the_log_for_null__is_no_difference() -> None:
    published(source([reading(5)]))
    logged = asked(at(2)).append_column("weather__temp", pa.array([float("nan")]))
    (result,) = check(service(), logged, timestamp="asked", now=at(3))
    assert result.differing == 0


def test_check__two_views__one_result_each() -> None:
    origin = source([reading(1)])
    published(origin)
    published(origin, name="wind")
    pinned = service("weather.temp", "wind.tag", "wind.wet")
    results = check(pinned, served_at(pinned, 2), timestamp="asked", now=at(3))
    assert {str(each.view_version): each.cells for each in results} == {"weather@1": 1, "wind@1": 2}


def test_check__nothing_served__gives_no_result() -> None:
    published(source([reading(1)]))
    assert check(service(), served_at(service(), 2).slice(0, 0), timestamp="asked", now=at(3)) == []


def test_check__more_rows_than_the_sample__takes_them_from_the_whole_period() -> None:
    write_source("readings", [])
    published(source([reading(1)]))
    frame = asked(*(at(hour) for hour in range(100))).append_column("weather__temp", pa.array([1.0] * 100))
    (result,) = check(service(), frame, timestamp="asked", now=at(200), sample=10)
    assert (result.cells, result.differing) == (10, 1)  # the first, asked before anything was known


def test_check__log_without_a_column__names_it() -> None:
    published(source([reading(1)]))
    with pytest.raises(InvalidInput, match="weather__temp"):
        check(service(), asked(at(2)), timestamp="asked", now=at(3))
