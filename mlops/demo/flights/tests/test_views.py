"""The feature views, evaluated on a handful of flights that can be counted by hand."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engines.duckdb_engine import DuckDBEngine
from engines.offline import SourceTable, ViewSpec
from mlops.demo.flights import views

NOON = datetime(2013, 5, 1, 12, tzinfo=UTC)
END = NOON + timedelta(days=90)


@pytest.fixture(scope="module")
def engine() -> Iterator[DuckDBEngine]:
    engine = DuckDBEngine(threads=1)
    yield engine
    engine.close()


def landed(hours: float, minutes_late: float, *, tailnum: str = "N1") -> dict[str, Any]:
    at = NOON + timedelta(hours=hours)
    return {
        "carrier": "AA",
        "origin": "JFK",
        "dest": "LAX",
        "tailnum": tailnum,
        "arr_delay": minutes_late,
        "service_day": datetime(2013, 5, 1, 4, tzinfo=UTC),
        "event_at": at,
        "created_at": at,
    }


def stored(folder: Path, name: str, rows: list[dict[str, Any]]) -> SourceTable:
    pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")
    return SourceTable(name, str(folder / f"{name}.parquet"), "event_at", "created_at")


def asked(engine: DuckDBEngine, view: ViewSpec, hours: float, *, as_of: datetime = END) -> dict[str, Any]:
    keys = {"carrier": "AA", "origin": "JFK", "dest": "LAX", "tailnum": "N1"}
    frame = pa.Table.from_pylist([keys | {"requested_at": NOON + timedelta(hours=hours)}])
    (row,) = engine.point_in_time(frame, [view], timestamp="requested_at", as_of=as_of).to_pylist()
    return {name: row[view.column(name)] for name in view.features}


def trailing(source: SourceTable, **changes: Any) -> ViewSpec:
    windows = (views.Window("2h", timedelta(hours=2), counted=True), views.Window("6h", timedelta(hours=6)))
    spec = {"cadence": timedelta(hours=3)} | changes
    return views.trailing_view("dest_delays", ("dest",), source, "arr_delay", windows, **spec)


def test_trailing_view__two_windows__count_what_had_landed_by_the_instant(engine: DuckDBEngine, tmp_path: Path) -> None:
    rows = [landed(-3, 30), landed(-1.5, 15), landed(0, 0), landed(0.01, 600)]
    view = trailing(stored(tmp_path, "arrivals", rows))
    assert asked(engine, view, 0) == {
        "2h_late": 0.5,
        "2h_delay": 7.5,
        "2h_flights": 2,
        "6h_late": 2 / 3,
        "6h_delay": 15.0,
    }


def test_trailing_view__between_two_instants__answers_with_the_older(engine: DuckDBEngine, tmp_path: Path) -> None:
    view = trailing(stored(tmp_path, "arrivals", [landed(-1, 30), landed(1, 0)]))
    assert asked(engine, view, 2.9)["6h_late"] == 1.0
    assert asked(engine, view, 3)["6h_late"] == 0.5


def test_trailing_view__flight_older_than_the_window__no_longer_counts(engine: DuckDBEngine, tmp_path: Path) -> None:
    view = trailing(stored(tmp_path, "arrivals", [landed(-6, 30), landed(-5.99, 0)]))
    assert asked(engine, view, 0)["6h_late"] == 0.0


def test_trailing_view__nothing_landed_for_long__is_unknown(engine: DuckDBEngine, tmp_path: Path) -> None:
    view = trailing(stored(tmp_path, "arrivals", [landed(0, 30)]))
    assert asked(engine, view, 24)["6h_late"] is None


def test_trailing_view__increment__equals_the_whole_view(engine: DuckDBEngine, tmp_path: Path) -> None:
    rows = [landed(hours / 4, hours % 40) for hours in range(-100, 40)]
    view = trailing(stored(tmp_path, "arrivals", rows))
    step = NOON + timedelta(hours=6)
    increment = engine.values(view, as_of=step, known_after=step - timedelta(hours=3))
    assert increment.equals(engine.values(view, as_of=step))


def test_tail_last__newest_landing__until_it_is_a_day_old(engine: DuckDBEngine, tmp_path: Path) -> None:
    view = views.tail_last(stored(tmp_path, "arrivals", [landed(-5, 5), landed(-1, 42), landed(-0.5, 7, tailnum="N2")]))
    assert asked(engine, view, 0) == {"arr_delay": 42.0}
    assert asked(engine, view, 24) == {"arr_delay": None}


def test_weather__impossible_wind__is_unknown(engine: DuckDBEngine, tmp_path: Path) -> None:
    measures = dict.fromkeys(["temp", "dewp", "humid", "wind_gust", "precip", "pressure", "visib"], 1.0)
    row = measures | {"origin": "JFK", "wind_speed": 1048.4, "event_at": NOON, "created_at": NOON + timedelta(hours=1)}
    view = views.weather_origin(stored(tmp_path, "weather", [row]), cadence=timedelta(hours=1))
    assert asked(engine, view, 0.5)["temp"] is None
    assert (asked(engine, view, 1)["temp"], asked(engine, view, 1)["wind_speed"]) == (1.0, None)


def test_leak__training_sees_the_whole_day__serving_what_has_landed(engine: DuckDBEngine, tmp_path: Path) -> None:
    view = views.carrier_day_leak(stored(tmp_path, "arrivals", [landed(-2, 0), landed(5, 90)]))
    assert asked(engine, view, 0)["day_late"] == 0.5
    assert asked(engine, view, 0, as_of=NOON)["day_late"] == 0.0
    assert engine.values(view, as_of=NOON).column("day_late").to_pylist() == [0.0]


def test_feature_views__default__share_no_column_and_name_their_sources() -> None:
    specs = views.feature_views("folder")
    columns = [view.column(feature) for view in specs for feature in view.features]
    assert len(columns) == len(set(columns)) == 27
    assert {source.uri for view in specs for source in view.sources} == {
        "folder/planes.parquet",
        "folder/weather.parquet",
        "folder/departures.parquet",
        "folder/arrivals.parquet",
    }
