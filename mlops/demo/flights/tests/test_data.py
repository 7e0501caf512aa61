"""From local clock times without dates to instants: where a leak or a lost day would begin."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from mlops.demo.flights import data

ZONES = {"LAX": "America/Los_Angeles", "BOS": "America/New_York", "SJU": "America/Puerto_Rico"}


def flight(**changes: Any) -> dict[str, Any]:
    row = {
        "time_hour": "2013-07-01T22:00:00Z",  # 18:00 in New York
        "minute": 30,
        "sched_arr_time": 2145,
        "dep_delay": 10.0,
        "arr_delay": 20.0,
        "air_time": 320.0,
        "carrier": "AA",
        "flight": 1,
        "tailnum": "N1",
        "origin": "JFK",
        "dest": "LAX",
        "distance": 2475,
    }
    return row | changes


def flights(*rows: dict[str, Any]) -> pd.DataFrame:
    return data.with_instants(pd.DataFrame(list(rows)), ZONES)


def only(column: pd.Series) -> datetime:
    (value,) = column
    moment: datetime = value.to_pydatetime()
    return moment


def test_instants__summer_flight_west__uses_the_clock_of_each_end() -> None:
    table = flights(flight())
    assert only(table["scheduled_departure"]) == datetime(2013, 7, 1, 22, 30, tzinfo=UTC)
    assert only(table["scheduled_arrival"]) == datetime(2013, 7, 2, 4, 45, tzinfo=UTC)
    assert only(table["departed_at"]) == datetime(2013, 7, 1, 22, 40, tzinfo=UTC)
    assert only(table["arrived_at"]) == datetime(2013, 7, 2, 5, 5, tzinfo=UTC)


def test_instants__arrival_after_midnight__is_the_next_day() -> None:
    table = flights(flight(dest="BOS", time_hour="2013-01-02T04:00:00Z", sched_arr_time=12))
    assert only(table["scheduled_arrival"]) == datetime(2013, 1, 2, 5, 12, tzinfo=UTC)


def test_instants__night_the_clocks_change__counts_the_real_hours() -> None:
    # 3 November 2013, 06:00Z: New York goes back from 02:00 to 01:00 EDT; Puerto Rico does not
    table = flights(flight(dest="SJU", time_hour="2013-11-03T03:00:00Z", minute=59, sched_arr_time=345))
    assert only(table["scheduled_arrival"]) == datetime(2013, 11, 3, 7, 45, tzinfo=UTC)


def test_instants__cancelled_flight__never_departs_nor_arrives() -> None:
    table = flights(flight(dep_delay=None, arr_delay=None, air_time=None))
    assert table["departed_at"].isna().all()
    assert table["arrived_at"].isna().all()


def test_service_day__evening_flight__belongs_to_the_local_date() -> None:
    table = flights(flight(time_hour="2013-07-02T02:00:00Z", dest="BOS", sched_arr_time=2359))
    assert only(table["service_day"]) == datetime(2013, 7, 1, 4, tzinfo=UTC)


def test_request__one_hour_before_departure__knows_only_the_timetable() -> None:
    request = data.requests(flights(flight())).iloc[0]
    assert request["requested_at"] == datetime(2013, 7, 1, 21, 30, tzinfo=UTC)
    assert (request["hour"], request["weekday"], request["month"], request["scheduled_minutes"]) == (18, 0, 7, 375.0)
    assert not {"dep_delay", "arr_delay", "departed_at"} & set(request.index)


@pytest.mark.parametrize(("minutes", "late"), [(14.0, 0), (15.0, 1), (-20.0, 0)])
def test_outcome__fifteen_minutes_or_more__is_late(minutes: float, late: int) -> None:
    outcome = data.outcomes(flights(flight(arr_delay=minutes))).iloc[0]
    assert outcome["late"] == late


def test_outcome__diverted_flight__never_comes() -> None:
    assert data.outcomes(flights(flight(arr_delay=None))).empty


def test_entity_frame__outcome_not_yet_known__is_left_out() -> None:
    table = flights(flight(), flight(flight=2, arr_delay=600.0))
    frame = data.entity_frame(
        data.requests(table),
        data.outcomes(table),
        start=datetime(2013, 7, 1, tzinfo=UTC),
        end=datetime(2013, 7, 2, tzinfo=UTC),
        as_of=datetime(2013, 7, 2, 6, tzinfo=UTC),
    )
    assert frame.column("flight").to_pylist() == [1]


def test_weather__hourly_observation__is_known_when_the_hour_is_over() -> None:
    columns = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"]
    observed = pd.DataFrame([{"origin": "JFK", "time_hour": "2013-01-01T06:00:00Z", **dict.fromkeys(columns, 1.0)}])
    row = data.weather_events(observed).iloc[0]
    assert (row["event_at"], row["created_at"]) == (
        datetime(2013, 1, 1, 6, tzinfo=UTC),
        datetime(2013, 1, 1, 7, tzinfo=UTC),
    )


@pytest.mark.integration
def test_write_sources__installed_package__gives_the_documented_rows(tmp_path: Path) -> None:
    sources = {source.name: pq.read_table(source.uri) for source in data.write_sources(tmp_path)}
    assert {name: table.num_rows for name, table in sources.items()} == {
        "flights_schedule": 336_776,
        "departures": 328_521,
        "arrivals": 327_346,
        "weather": 26_115,
        "planes": 3_322,
    }
    assert max(sources["weather"].column("wind_speed").to_pylist(), key=lambda wind: wind or 0) > 1000
    assert max(sources["weather"].column("event_at").to_pylist()) == datetime(2013, 12, 30, 23, tzinfo=UTC)
