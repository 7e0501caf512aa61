"""The feature store on Redis: set by one setting, no value lost when either side fails, filled again when Redis was."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from django.conf import settings as configured
from django.core.management import CommandError, call_command
from django.db import transaction

from audit.errors import Unavailable
from audit.models import Event
from engines.redis_store import RedisStore
from features import online
from features.materialize import due_slots, materialize, refill, write
from features.models import Materialization, OnlineValue
from tests.builders import ROBOT
from tests.features.store import HOUR, asked, at, published, reading, service, source
from tests.features.test_materialize import temp

pytestmark = pytest.mark.django_db


@pytest.fixture
def on_redis(redis_url: str, settings: Any) -> Iterator[RedisStore]:
    settings.ONLINE_STORE = redis_url
    store = online.store()
    assert isinstance(store, RedisStore)
    store._client.flushall()
    yield store
    store._client.flushall()


def test_materialize__on_redis__serves_from_there_alone(on_redis: RedisStore) -> None:
    version = published(source([reading(1, temp=1.0)]))
    materialize(version, now=at(2))
    assert temp(service(), at(2)) == 1.0
    assert not OnlineValue.objects.exists()
    assert online.contents(version).column("temp").to_pylist() == [1.0]


def test_materialize__that_died_after_redis_and_before_the_row__is_done_again(on_redis: RedisStore) -> None:
    version = published(source([reading(1, temp=1.0), reading(3, temp=3.0)]), cadence=HOUR)
    slots = [slot.compute() for slot in due_slots(now=at(2))]
    with transaction.atomic():
        write(slots)
        transaction.set_rollback(True)  # as good as a kill: the row is gone, Redis keeps its values
    assert not Materialization.objects.exists()
    assert temp(service(), at(2)) == 1.0

    (run,) = write([slot.compute() for slot in due_slots(now=at(2))])
    assert run is not None
    assert (run.up_to, run.after, run.rows) == (at(2), None, 1)
    materialize(version, now=at(4))
    assert temp(service(), at(4)) == 3.0


def test_materialize__redis_gone__is_unavailable_and_leaves_no_run(settings: Any) -> None:
    settings.ONLINE_STORE = "unix:///nowhere/redis.sock"
    version = published(source([reading(1)]))
    with pytest.raises(Unavailable, match="Redis"):
        materialize(version, now=at(2))
    assert not Materialization.objects.exists()
    with pytest.raises(Unavailable, match="Redis"):
        online.read(service(), asked(None), now=at(2))


def test_redis__restarted__is_asked_again_on_a_new_connection(on_redis: RedisStore) -> None:
    materialize(published(source([reading(1, temp=1.0)])), now=at(2))
    temp(service(), at(2))
    on_redis._client.client_kill_filter(_type="normal", skipme=True)
    assert temp(service(), at(2)) == 1.0


# ---------------------------------------------------------------------- refill


def test_refill__after_a_flush__is_what_was_there(on_redis: RedisStore) -> None:
    version = published(source([reading(1, temp=1.0), reading(2, origin="JFK"), reading(5, temp=5.0)]), cadence=HOUR)
    materialize(version, now=at(1))
    materialize(version, now=at(3))
    before = online.contents(version).sort_by("entity_key")
    on_redis._client.flushall()

    assert refill(version, actor=ROBOT, now=at(7)) == 2

    assert online.contents(version).sort_by("entity_key") == before
    told = Event.objects.get(name="feature_view_version.refilled")
    assert told.data == {"rows": 2, "as_of": at(3).isoformat(), "store": "redis"}


def test_refill__of_what_is_newer__replaces_nothing() -> None:
    version = published(source([reading(1, temp=1.0)]), cadence=HOUR)
    materialize(version, now=at(2))
    newer = [reading(3, temp=3.0)]
    online.write(version, _values(newer))
    assert refill(version, actor=ROBOT, now=at(4)) == 0
    assert temp(service(), at(4)) == 3.0


def test_refill__never_materialized__writes_nothing() -> None:
    assert refill(published(source([reading(1)])), actor=ROBOT, now=at(2)) == 0


def test_refill_online_store__fills_every_served_view(on_redis: RedisStore) -> None:
    origin = source([reading(1, temp=1.0)])
    for name in ("weather", "wind"):
        materialize(published(origin, name=name), now=at(2))
    on_redis._client.flushall()
    said = StringIO()
    call_command("refill_online_store", stdout=said)
    assert said.getvalue().splitlines() == [
        "weather@1: 1 rows",
        "wind@1: 1 rows",
        "The online store (redis) is filled.",
    ]
    assert temp(service(), at(2)) == 1.0


def test_refill_online_store__of_a_view_that_is_not_served__says_so() -> None:
    with pytest.raises(CommandError, match="rain"):
        call_command("refill_online_store", "rain")


def _values(rows: list[dict[str, Any]]) -> Any:
    import pyarrow as pa

    columns = {name: [row[name] for row in rows] for name in ("origin", "carrier", "temp", "seats", "tag", "wet")}
    return pa.table(
        columns | {"event_timestamp": [row["happened"] for row in rows], "known_at": [row["arrived"] for row in rows]}
    )


# ---------------------------------------------------------------------- the setting


@pytest.mark.parametrize("value", ["redis", "memcached://here", "postgres://x", ""])
def test_setting__that_names_no_store__stops_the_start(value: str) -> None:
    environment = {**os.environ, "GATEHOUSE_ONLINE_STORE": value}
    found = subprocess.run(
        [sys.executable, "-c", "import mlops.settings"],
        env=environment, cwd=configured.BASE_DIR, capture_output=True, text=True,
    )  # fmt: skip
    assert found.returncode == 1
    assert "GATEHOUSE_ONLINE_STORE must be" in found.stderr
