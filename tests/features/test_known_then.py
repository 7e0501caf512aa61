"""Values that claim to have been known before they arrived."""

from typing import Any

import pyarrow as pa
import pytest

from engines.offline import Aggregation
from features import offline
from features.known_then import known_then
from features.models import FeatureService
from tests.features.store import HOUR, asked, at, published, reading, service, source

pytestmark = pytest.mark.django_db

NOW = at(100)
CLAIMS = "SELECT origin, carrier, happened, happened AS arrived, temp, seats, tag, wet FROM readings"
"""A view that says that everything was known as soon as it happened."""


def trained(pinned: FeatureService) -> pa.Table:
    """A row every hour for two days."""
    return offline.training_frame(pinned, asked(*(at(hour) for hour in range(1, 49))), timestamp="asked", as_of=NOW)


def hourly(late: int = 0) -> list[dict[str, object]]:
    return [reading(hour, arrived=at(hour + late), temp=float(hour)) for hour in range(60)]


def test_known_then__view_that_tells_its_arrival__is_the_same_then() -> None:
    published(source(hourly(late=3)))
    (found,), instants = known_then(service(), trained(service()), timestamp="asked", as_of=NOW)

    assert (found.late, found.loaded_later, found.different) == (0, 0, 0)
    assert (found.cells, found.compared) == (15 + 29 + 45, 48)
    assert instants == [at(15), at(29), at(45)]


def test_known_then__view_that_claims_earlier__differs_in_every_cell() -> None:
    published(source(hourly(late=3)), expression=CLAIMS, lookback=None)
    (found,), _ = known_then(service(), trained(service()), timestamp="asked", as_of=NOW)

    assert found.late == found.cells > 0
    assert found.different == 0


def test_known_then__minutes_on_the_way__are_forgiven() -> None:
    rows = [reading(hour, arrived=at(hour + 0.4), temp=float(hour)) for hour in range(60)]
    published(source(rows), expression=CLAIMS, lookback=None)
    (found,), _ = known_then(service(), trained(service()), timestamp="asked", as_of=NOW)

    assert found.late == 0


def test_known_then__history_loaded_afterwards__is_told_apart() -> None:
    rows = [reading(hour, arrived=at(90), temp=float(hour)) for hour in range(60)]
    published(source(rows), expression=CLAIMS, lookback=None)
    (found,), _ = known_then(service(), trained(service()), timestamp="asked", as_of=NOW)

    assert (found.cells, found.late, found.loaded_later) == (0, 0, 3)


def test_known_then__table_joined_some_other_way__differs() -> None:
    published(source(hourly()))
    table = trained(service())
    moved = pa.chunked_array([pa.array([value + 1 for value in table.column("weather__temp").to_pylist()])])
    table = table.set_column(table.column_names.index("weather__temp"), "weather__temp", moved)
    (found,), _ = known_then(service(), table, timestamp="asked", as_of=NOW)

    assert (found.different, found.compared, found.late) == (48, 48, 0)


def test_known_then__windows__are_asked_too() -> None:
    aggregations = [Aggregation("temps", "count", "temp", 24 * HOUR)]
    view: dict[str, Any] = {"features": ["temps"], "cadence": 4 * HOUR, "aggregations": aggregations, "lookback": None}
    columns = "SELECT origin, carrier, happened, happened AS arrived, temp FROM readings"
    published(source(hourly(late=12)), expression=columns, **view)
    pinned = service("weather.temps")
    (found,), _ = known_then(pinned, trained(pinned), timestamp="asked", as_of=NOW)

    assert found.late == found.cells > 0


def test_known_then__no_rows_or_no_stored_features__finds_nothing() -> None:
    published(source(hourly()))

    assert known_then(service(), trained(service()).slice(0, 0), timestamp="asked", as_of=NOW) == ([], [])
    assert known_then(service(), asked(at(1)), timestamp="asked", as_of=NOW) == ([], [])
