"""Pushing over HTTP: both forms of a body, and refusals that name the row and the column."""

from __future__ import annotations

from typing import Any

import pytest

from features import offline, online
from features.models import PushReceipt
from tests.builders import alice, charlie, pete
from tests.features.store import asked, at, published, service
from tests.features.test_push import event, pushable
from tests.mlops.calls import Caller, problem, refused_fields

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _cheap_passwords(settings: Any) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def body(*rows: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"source": "readings", "push_id": "a", "rows": list(rows or [event(1)]), **changes}


def test_push__rows__are_stored_served_and_told() -> None:
    published(pushable())
    answer = Caller(pete()).post("push/", body(event(1, temp=5))).json()
    assert (answer["rows"], answer["written"]) == (1, {"weather@1": 1})
    (receipt,) = PushReceipt.objects.all()
    assert receipt.pushed_by == pete()
    assert answer["arrived_at"] == receipt.arrived_at.isoformat()
    read = online.vectors(service(), [{"origin": "EWR", "carrier": "UA"}], now=receipt.arrived_at)
    assert read.rows == [[5.0]]


def test_push__columns__are_the_same_rows() -> None:
    source = pushable()
    names = ("origin", "carrier", "happened", "temp")
    rows = [event(1, temp=None), event(2, origin="JFK", temp=2.5)]
    columns = {name: [row[name] for row in rows] for name in names}
    sent = {"source": "readings", "push_id": "a", "columns": columns}
    assert Caller(pete()).post("push/", sent).json()["rows"] == 2
    stored = offline.read_source(source.name, as_of=PushReceipt.objects.get().arrived_at).sort_by("happened")
    assert stored.select(["origin", "temp", "seats"]).to_pylist() == [
        {"origin": "EWR", "temp": None, "seats": None},
        {"origin": "JFK", "temp": 2.5, "seats": None},
    ]


def test_push__sent_again__answers_as_before() -> None:
    pushable()
    caller = Caller(pete())
    first, again = (caller.post("push/", body()) for _ in range(2))
    assert (again.status_code, again.json()) == (200, first.json())
    assert problem(caller.post("push/", body(event(2))))[0] == 409


def test_push__by_a_stranger__says_whose_duty_it_is() -> None:
    pushable()
    for person in (charlie(), alice()):
        status, told = problem(Caller(person).post("push/", body()))
        assert (status, "delay-platform" in told["detail"]) == (403, True)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"source": "nothing"}, {"source"}),
        ({"source": 3}, {"source"}),
        ({"push_id": None}, {"push_id"}),
        ({"push_id": " "}, {"push_id"}),
        ({"mode": "x"}, {"mode"}),
        ({"rows": []}, {"rows"}),
        ({"rows": [[]]}, {"rows.0"}),
        ({"columns": {}}, {"rows"}),
        ({"rows": [event(1), event(2, temp="warm")]}, {"rows.1.temp"}),
        ({"rows": [event(1, seats=1.5, wet="yes", tag=3)]}, {"rows.0.seats", "rows.0.wet", "rows.0.tag"}),
        ({"rows": [event(1, seats=2**63)]}, {"rows.0.seats"}),
        ({"rows": [event(1, tag="a\0b", temp=True)]}, {"rows.0.tag", "rows.0.temp"}),
        ({"rows": [event(1, happened="noon")]}, {"rows.0.happened"}),
        ({"rows": [event(1), {"temp": 1.0}]}, {"rows.1.happened"}),
        ({"rows": [event(1, wind=1.0)]}, {"rows.0.wind"}),
        ({"rows": [event(1, temp=[1.0])]}, {"rows.0.temp"}),
    ],
)
def test_push__wrong__names_what(changes: dict[str, Any], named: set[str]) -> None:
    pushable()
    assert refused_fields(Caller(pete()).post("push/", body(**changes))) == named
    assert not PushReceipt.objects.exists()


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        ({"happened": [at(1).isoformat()], "temp": [1.0, 2.0]}, "columns"),
        ({"happened": at(1).isoformat()}, "columns.happened"),
        ({"temp": [1.0, "x"]}, "columns.temp.1"),
        ({"happened": [at(1).isoformat()], "wind": [1.0]}, "columns.wind"),
        ({"happened": []}, "rows"),
    ],
)
def test_push__wrong_columns__names_what(columns: Any, named: str) -> None:
    pushable()
    sent = {"source": "readings", "push_id": "a", "columns": columns}
    assert named in refused_fields(Caller(pete()).post("push/", sent))


def test_push__to_a_source_of_files__is_refused() -> None:
    pushable(push_schema={})
    assert refused_fields(Caller(pete()).post("push/", body())) == {"source"}
    assert asked(None).num_rows == 1


def test_push__without_a_token__asks_for_one() -> None:
    response = Caller().post("push/", body())
    assert problem(response)[0] == 401
    assert response["WWW-Authenticate"] == "Bearer"
