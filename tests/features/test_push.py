"""Pushed rows: stored once, served at once, and the same in training as in serving."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.conf import settings
from django.db import connection

from audit import clock
from audit.errors import Conflict, InvalidInput, NotPermitted
from audit.models import Event
from features import actions, cells, offline, online, push_files, pushed_rows
from features.materialize import materialize
from features.models import DataSource, FeatureService, FeatureViewVersion, PushReceipt
from tests.builders import NOON, ROBOT, charlie, group, pete
from tests.features.races import run_together
from tests.features.store import HOUR, asked, at, published, service

pytestmark = pytest.mark.django_db

SCHEMA = {
    "origin": "string", "carrier": "string", "happened": "timestamp", "temp": "float64", "seats": "int64",
    "tag": "string", "wet": "bool",
}  # fmt: skip


def pushable(name: str = "readings", **changes: Any) -> DataSource:
    fields: dict[str, Any] = {
        "name": name,
        "uri": f"sources/{name}",
        "event_timestamp": "happened",
        "created_timestamp": "arrived",
        "push_schema": SCHEMA,
        "owner": group("delay-platform"),
        "actor": ROBOT,
        "now": NOON,
    }
    return actions.define_source(**fields | changes)


def event(hour: float, **changes: Any) -> dict[str, Any]:
    row = {"origin": "EWR", "carrier": "UA", "happened": at(hour).isoformat()}
    return row | {"temp": 1.0, "seats": 1, "tag": "x", "wet": True} | changes


def push(source: DataSource, *rows: Mapping[str, Any], hour: float, push_id: str = "", **changes: Any) -> PushReceipt:
    with clock.at(at(hour)):
        table = pushed_rows.from_rows(rows, SCHEMA, required="happened")
        return actions.push(source, table, push_id=push_id or f"p{hour}", **{"actor": ROBOT} | changes)


def temp(pinned: FeatureService, hour: float, **changes: Any) -> Any:
    return online.read(pinned, asked(None, **changes), now=at(hour)).column("weather__temp")[0].as_py()


def stored(source: DataSource) -> list[Any]:
    rows: list[Any] = offline.read_source(source.name, as_of=at(10**6)).sort_by("happened").column("temp").to_pylist()
    return rows


# ---------------------------------------------------------------------- what a push does


def test_push__is_served_at_once_and_stored_for_training() -> None:
    source = pushable()
    published(source)
    receipt = push(source, event(1, temp=5.0), hour=2)
    assert (receipt.rows, receipt.arrived_at, receipt.written) == (1, at(2), {"weather@1": 1})
    assert temp(service(), 2) == 5.0
    trained = offline.training_frame(service(), asked(at(1.5), at(2)), timestamp="asked", as_of=at(9))
    assert trained.column("weather__temp").to_pylist() == [None, 5.0]


def test_push__older_event_later__does_not_replace_the_newer() -> None:
    source = pushable()
    published(source)
    push(source, event(3, temp=3.0), hour=4)
    assert push(source, event(1, temp=1.0), hour=5).written == {"weather@1": 0}
    assert temp(service(), 5) == 3.0
    assert stored(source) == [1.0, 3.0]


def test_push__correction__replaces_what_it_corrects() -> None:
    source = pushable()
    published(source)
    push(source, event(3, temp=3.0), hour=4)
    push(source, event(3, temp=-3.0), hour=5)
    assert temp(service(), 5) == -3.0


def test_push__beyond_the_ttl__is_stored_and_not_served() -> None:
    source = pushable()
    published(source, ttl=HOUR)
    push(source, event(1, temp=5.0), hour=3)
    assert temp(service(), 3) is None


def test_push__view_with_a_cadence__waits_for_its_slot_as_training_does() -> None:
    source = pushable()
    version = published(source, cadence=2 * HOUR)
    assert push(source, event(1, temp=5.0), hour=2.5).written == {}
    assert temp(service(), 3) is None
    materialize(version, now=at(4))
    assert temp(service(), 4) == 5.0


def test_push__view_of_two_sources__waits_for_its_next_materialization() -> None:
    source, other = pushable(), pushable("others")
    join = (
        "SELECT r.origin, r.carrier, r.happened, r.arrived, r.temp, o.seats, r.tag, r.wet FROM readings r "
        "JOIN others o ON o.origin = r.origin"
    )
    published(source, expression=join, sources=[source, other], lookback=None)
    assert push(source, event(1), hour=2).written == {}


def test_push__view_that_looks_back__is_computed_over_its_whole_source() -> None:
    source = pushable()
    running = (
        "SELECT origin, carrier, happened, arrived, sum(temp) OVER (PARTITION BY origin, carrier ORDER BY arrived) "
        "AS temp, seats, tag, wet FROM readings"
    )
    published(source, expression=running, lookback=None)
    push(source, event(1, temp=1.0), hour=2)
    push(source, event(2, temp=10.0), hour=3)
    assert temp(service(), 3) == 11.0


def test_push__drafts_and_retired_views__are_left_alone() -> None:
    source = pushable()
    version = published(source)
    actions.deprecate(version, actor=ROBOT, reason="Nobody uses it.", now=NOON)
    assert push(source, event(1), hour=2).written == {}


# ---------------------------------------------------------------------- once, by whom, and what is refused


def test_push__same_id_again__changes_nothing_and_answers_the_same() -> None:
    source = pushable()
    published(source)
    first = push(source, event(1), hour=2, push_id="a")
    again = push(source, event(1), hour=5, push_id="a")
    assert again == first
    assert stored(source) == [1.0]
    assert Event.objects.filter(name="source.pushed").count() == 1


def test_push__same_id_with_other_rows__is_a_conflict() -> None:
    source = pushable()
    push(source, event(1), hour=2, push_id="a")
    with pytest.raises(Conflict, match="other rows"):
        push(source, event(2), hour=3, push_id="a")


def test_push__leaves_one_event_with_counts() -> None:
    source = pushable()
    published(source)
    push(source, event(1), event(2, origin="JFK"), hour=3, push_id="a", actor=pete())
    told = Event.objects.get(name="source.pushed")
    assert (told.actor, told.subject_label) == (pete(), "readings")
    assert told.data == {"push_id": "a", "rows": 2, "written": {"weather@1": 2}}


def test_push__by_a_stranger__is_refused() -> None:
    with pytest.raises(NotPermitted):
        push(pushable(), event(1), hour=2, actor=charlie())


@pytest.mark.parametrize("push_id", [" ", "x" * 101, "nul\0"])
def test_push__id_that_is_none__is_refused(push_id: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        push(pushable(), event(1), hour=2, push_id=push_id)
    assert list(refused.value.errors) == ["push_id"]


def test_push__to_a_source_of_files__is_a_conflict() -> None:
    with pytest.raises(Conflict, match="push_schema"):
        push(pushable(push_schema={}), event(1), hour=2)


@pytest.mark.parametrize(
    "changes",
    [
        {"uri": "sources/readings.parquet"},
        {"uri": "sources/*"},
        {"created_timestamp": ""},
        {"created_timestamp": "happened"},
        {"push_schema": {"temp": "float64"}},
        {"push_schema": SCHEMA | {"temp": "double"}},
    ],
)
def test_define_source__that_can_not_take_pushes__is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as refused:
        pushable(**changes)
    assert list(refused.value.errors) == ["push_schema"]


def test_define_source__columns_after_a_push__can_not_change() -> None:
    push(pushable(), event(1), hour=2)
    with pytest.raises(Conflict, match="pushed"):
        pushable(push_schema={**SCHEMA, "wind": "float64"})


# ---------------------------------------------------------------------- files


def test_push__many__go_to_few_files(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push_files, "SEGMENT_ROWS", 4)
    source = pushable()
    for number in range(10):
        push(source, event(number, temp=float(number)), hour=number + 20)
    assert stored(source) == [float(number) for number in range(10)]
    found = sorted((data_root / "sources" / "readings").iterdir())
    assert [pq.read_table(path).num_rows for path in found] == [4, 4, 2]


def test_push__that_can_not_be_served__leaves_no_row_behind(redis_that_is_gone: None) -> None:
    source = pushable()
    published(source)
    with pytest.raises(Exception, match="Redis"):
        push(source, event(1), hour=2)
    assert stored(source) == []
    assert not PushReceipt.objects.exists()


@pytest.fixture
def redis_that_is_gone(settings: Any) -> None:
    settings.ONLINE_STORE = "unix:///nowhere/redis.sock"


def test_push__after_one_that_was_killed__cuts_off_what_it_left() -> None:
    """A process that dies between the file and the commit: its rows are in the segment, its receipt is not."""
    source = pushable()
    push(source, event(1, temp=1.0), hour=2, push_id="a")
    segment = push_files.name(source.uri, 0)
    path = Path(settings.DATA_ROOT, segment)
    table = pq.read_table(path)
    pq.write_table(pa.concat_tables([table, table]), path)
    push(source, event(3, temp=3.0), hour=4, push_id="b")
    assert stored(source) == [1.0, 3.0]


def test_push__at_the_same_instant__arrive_one_after_the_other() -> None:
    source = pushable()
    published(source)
    moments = [push(source, event(1, temp=float(n)), hour=2, push_id=f"{n}").arrived_at for n in range(3)]
    assert moments == [at(2) + timedelta(microseconds=n) for n in range(3)]
    assert temp(service(), 3) == 2.0


def test_push__after_a_slot_was_done__arrives_after_it() -> None:
    source = pushable()
    materialize(published(source, cadence=HOUR), now=at(2))
    assert push(source, event(1), hour=2).arrived_at == at(2) + timedelta(microseconds=1)


# ---------------------------------------------------------------------- training = serving


HALF = "SELECT origin, carrier, happened, arrived, temp / 2 AS temp, seats, tag, wet FROM readings WHERE wet"
VIEWS: dict[str, dict[str, Any]] = {
    "weather": {},
    "short": {"ttl": 3 * HOUR},
    "half": {"expression": HALF},
    "slow": {"cadence": 2 * HOUR},
    "whole": {"lookback": None},
}


@pytest.mark.parametrize("seed", range(4))
def test_push__in_any_order_and_lateness__training_sees_what_serving_saw(seed: int) -> None:
    dice = random.Random(seed)
    source = pushable()
    versions = [published(source, name=name, **changes) for name, changes in VIEWS.items()]
    pinned = service(*(f"{view}.{feature}" for view in VIEWS for feature in ("temp", "seats", "tag", "wet")))
    hour, served = 0.0, []
    while (hour := hour + dice.choice([0.001, 0.3, 1.1, 2])) < 24:
        what = dice.choice(["push", "push", "read", "materialize"])
        if what == "push":
            push(source, *(_random_event(dice, hour) for _ in range(dice.choice([1, 2, 9]))), hour=hour)
        elif what == "materialize":
            for version in versions:
                materialize(version, now=at(hour))
        if what != "push" or dice.random() < 0.5:
            for version in versions[3:4]:
                materialize(version, now=at(hour))  # the slot of a view with a cadence is done before it is read
            frame = _frame(at(hour))
            served.append((frame, online.read(pinned, frame, now=at(hour))))
    filled = 0
    for frame, online_then in served:
        trained = offline.training_frame(pinned, frame, timestamp="asked", as_of=at(1000))
        for column in pinned.columns:
            wrong = cells.differing(online_then.column(column), trained.column(column))
            assert not wrong.any(), f"{column} at {frame.column('asked')[0]}"
            filled += len(frame) - trained.column(column).null_count
    assert filled > 200


def _random_event(dice: random.Random, hour: float) -> dict[str, Any]:
    late = dice.choice([0, 0, 0.01, 1, 5])
    return event(
        min(hour, max(0.0, round(hour - late, dice.choice([0, 3])))),
        origin=dice.choice(["EWR", "JFK", "L|GA"]),
        carrier=dice.choice(["UA", "AA"]),
        temp=dice.choice([None, dice.uniform(-9, 9), 1e300]),
        seats=dice.choice([None, 2**62, -1]),
        tag=dice.choice(["", None, "é"]),
        wet=dice.choice([True, False, None]),
    )


def _frame(moment: datetime) -> pa.Table:
    pairs: Sequence[tuple[str, str]] = [(o, c) for o in ("EWR", "JFK", "L|GA", "none") for c in ("UA", "AA")]
    return pa.concat_tables([asked(moment, origin=origin, carrier=carrier) for origin, carrier in pairs])


# ---------------------------------------------------------------------- two at once


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_push__many_at_once__none_is_lost_and_none_counts_twice() -> None:
    source = pushable()
    version = published(source)

    def push_one(number: int) -> None:
        table = pushed_rows.from_rows([event(number, temp=float(number))], SCHEMA, required="happened")
        for _ in range(2):
            actions.push(DataSource.objects.get(pk=source.pk), table, push_id=f"{number}", actor=ROBOT)

    run_together([partial(push_one, number) for number in range(12)])

    assert stored(source) == [float(number) for number in range(12)]
    newest = online.contents(FeatureViewVersion.objects.get(pk=version.pk)).column("temp").to_pylist()
    assert newest == [11.0]
    assert connection.vendor == "postgresql"
