"""The online store: keys, TTL at reading, never older over newer, and equality with the training join."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pyarrow as pa
import pytest
from django.db import connection, transaction

from audit.errors import InvalidInput
from features import cells, offline, online
from features.materialize import materialize
from features.models import FeatureService, FeatureViewVersion
from tests.features.races import run_together
from tests.features.store import HOUR, asked, at, published, reading, service, source

pytestmark = pytest.mark.django_db


def values(hour: float, *, temp: float | None = 1.0, known: float | None = None, origin: str = "EWR") -> pa.Table:
    """One value of one entity, as an engine gives it."""
    row = reading(hour, temp=temp, origin=origin)
    times = {"event_timestamp": row["happened"], "known_at": at(known if known is not None else hour)}
    wanted = {name: row[name] for name in ("origin", "carrier", "temp", "seats", "tag", "wet")}
    return pa.table({name: [value] for name, value in (wanted | times).items()})


def temp(pinned: FeatureService, hour: float, *, origin: str | None = "EWR") -> Any:
    return online.read(pinned, asked(None, origin=origin), now=at(hour)).column("weather__temp")[0].as_py()


def test_read__known_and_unknown_entities__one_row_each_in_order() -> None:
    version = published(source())
    online.write(version, values(1, temp=4.0))
    keys = pa.table({"origin": ["JFK", "EWR", None, "EWR"], "carrier": ["UA", "UA", "UA", "AA"]})
    got = online.read(service("weather.tag", "weather.temp"), keys, now=at(2))
    assert got.column_names == ["weather__tag", "weather__temp"]
    assert got.to_pylist() == [
        {"weather__tag": tag, "weather__temp": number}
        for tag, number in [(None, None), ("x", 4.0), (None, None), (None, None)]
    ]


def test_stored__each_row_of_keys__says_what_the_store_holds_and_how_old_it_is() -> None:
    version = published(source(), ttl=6 * HOUR)
    online.write(version, values(1, temp=4.0))
    keys = pa.table({"origin": ["EWR", "JFK"], "carrier": ["UA", "UA"]})
    soon, late = (online.stored(service(), keys, now=at(hour)) for hour in (3, 9))

    assert (soon.names, soon.rows) == (("weather__temp",), [[4.0], [None]])
    assert soon.ages == [[2 * 3600.0], [None]]
    assert late.statuses == [[online.EXPIRED], [online.UNKNOWN]]


def test_read__types__are_the_declared_ones_even_without_values() -> None:
    published(source())
    got = online.read(service("weather.temp", "weather.seats", "weather.wet"), asked(None), now=at(2))
    assert got.schema.types == [pa.float64(), pa.int64(), pa.bool_()]


def test_read__no_rows__keeps_the_columns() -> None:
    published(source())
    got = online.read(service(), asked(), now=at(2))
    assert (got.num_rows, got.column_names) == (0, ["weather__temp"])


def test_read__service_of_request_features_only__has_no_columns_and_all_rows() -> None:
    only = service(request_features=["hour"], features=[])
    assert online.read(only, asked(None, None), now=at(2)).shape == (2, 0)


def test_read__without_a_join_key__names_it() -> None:
    published(source())
    with pytest.raises(InvalidInput) as refused:
        online.read(service(), pa.table({"origin": ["EWR"]}), now=at(2))
    assert list(refused.value.errors) == ["carrier"]


def test_read__older_than_ttl__is_null_from_the_next_microsecond_on() -> None:
    version = published(source(), ttl=4 * HOUR)
    online.write(version, values(1, temp=4.0))
    end = at(5)
    reads = [online.read(service(), asked(None), now=each) for each in (end, end + timedelta(microseconds=1))]
    assert [each.column("weather__temp")[0].as_py() for each in reads] == [4.0, None]


def test_read__a_batch_with_times_of_its_own__ages_each_row_at_its_time() -> None:
    version = published(source(), ttl=4 * HOUR)
    online.write(version, values(1, temp=4.0))
    keys = pa.concat_tables([asked(None)] * 2)
    got = online.read(service(), keys, now=at(2), at=[at(5), at(6)])
    assert got.column("weather__temp").to_pylist() == [4.0, None]


def test_read__more_keys_than_one_query_takes__finds_all() -> None:
    version = published(source())
    names = [f"A{number}" for number in range(1203)]
    online.write(version, pa.concat_tables([values(1, temp=float(i), origin=name) for i, name in enumerate(names)]))
    keys = pa.table({"origin": names, "carrier": ["UA"] * len(names)})
    got = online.read(service(), keys, now=at(2))
    assert got.column("weather__temp").to_pylist() == [float(i) for i in range(len(names))]


def test_read__queries__are_for_the_plan_alone_and_only_once(django_assert_num_queries: Any) -> None:
    origin = source()
    for name in ("weather", "wind"):
        online.write(published(origin, name=name), values(1))
    pinned = FeatureService.objects.get(pk=service("weather.temp", "wind.temp", "weather.tag", "wind.wet").pk)
    with django_assert_num_queries(2):  # the plan once: its features, its transforms
        online.read(pinned, asked(None), now=at(2))
    with django_assert_num_queries(0):  # the store is asked past Django
        online.read(pinned, asked(None), now=at(2))


def test_write__older_event_after_newer__keeps_the_newer() -> None:
    version = published(source())
    online.write(version, values(3, temp=3.0))
    assert online.write(version, values(1, temp=1.0, known=9)) == 0
    assert temp(service(), 9) == 3.0


def test_write__correction_of_the_same_event__the_later_known_wins_in_any_order() -> None:
    version = published(source())
    for known, number in ((5, 5.0), (4, 4.0), (6, 6.0), (5, 5.0)):
        online.write(version, values(3, temp=number, known=known))
    assert temp(service(), 9) == 6.0


def test_write__microseconds_apart__are_told_apart() -> None:
    version = published(source())
    later = at(3) + timedelta(microseconds=1)
    newer = values(3, temp=2.0).set_column(6, "event_timestamp", pa.array([later]))
    online.write(version, newer)
    assert online.write(version, values(3, temp=1.0)) == 0
    assert online.write(version, newer) == 1
    assert temp(service(), 9) == 2.0


def test_write__other_version__is_another_value() -> None:
    origin = source()
    first = published(origin)
    old = service()
    online.write(first, values(3, temp=3.0))
    online.write(published(origin, ttl=HOUR), values(1, temp=1.0))
    assert (temp(old, 3), temp(service(), 2)) == (3.0, 1.0)


def test_write__nothing__writes_nothing() -> None:
    assert online.write(published(source()), values(1).slice(0, 0)) == 0


# ---------------------------------------------------------------------- online = offline


def history(seed: int) -> list[dict[str, Any]]:
    """Random readings of six entities over two days: late, corrected, repeated, null, not finite."""
    dice = random.Random(seed)
    rows = []
    for _ in range(300):
        hour = dice.choice([dice.randrange(48), round(dice.uniform(0, 48), 3)])
        late = dice.choice([0, 0, 0.25, 1, 3, 30])
        rows.append(
            reading(
                hour,
                arrived=at(hour + late),
                origin=dice.choice(["EWR", "JF|K", "L\\GA"]),
                carrier=dice.choice(["UA", "A|A"]),
                temp=dice.choice([dice.uniform(-40, 40), dice.gauss(0, 1e30), None, math.nan, math.inf, 0.1 + 0.2]),
                seats=dice.choice([dice.randrange(2**62), None, -1]),
                tag=dice.choice(["", "é|x", None, '"quoted"', "nul\0inside"]),
                wet=dice.choice([True, False, None]),
            )
        )
    return rows


TRAILING = """
    SELECT origin, carrier, make_timestamp((epoch_us(arrived) // 7200000000 + 1) * 7200000000) AS happened,
           make_timestamp((epoch_us(arrived) // 7200000000 + 1) * 7200000000) AS arrived,
           CAST(count(*) AS DOUBLE) AS temp, sum(seats % 1000) AS seats, max(tag) AS tag, max(wet) AS wet
    FROM readings GROUP BY ALL
""".replace("GROUP BY ALL", "GROUP BY 1, 2, 3, 4")
# known before it happens
FORECAST = "SELECT origin, carrier, arrived AS happened, happened AS arrived, temp, seats, tag, wet FROM readings"
VIEWS: dict[str, dict[str, Any]] = {
    "plain": {"cadence": None},
    "slow": {"cadence": 5 * HOUR, "ttl": 9 * HOUR},
    "whole": {"cadence": 3 * HOUR, "lookback": None},
    "trailing": {"cadence": 2 * HOUR, "ttl": 4 * HOUR, "lookback": 2 * HOUR, "expression": TRAILING},
    "forecast": {"cadence": 2 * HOUR, "lookback": None, "expression": FORECAST},
    "ahead": {"cadence": 2 * HOUR, "lookback": timedelta(0), "expression": FORECAST},
}


def frame_at(moment: datetime, rows: Sequence[dict[str, Any]]) -> pa.Table:
    entities = sorted({(row["origin"], row["carrier"]) for row in rows}) + [("none", "UA")]
    return pa.concat_tables([asked(moment, origin=origin, carrier=carrier) for origin, carrier in entities])


@pytest.mark.parametrize("seed", range(3))
def test_read__after_any_steps__is_the_training_join_in_every_cell(seed: int) -> None:
    """What is served at an instant is what training sees for it, though training looks later and knows more."""
    rows = history(seed)
    origin = source(rows)
    versions = [published(origin, name=name, **changes) for name, changes in VIEWS.items()]
    pinned = service(*(f"{view}.{feature}" for view in VIEWS for feature in ("temp", "seats", "tag", "wet")))
    dice = random.Random(seed)
    filled = 0
    hour = 0.0
    while (hour := hour + dice.choice([0.25, 1, 2, 7])) < 60:
        moment = at(hour)
        for version in versions:
            materialize(version, now=moment)
        frame = frame_at(moment, rows)
        served = online.read(pinned, frame, now=moment)
        trained = offline.training_frame(pinned, frame, timestamp="asked", as_of=at(1000))
        for column in pinned.columns:
            wrong = cells.differing(served.column(column), trained.column(column))
            assert not wrong.any(), f"{column} at {moment}: {served.column(column)} {trained.column(column)}"
            filled += len(frame) - served.column(column).null_count
    assert filled > 500


# ---------------------------------------------------------------------- two at once


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor != "postgresql", reason="row locks are PostgreSQL's")
def test_write__many_writers_in_any_order__the_newest_of_each_entity_stays() -> None:
    """Writers without the lock of a materialization: the guard in the statement alone must do."""
    version = published(source())
    origins = [f"A{number}" for number in range(40)]
    hours = list(range(16))

    def write_hour(hour: int) -> None:
        online.write(version, _all_at(hour, origins))

    run_together([partial(write_hour, hour) for hour in random.Random(1).sample(hours, len(hours))])

    keys = pa.table({"origin": origins, "carrier": ["UA"] * len(origins)})
    got = online.read(service(), keys, now=at(20)).column("weather__temp").to_pylist()
    assert got == [float(hours[-1])] * len(origins)


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor != "postgresql", reason="row locks are PostgreSQL's")
def test_materialize__many_at_once__older_never_wins_and_runs_do_not_repeat() -> None:
    rows = [reading(hour, temp=float(hour), origin=f"A{number}") for hour in range(12) for number in range(20)]
    version = published(source(rows), cadence=HOUR)
    moments = random.Random(2).sample([at(hour) for hour in range(12) for _ in range(2)], 24)

    def run_at(moment: datetime) -> None:
        materialize(FeatureViewVersion.objects.select_related("view__entity").get(pk=version.pk), now=moment)

    run_together([partial(run_at, moment) for moment in moments])

    keys = pa.table({"origin": [f"A{number}" for number in range(20)], "carrier": ["UA"] * 20})
    got = online.read(service(), keys, now=at(11)).column("weather__temp").to_pylist()
    assert got == [11.0] * 20
    runs = list(version.materializations.order_by("id").values_list("after", "up_to"))
    assert [after for after, _ in runs[1:]] == [up_to for _, up_to in runs[:-1]]


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor != "postgresql", reason="row locks are PostgreSQL's")
def test_materialize__overtaken_while_it_computed__throws_its_values_away() -> None:
    """Rows equal in both times are told apart by the run alone, so the later run has to be the one that stays."""
    version = published(source([reading(1)]))
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            FeatureViewVersion.objects.select_for_update().get(pk=version.pk)
            earlier = pool.submit(_closing, partial(materialize, version, now=at(2)))
            wait_until(lambda: earlier.done() or _somebody_waits_for_a_lock())
            materialize(version, now=at(3))
        assert earlier.result() is None
    assert [run.up_to for run in version.materializations.all()] == [at(3)]


def _closing(work: Callable[[], Any]) -> Any:
    try:
        return work()
    finally:
        connection.close()


def _somebody_waits_for_a_lock() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return bool(cursor.fetchone()[0])


def wait_until(condition: Callable[[], bool], *, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def _all_at(hour: int, origins: Sequence[str]) -> pa.Table:
    return pa.concat_tables([values(hour, temp=float(hour), origin=origin) for origin in origins])
