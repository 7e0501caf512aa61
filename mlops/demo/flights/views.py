"""The feature views of the flights: what is known about a plane, an airport, a carrier or a route at an instant.

A window ("departures of the last six hours") is declared, not written: the expression yields the events, the engine
aggregates those that had happened and were *known* at the instant. A flight counts from the moment it left or landed,
whatever its calendar date.

``carrier_day_leak`` is the exception, and the demo's trap: it averages by calendar date and claims to be known at the
date's midnight. A training join believes the claim and sees the whole day; serving sees what has landed so far.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from engines.offline import Aggregation, SourceTable, ViewSpec
from mlops.demo.flights import data

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

FAST = 4 * HOUR
"""How often the views of the day's operations are materialized. README.md has the accuracy at 1 to 6 hours."""
SLOW = DAY
"""How often the views of weeks and of static facts are materialized."""


@dataclass(frozen=True)
class Window:
    """One trailing window: its length, and the prefix of its columns ``<prefix>_late`` (share) and ``<prefix>_delay``
    (mean minutes), and with ``counted`` also ``<prefix>_flights``."""

    prefix: str
    length: timedelta
    counted: bool = False


def feature_views(folder: str, *, fast: timedelta = FAST, slow: timedelta = SLOW) -> tuple[ViewSpec, ...]:
    """The views of an honest model, over the sources that ``data.write_sources`` put into ``folder``."""
    sources = {name: data.source(name, folder) for name in data.SOURCE_NAMES}
    departures, arrivals = sources["departures"], sources["arrivals"]
    return (
        plane(sources["planes"], cadence=slow),
        weather_origin(sources["weather"], cadence=fast),
        trailing_view(
            "origin_delays",
            ("origin",),
            departures,
            "dep_delay",
            (Window("origin_2h", 2 * HOUR, counted=True), Window("origin_6h", 6 * HOUR)),
            cadence=fast,
        ),
        trailing_view(
            "carrier_origin", ("carrier", "origin"), departures, "dep_delay", (Window("6h", 6 * HOUR),), cadence=fast
        ),
        trailing_view("dest_delays", ("dest",), arrivals, "arr_delay", (Window("6h", 6 * HOUR),), cadence=fast),
        tail_last(arrivals, cadence=fast),
        trailing_view(
            "carrier_delays",
            ("carrier",),
            arrivals,
            "arr_delay",
            (Window("24h", DAY), Window("7d", 7 * DAY)),
            cadence=slow,
        ),
        trailing_view(
            "route_delays",
            ("origin", "dest"),
            arrivals,
            "arr_delay",
            (Window("30d", 30 * DAY, counted=True),),
            cadence=slow,
        ),
    )


# ---------------------------------------------------------------------- single facts


def plane(planes: SourceTable, *, cadence: timedelta = SLOW) -> ViewSpec:
    """Age and seats of the aircraft, for the five in six flights whose tail number the register has."""
    return ViewSpec(
        name="plane",
        version=1,
        join_keys=("tailnum",),
        features=("age", "seats"),
        expression="SELECT tailnum, 2013 - year_built AS age, seats, event_at, created_at FROM planes",
        event_timestamp="event_at",
        known_at="created_at",
        ttl=None,
        cadence=cadence,
        sources=(planes,),
        lookback=timedelta(0),
    )


def weather_origin(weather: SourceTable, *, cadence: timedelta = FAST) -> ViewSpec:
    """The last published observation at the origin. A wind above 150 mph is a broken sensor: unknown, not a value."""
    return ViewSpec(
        name="weather_origin",
        version=1,
        join_keys=("origin",),
        features=("temp", "dewp", "humid", "wind_speed", "wind_gust", "precip", "pressure", "visib"),
        expression="""
            SELECT origin, temp, dewp, humid, precip, pressure, visib, event_at, created_at,
                   CASE WHEN wind_speed <= 150 THEN wind_speed END AS wind_speed,
                   CASE WHEN wind_gust <= 150 THEN wind_gust END AS wind_gust
            FROM weather
        """,
        event_timestamp="event_at",
        known_at="created_at",
        ttl=6 * HOUR,
        cadence=cadence,
        sources=(weather,),
        lookback=timedelta(0),
    )


def tail_last(arrivals: SourceTable, *, cadence: timedelta = FAST) -> ViewSpec:
    """How late the aircraft's last flight out of New York landed, while that is less than a day ago."""
    return ViewSpec(
        name="tail_last",
        version=1,
        join_keys=("tailnum",),
        features=("arr_delay",),
        expression="SELECT tailnum, arr_delay, event_at, created_at FROM arrivals",
        event_timestamp="event_at",
        known_at="created_at",
        ttl=DAY,
        cadence=cadence,
        sources=(arrivals,),
        lookback=timedelta(0),
    )


# ---------------------------------------------------------------------- trailing windows


def trailing_view(
    name: str,
    keys: tuple[str, ...],
    events: SourceTable,
    delay: str,
    windows: tuple[Window, ...],
    *,
    cadence: timedelta,
) -> ViewSpec:
    """Late share and mean delay of ``events`` per key over trailing ``windows``, at every multiple of ``cadence``.

    ``delay`` is the column with minutes. A key without events in its longest window has no value.
    """
    aggregations = tuple(each for window in windows for each in _aggregations(window, delay))
    return ViewSpec(
        name=name,
        version=1,
        join_keys=keys,
        features=tuple(each.name for each in aggregations),
        expression=f"""
            SELECT {", ".join(keys)}, {delay}, {delay} >= {data.LATE_MINUTES} AS late, event_at, created_at
            FROM {events.name}
        """,
        event_timestamp="event_at",
        known_at="created_at",
        ttl=None,
        cadence=cadence,
        sources=(events,),
        lookback=timedelta(0),
        aggregations=aggregations,
    )


def _aggregations(window: Window, delay: str) -> tuple[Aggregation, ...]:
    share = Aggregation(f"{window.prefix}_late", "share", "late", window.length)
    mean = Aggregation(f"{window.prefix}_delay", "mean", delay, window.length)
    count = Aggregation(f"{window.prefix}_flights", "count", None, window.length)
    return (share, mean, count) if window.counted else (share, mean)


# ---------------------------------------------------------------------- the trap


def carrier_day_leak(arrivals: SourceTable, *, cadence: timedelta = FAST) -> ViewSpec:
    """Late share of the carrier at the origin by calendar date, declared to be known at the date's midnight. It is not.

    Without a lookback: rows of today change after the time at which they claim to be known, so each materialization has
    to compute the view whole, as whoever wrote this would find out.
    """
    return ViewSpec(
        name="carrier_day_leak",
        version=1,
        join_keys=("carrier", "origin"),
        features=("day_late", "day_delay"),
        expression=f"""
            SELECT carrier, origin, service_day,
                   count_if(arr_delay >= {data.LATE_MINUTES}) / count(*) AS day_late, avg(arr_delay) AS day_delay
            FROM arrivals GROUP BY carrier, origin, service_day
        """,
        event_timestamp="service_day",
        known_at="service_day",
        ttl=2 * DAY,
        cadence=cadence,
        sources=(arrivals,),
        lookback=None,
    )
