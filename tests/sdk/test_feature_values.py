"""Features read and rows pushed through the SDK, on the real portal."""

from __future__ import annotations

import math
from datetime import UTC

import pytest

import gatehouse
from tests.builders import alice, pete
from tests.features.store import at, published, service
from tests.features.test_push import event, pushable
from tests.sdk.portal import client

pytestmark = pytest.mark.django_db
KEYS = {"origin": "EWR", "carrier": "UA"}


def test_push__then_online__is_what_was_pushed() -> None:
    published(pushable())
    service("weather.temp", "weather.tag")
    pushed = client(pete()).push(
        "readings", [event(1, happened=at(1), temp=4.5), event(0, origin="JFK", temp=math.nan)]
    )
    assert (pushed.rows, pushed.written) == (2, {"weather@1": 2})
    assert pushed.arrived_at.tzinfo is not None

    read = client(alice()).online("delay", [KEYS, KEYS | {"origin": "JFK"}, KEYS | {"origin": "LGA"}])

    assert read.service == "delay@1"
    assert read.dicts()[0] == {"weather__temp": 4.5, "weather__tag": "x"}
    assert read.statuses == [["present"] * 2, ["null", "present"], ["unknown"] * 2]
    assert read.at.astimezone(UTC) >= pushed.arrived_at
    assert repr(read) == "<Vectors of delay@1: 3 entities, 2 features>"


def test_push__twice_with_one_id__happens_once() -> None:
    pushable()
    portal = client(pete())
    first, again = (portal.push("readings", [event(1)], push_id="a") for _ in range(2))
    assert first == again
    assert repr(first) == "<Push a to readings: 1 rows>"


def test_push__wrong_row__names_it() -> None:
    pushable()
    with pytest.raises(gatehouse.InvalidInput, match=r"rows\.1\.temp"):
        client(pete()).push("readings", [event(1), event(2, temp="warm")])


def test_online__of_one_number__and_of_one_that_is_none() -> None:
    published(pushable())
    service()
    portal = client(alice())
    assert portal.online("delay@1", [KEYS]).rows == [[None]]
    for wrong in ("delay@2", "delay@x"):
        with pytest.raises(gatehouse.InvalidInput, match="number"):
            portal.online(wrong, [KEYS])
