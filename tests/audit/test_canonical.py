"""An event's digest is the same whichever database it was read back from."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from audit import canonical, chain
from audit.models import Event
from audit.trail import record
from tests.audit.subjects import ROBOT, incident

AT = datetime(2013, 4, 1, 12, tzinfo=UTC)
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)
KEEPABLE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


def told_by_postgresql(value: Any) -> str:
    """The JSON text that jsonb gives back for what Python wrote: numbers without exponents, no minus before zero."""
    if isinstance(value, dict):
        inside = (
            f"{json.dumps(name, ensure_ascii=False)}: {told_by_postgresql(value[name])}" for name in reversed(value)
        )
        return "{" + ", ".join(inside) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(told_by_postgresql, value)) + "]"
    if isinstance(value, float):
        plain = f"{Decimal(repr(value)):f}"
        return plain.removeprefix("-") if value == 0 else plain
    return json.dumps(value, ensure_ascii=False)


@given(st.dictionaries(NAMES, KEEPABLE, max_size=5))
def test_digest__of_what_either_database_tells__is_the_same(data: dict[str, Any]) -> None:
    assert canonical.digest(["x"], json.dumps(data)) == canonical.digest(["x"], told_by_postgresql(data))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"n": 1}, {"n": 2}),
        ({"n": 1}, {"n": "1"}),
        ({"n": 0.1}, {"n": 0.10000000000000002}),
        ({"n": 2**63}, {"n": 2**63 + 1}),
        ({"n": None}, {}),
        ({"a": [1, 2]}, {"a": [2, 1]}),
    ],
)
def test_digest__of_other_data__differs(one: Any, other: Any) -> None:
    assert canonical.digest([], canonical.as_text(one)) != canonical.digest([], canonical.as_text(other))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf"), 2**64, -(2**63) - 1])
def test_data__with_a_number_that_would_not_come_back__is_refused(number: Any) -> None:
    with pytest.raises(ValueError, match=r"JSON compliant|64 bits"):
        canonical.require_keepable({"deep": [{"n": number}]})


def test_moment__of_any_zone__is_utc_to_the_microsecond() -> None:
    local = datetime(2013, 4, 1, 14, 0, 0, 7, timezone(timedelta(hours=2)))
    assert canonical.moment(local) == "2013-04-01 12:00:00.000007"
    assert canonical.moment(AT) == "2013-04-01 12:00:00.000000"


ODD: dict[str, Any] = {
    "zebra": 1e22, "a": 1.0, "tiny": 1e-7, "huge": 1.7e308, "smallest": 5e-324, "big": 2**64 - 1, "low": -(2**63),
    "float": 1e16, "fifteen": 1e15, "zero": -0.0, "third": 1 / 3, "négative": [-1e17, -0.5, {"b": None, "a": True}],
    "text": "é\u2028\U0001f600\"\\/\x01", "when": "2013-04-01T12:00:00-05:00", "hash": "1e+22",
}  # fmt: skip


@pytest.mark.django_db
@pytest.mark.parametrize("at", [AT, AT + timedelta(microseconds=120_000), AT + timedelta(microseconds=1)])
def test_digest_of__an_event_read_back__is_the_recorded_one(at: datetime) -> None:
    from audit import clock

    with clock.at(at):
        written = record("incident.seen", incident(), actor=ROBOT, reason="Naïve 'quotes' — ☃", data=ODD)
    read = Event.objects.get()

    assert written.digest == read.digest == chain.digest_of(read)
    assert len(read.digest) == 64


@pytest.mark.django_db
def test_digest__of_events_made_in_bulk__is_there() -> None:
    fields = {"name": "x", "subject_type": "t", "subject_id": "1", "subject_label": "l", "service": "s", "at": AT}
    Event.objects.bulk_create([Event(**fields, data={"n": n}) for n in range(3)])

    for event in Event.objects.all():
        assert event.digest == chain.digest_of(event)


@pytest.mark.django_db(transaction=True)
def test_verify__of_odd_data__finds_nothing() -> None:
    """What Python digests is what the database's own text of the row gives."""
    record("incident.seen", incident(), actor=ROBOT, reason="Naïve — ☃", data=ODD)
    record("incident.seen", incident("other"), actor=ROBOT, data={"n": [0.1, -0.0, 1e16]})

    found = chain.verify()

    assert found.problems == (), connection.vendor
    assert found.events == 2
