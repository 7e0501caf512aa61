"""Training joins, sources and datasets through the real engine."""

from __future__ import annotations

import math
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from audit.errors import InvalidInput, NotFound, NotPermitted, Unavailable
from audit.models import Event
from features import actions, offline
from features.models import Dataset, FeatureService
from tests.builders import NOON, ROBOT, charlie
from tests.features.store import HOUR, asked, at, published, reading, service, source, write_source

pytestmark = pytest.mark.django_db


def temps(frame: pa.Table, pinned: FeatureService, *, as_of: float = 100) -> list[Any]:
    joined = offline.training_frame(pinned, frame, timestamp="asked", as_of=at(as_of))
    values: list[Any] = joined.column("weather__temp").to_pylist()
    return values


# ---------------------------------------------------------------------- training_frame


def test_training_frame__late_row__is_used_only_once_it_had_arrived() -> None:
    published(source([reading(1, temp=1.0), reading(2, temp=2.0, arrived=at(5))]))
    assert temps(asked(at(0), at(1), at(3), at(5)), service()) == [None, 1.0, 1.0, 2.0]


def test_training_frame__row_arrived_after_as_of__is_invisible() -> None:
    published(source([reading(1, temp=1.0), reading(2, temp=2.0, arrived=at(5))]))
    assert temps(asked(at(6)), service(), as_of=4) == [1.0]


def test_training_frame__correction_of_the_same_event__newest_known_wins() -> None:
    published(source([reading(1, temp=1.0), reading(1, temp=9.0, arrived=at(2))]))
    assert temps(asked(at(1), at(2)), service()) == [1.0, 9.0]


def test_training_frame__ttl_and_cadence__are_those_of_the_version() -> None:
    published(source([reading(1, temp=1.0)]), ttl=4 * HOUR, cadence=2 * HOUR)
    assert temps(asked(at(1.5), at(2), at(5), at(5.1)), service()) == [None, 1.0, 1.0, None]


def test_training_frame__not_finite_value__is_null() -> None:
    published(source([reading(1, temp=math.nan)]))
    assert temps(asked(at(1)), service()) == [None]


def test_training_frame__columns__are_the_frames_then_the_services_in_order() -> None:
    published(source([reading(1)]))
    pinned = service("weather.wet", "weather.temp", request_features=["hour"])
    frame = asked(at(1)).append_column("hour", pa.array([7]))
    joined = offline.training_frame(pinned, frame, timestamp="asked", as_of=at(9))
    assert joined.column_names == ["origin", "carrier", "asked", "hour", "weather__wet", "weather__temp"]


def test_training_frame__rows__are_kept_with_their_order_and_duplicates() -> None:
    published(source([reading(1, temp=1.0), reading(2, temp=2.0)]))
    assert temps(asked(at(2), None, at(1), at(2)), service()) == [2.0, None, 1.0, 2.0]


def test_training_frame__with_reasons__says_why_a_value_is_missing() -> None:
    published(source([reading(1, temp=1.0)]), ttl=4 * HOUR)
    frame = pa.concat_tables([asked(at(0), at(2), at(9), None), asked(at(2), origin="LGA")])
    joined = offline.training_frame(service(), frame, timestamp="asked", as_of=at(10), reasons=True)
    assert joined.column_names[-1] == "weather__reason"
    reasons = joined.column("weather__reason").to_pylist()
    assert reasons == ["not known yet", "found", "expired", "null key", "unknown entity"]


def test_training_frame__without_a_request_feature__names_it() -> None:
    published(source([reading(1)]))
    with pytest.raises(InvalidInput, match="hour"):
        temps(asked(at(1)), service(request_features=["hour"]))


def test_training_frame__without_a_join_key__is_bad_input() -> None:
    published(source([reading(1)]))
    with pytest.raises(InvalidInput, match="carrier"):
        temps(asked(at(1)).drop_columns(["carrier"]), service())


def test_training_frame__source_gone__is_unavailable(data_root: Path) -> None:
    published(source([reading(1)]))
    (data_root / "sources" / "readings.parquet").unlink()
    with pytest.raises(Unavailable, match="readings"):
        temps(asked(at(1)), service())


def test_training_frame__old_service_after_a_new_version__gives_the_old_meaning() -> None:
    origin = source([reading(1, temp=1.0)])
    published(origin)
    old = service()
    published(origin, ttl=HOUR)
    frame = asked(at(9))
    assert (temps(frame, old), temps(frame, service())) == ([1.0], [None])


# ---------------------------------------------------------------------- read_source


def test_read_source__bounds__are_of_the_event_time_and_only_what_arrived() -> None:
    late = reading(2, temp=2.5, arrived=at(9))
    source([reading(1, temp=1.0), reading(2, temp=2.0), late, reading(3, temp=3.0)])
    rows = offline.read_source("readings", as_of=at(5), since=at(2), until=at(3))
    assert rows.column("temp").to_pylist() == [2.0]
    assert rows.schema.field("happened").type == pa.timestamp("us", "UTC")


def test_read_source__without_bounds__is_all_that_arrived() -> None:
    source([reading(1), reading(2), reading(3, arrived=at(9))])
    assert offline.read_source("readings", as_of=at(5)).num_rows == 2


def test_read_source__unknown__is_not_found() -> None:
    with pytest.raises(NotFound, match="gone"):
        offline.read_source("gone", as_of=at(5))


# ---------------------------------------------------------------------- snapshot and load


def snapshot(pinned: FeatureService, table: pa.Table, **changes: Any) -> Dataset:
    fields: dict[str, Any] = {"label": "late", "timestamp": "asked", "purpose": "training", "as_of": at(9)}
    return actions.snapshot(service=pinned, table=table, **{**fields, "actor": ROBOT, "now": NOON} | changes)


def training_table(pinned: FeatureService, *, as_of: float = 9) -> pa.Table:
    frame = asked(at(1), at(2)).append_column("late", pa.array([True, False]))
    return offline.training_frame(pinned, frame, timestamp="asked", as_of=at(as_of))


def test_snapshot__loaded_again__is_the_same_table() -> None:
    published(source([reading(1, temp=math.nan), reading(2)]))
    pinned = service("weather.temp", "weather.tag")
    table = training_table(pinned)
    dataset = snapshot(pinned, table)
    assert offline.load(Dataset.objects.get(pk=dataset.pk)).equals(table)


def test_snapshot__row__tells_period_size_engine_and_profile() -> None:
    published(source([reading(1, temp=3.0), reading(2, temp=5.0)]))
    dataset = snapshot(service(), training_table(service()))
    assert (dataset.rows, dataset.time_from, dataset.time_to) == (2, at(1), at(2))
    assert dataset.engine.startswith("duckdb ")
    assert dataset.profile["weather__temp"] == {
        "dtype": "double", "nulls": 0, "mean": 4.0, "std": 1.0, "min": 3.0, "max": 5.0,
    }  # fmt: skip
    assert dataset.profile["late"]["mean"] == 0.5


def test_snapshot__made_again__is_the_same_row_and_one_event() -> None:
    published(source([reading(1)]))
    first, again = (snapshot(service(), training_table(service())) for _ in range(2))
    assert first == again
    assert Event.objects.filter(name="dataset.created").count() == 1


def test_snapshot__another_cell__is_another_dataset() -> None:
    published(source([reading(1, temp=1.0), reading(2, temp=2.0, arrived=at(8))]))
    early, late = (snapshot(service(), training_table(service(), as_of=each)) for each in (7, 9))
    assert early == late  # what arrived later was not known at the asked times
    write_source("readings", [reading(1, temp=7.0)])
    assert snapshot(service(), training_table(service())) != late


@pytest.mark.parametrize("change", [{"purpose": "holdout"}, {"label": "weather__temp"}])
def test_snapshot__same_cells_for_another_purpose__is_another_dataset(change: dict[str, Any]) -> None:
    published(source([reading(1)]))
    table = training_table(service())
    assert snapshot(service(), table) != snapshot(service(), table, **change)


def test_snapshot__same_cells_under_another_definition__is_another_dataset() -> None:
    origin = source([reading(1)])
    published(origin)
    first = snapshot(service(), training_table(service()))
    published(origin, ttl=100 * HOUR)
    second = snapshot(service(), training_table(service()))
    assert first.digest != second.digest


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"label": "gone"}, "label"), ({"timestamp": "late"}, "timestamp"), ({"purpose": ""}, "purpose")],
)
def test_snapshot__bad_field__is_named(changes: dict[str, Any], field: str) -> None:
    published(source([reading(1)]))
    with pytest.raises(InvalidInput) as refused:
        snapshot(service(), training_table(service()), **changes)
    assert list(refused.value.errors) == [field]


def test_snapshot__table_without_a_service_column__names_it() -> None:
    published(source([reading(1)]))
    with pytest.raises(InvalidInput, match="weather__temp"):
        snapshot(service(), training_table(service()).drop_columns(["weather__temp"]))


def test_snapshot__by_a_stranger__is_not_permitted() -> None:
    published(source([reading(1)]))
    with pytest.raises(NotPermitted):
        snapshot(service(), training_table(service()), actor=charlie())


def test_load__file_changed_behind_our_back__is_refused(data_root: Path) -> None:
    published(source([reading(1)]))
    dataset = snapshot(service(), training_table(service()))
    path = data_root / dataset.uri
    table = pq.ParquetFile(path).read()
    pq.write_table(table.set_column(table.column_names.index("late"), "late", pa.array([False, False])), path)
    with pytest.raises(Unavailable, match="digest differs"):
        offline.load(dataset)


def test_load__file_gone_or_broken__is_unavailable(data_root: Path) -> None:
    published(source([reading(1)]))
    dataset = snapshot(service(), training_table(service()))
    (data_root / dataset.uri).write_bytes(b"not parquet")
    with pytest.raises(Unavailable):
        offline.load(dataset)
    (data_root / dataset.uri).unlink()
    with pytest.raises(Unavailable):
        offline.load(dataset)


def test_snapshot__empty_table__is_stored_without_a_period() -> None:
    published(source([reading(1)]))
    dataset = snapshot(service(), training_table(service()).slice(0, 0))
    assert (dataset.rows, dataset.time_from) == (0, None)
    assert offline.load(dataset).num_rows == 0


def test_training_frame__other_time_units__join_alike() -> None:
    published(source([reading(1, temp=1.0)]))
    frame = asked(at(1), at(2) - timedelta(microseconds=1))
    seconds = frame.set_column(2, "asked", frame.column("asked").cast(pa.timestamp("ns")))
    assert temps(seconds, service()) == temps(frame, service())
