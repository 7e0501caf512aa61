"""What every online store must do, whichever it is: the portal's database (SQLite, PostgreSQL) and Redis."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import pytest
from django.db import connection

from engines.online import OnlineStore, OnlineStoreError, Records
from engines.redis_store import RedisStore
from features.database_store import DatabaseStore
from tests.features.races import run_together

pytestmark = pytest.mark.django_db

VIEW, OTHER = 7, 8
LONG_AGO, FAR_AHEAD = -62_135_596_800_000_000, 253_402_300_799_999_999  # years 1 and 9999


@pytest.fixture(params=["database", "redis"])
def store(request: Any) -> Iterator[OnlineStore]:
    if request.param == "database":
        yield DatabaseStore()
        return
    redis = RedisStore(request.getfixturevalue("redis_url"), prefix=request.node.name)
    yield redis
    for view in (VIEW, OTHER):
        redis.forget(view)
    redis.close()


def one(event: int, record: bytes = b"r", *, known: int | None = None, key: str = "k", view: int = VIEW) -> Records:
    return Records(view, [key], [event], [event if known is None else known], [record])


def held(store: OnlineStore, key: str = "k", view: int = VIEW) -> tuple[int, bytes] | None:
    return store.read({view: [key]})[view].get(key)


# ---------------------------------------------------------------------- newest wins


def test_write__newer_event__replaces(store: OnlineStore) -> None:
    assert store.write([one(1, b"old")]) == [1]
    assert store.write([one(2, b"new")]) == [1]
    assert held(store) == (2, b"new")


def test_write__older_event__is_not_kept_whenever_it_became_known(store: OnlineStore) -> None:
    store.write([one(2, b"new")])
    assert store.write([one(1, b"old", known=99)]) == [0]
    assert held(store) == (2, b"new")


def test_write__correction__the_later_known_wins_in_any_order(store: OnlineStore) -> None:
    kept = [store.write([one(5, str(known).encode(), known=known)])[0] for known in (7, 6, 9, 8)]
    assert kept == [1, 0, 1, 0]
    assert held(store) == (5, b"9")


def test_write__equal_in_both_times__the_last_written_stays(store: OnlineStore) -> None:
    store.write([one(5, b"first")])
    assert store.write([one(5, b"second")]) == [1]
    assert held(store) == (5, b"second")


@pytest.mark.parametrize("event", [0, -1, 2**32 - 1, 2**32, 2**53, LONG_AGO, FAR_AHEAD - 1])
def test_write__a_microsecond_apart__are_told_apart(store: OnlineStore, event: int) -> None:
    store.write([one(event + 1, b"new")])
    assert store.write([one(event, b"old")]) == [0]
    store.write([one(event + 1, b"newer", known=event + 2)])
    assert store.write([one(event + 1, b"older", known=event + 1)]) == [0]
    assert held(store) == (event + 1, b"newer")


def test_write__before_and_after_1970__order_by_time_not_by_sign(store: OnlineStore) -> None:
    store.write([one(-1, b"before")])
    assert store.write([one(1, b"after")]) == [1]
    assert store.write([one(LONG_AGO, b"long ago")]) == [0]
    assert held(store) == (1, b"after")


def test_write__any_order_of_many__is_the_newest_of_each(store: OnlineStore) -> None:
    dice = random.Random(3)
    rows = [(f"k{dice.randrange(20)}", dice.randrange(-5, 5), dice.randrange(5)) for _ in range(400)]
    for key, event, known in rows:
        store.write([one(event, f"{event} {known}".encode(), known=known, key=key)])
    newest = {key: max((event, known) for name, event, known in rows if name == key) for key, _, _ in rows}
    assert {key: (event, known) for key, event, known, _ in store.contents(VIEW)} == newest
    assert all(held(store, key) == (event, f"{event} {known}".encode()) for key, (event, known) in newest.items())


# ---------------------------------------------------------------------- reading


def test_read__keys_of_several_views__each_finds_its_own(store: OnlineStore) -> None:
    store.write([one(1, b"a"), one(2, b"b", view=OTHER), one(3, b"c", key="l", view=OTHER)])
    assert store.read({VIEW: ["k", "l"], OTHER: ["l", "k", "m"]}) == {
        VIEW: {"k": (1, b"a")},
        OTHER: {"k": (2, b"b"), "l": (3, b"c")},
    }


def test_read__nothing_asked__is_nothing(store: OnlineStore) -> None:
    assert store.read({}) == {}
    assert store.read({VIEW: []}) == {VIEW: {}}
    assert store.read({VIEW: ["k"], OTHER: []}) == {VIEW: {}, OTHER: {}}


@pytest.mark.parametrize("key", ["", "é|ü\\|", "日本語", "a b\nc", "%s", "'; --", "k" * 200, "\x01", "🚕"])
def test_read__any_text__is_a_key(store: OnlineStore, key: str) -> None:
    store.write([one(1, b"\x00\xff\r\n", key=key)])
    assert store.read({VIEW: [key, key + "x"]}) == {VIEW: {key: (1, b"\x00\xff\r\n")}}
    assert [found for found, *_ in store.contents(VIEW)] == [key]


def test_read__empty_record__is_there(store: OnlineStore) -> None:
    store.write([one(1, b"")])
    assert held(store) == (1, b"")


def test_read__ten_thousand_keys_of_two_views__finds_all(store: OnlineStore) -> None:
    keys = [f"entity {number}" for number in range(10_000)]
    for view in (VIEW, OTHER):
        assert store.write([many(keys, view)]) == [10_000]
    assert store.write([many(keys, VIEW)]) == [10_000]  # once more, as a repeated materialization does
    found = store.read({VIEW: keys, OTHER: keys[::-1]})
    assert found[VIEW] == {key: (number, key.encode()) for number, key in enumerate(keys)}
    assert found[OTHER] == found[VIEW]


@pytest.mark.skipif(connection.vendor != "sqlite", reason="SQLite alone shows its statements")
def test_read__on_sqlite__is_one_statement() -> None:
    statements: list[str] = []
    connection.connection.set_trace_callback(statements.append)
    DatabaseStore().read({VIEW: ["k", "l", "m"], OTHER: ["k"]})
    connection.connection.set_trace_callback(None)
    assert len(statements) == 1


def test_read__on_redis__is_one_round_trip(redis_url: str) -> None:
    store = RedisStore(redis_url, prefix="trips")
    store.write([one(1), one(1, view=OTHER)])
    client = store._client
    before = client.info()["total_reads_processed"]
    store.read({VIEW: ["k", "l"], OTHER: ["k"]})
    # this question and the second info
    assert client.info()["total_reads_processed"] - before == 2
    store.close()


def many(keys: Sequence[str], view: int) -> Records:
    numbers = list(range(len(keys)))
    return Records(view, keys, numbers, numbers, [key.encode() for key in keys])


# ---------------------------------------------------------------------- the rest of the port


def test_write__nothing__keeps_nothing(store: OnlineStore) -> None:
    assert store.write([]) == []
    assert store.write([Records(VIEW, [], [], [], []), one(1, view=OTHER)]) == [0, 1]


def test_contents__of_a_view__are_its_records_with_both_times(store: OnlineStore) -> None:
    store.write([one(1, b"a", known=2), one(3, b"b", known=-4, key="l"), one(9, view=OTHER)])
    assert sorted(store.contents(VIEW)) == [("k", 1, 2, b"a"), ("l", 3, -4, b"b")]
    assert len(list(store.contents(VIEW, limit=1))) == 1
    assert list(store.contents(99)) == []


def test_forget__a_view__leaves_the_others(store: OnlineStore) -> None:
    store.write([one(1), one(2, b"b", view=OTHER)])
    store.forget(VIEW)
    assert held(store) is None
    assert held(store, view=OTHER) == (2, b"b")
    assert store.write([one(0)]) == [1]  # nothing of what was forgotten is newer


# ---------------------------------------------------------------------- many at once, and nobody there


@pytest.mark.django_db(transaction=True)
def test_write__many_writers_in_any_order__the_newest_of_each_stays(store: OnlineStore) -> None:
    if store.name == "database" and connection.vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time, and the tests' database is in this thread's memory")
    keys = [f"k{number}" for number in range(40)]
    dice = random.Random(1)

    def write_all(event: int) -> None:
        for known in (event, event + 1):
            shuffled = dice.sample(keys, len(keys))
            record = f"{event} {known}".encode()
            store.write([Records(VIEW, shuffled, [event] * 40, [known] * 40, [record] * 40)])

    run_together([partial(write_all, event) for event in dice.sample(range(16), 16)])
    assert set(store.read({VIEW: keys})[VIEW].values()) == {(15, b"15 16")}


def test_redis__nobody_there__is_an_error_of_the_port() -> None:
    store = RedisStore("unix:///nowhere/redis.sock")
    for ask in (
        lambda: store.read({VIEW: ["k"]}),
        lambda: store.write([one(1)]),
        lambda: list(store.contents(VIEW)),
        lambda: store.forget(VIEW),
    ):
        with pytest.raises(OnlineStoreError, match="Redis"):
            ask()
