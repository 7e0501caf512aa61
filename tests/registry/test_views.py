"""The online read over HTTP: what it answers, to whom, and how soon a token that was revoked is none."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from audit import clock, plain
from audit.models import ApiToken
from features import actions, online
from features.materialize import materialize
from tests.builders import NOON, ROBOT, alice, audrey, charlie
from tests.mlops.calls import Caller, problem, refused_fields
from tests.registry import world

pytestmark = pytest.mark.django_db
ADDRESS = "features/services/toy/online/"


@pytest.fixture(autouse=True)
def _cheap_passwords(settings: Any) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def rows(*shops: Any) -> dict[str, Any]:
    return {"rows": [{"shop": shop} for shop in shops]}


def filled_service() -> Any:
    service = world.service()
    for pinned in service.pinned():
        materialize(pinned.view_version, now=NOON)
    return service


def test_online_features__answer_values_with_age_and_status() -> None:
    filled_service()
    with clock.at(NOON):
        answer = Caller(alice()).post(ADDRESS, rows("s3", "none")).json()
    assert answer == {
        "service": "toy@1",
        "at": NOON.isoformat(),
        "names": ["shop_facts__size"],
        "rows": [[3.0], [None]],
        "ages": [[100 * 24 * 3600.0], [None]],
        "statuses": [["present"], ["unknown"]],
    }


def test_online_features__of_a_number__are_of_that_number() -> None:
    service = world.service()
    caller = Caller(alice())
    assert caller.post(ADDRESS, {"number": service.number} | rows("s1")).json()["service"] == str(service)
    status, told = problem(caller.post(ADDRESS, {"number": 9} | rows("s1")))
    assert (status, set(told["errors"]), "toy@1" in told["detail"]) == (422, {"number"}, True)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, {"rows"}),
        ({"rows": []}, {"rows"}),
        ({"rows": [{"shop": "s1"}] * 1001}, {"rows"}),
        ({"rows": [3]}, {"rows.0"}),
        ({"rows": [{"shop": ["s1"]}]}, {"rows.0.shop"}),
        ({"rows": [{"shop": "s1"}], "number": True}, {"number"}),
        ({"rows": [{"shop": "s1"}], "nmber": 1}, {"nmber"}),
        ({"rows": [{"shop": "s1"}, {"spot": "s1"}]}, {"shop"}),
        ({"rows": [{"shop": 1.5}, {"shop": "s1"}]}, {"shop"}),
        (["rows"], {"body"}),
    ],
)
def test_online_features__asked_wrongly__name_what(body: Any, named: set[str]) -> None:
    world.service()
    assert refused_fields(Caller(alice()).post(ADDRESS, body)) == named


@pytest.mark.parametrize(("content", "kind", "code"), [("{", "application/json", 400), ("a=b", "text/plain", 415)])
def test_online_features__of_a_body_that_can_not_be_read__are_refused(content: str, kind: str, code: int) -> None:
    world.service()
    client = Caller(alice()).client
    assert problem(client.post(f"/api/v1/{ADDRESS}", content, content_type=kind))[0] == code


def test_online_features__of_too_large_a_body__are_refused(settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
    world.service()
    assert problem(Caller(alice()).post(ADDRESS, rows(*["s1"] * 50)))[0] == 413


def test_online_features__by_another_method_or_with_a_query__are_refused() -> None:
    world.service()
    client = Caller(alice()).client
    assert problem(client.get(f"/api/v1/{ADDRESS}"))[0] == 405
    asked = client.post(f"/api/v1/{ADDRESS}?number=1", rows("s1"), content_type="application/json")
    assert refused_fields(asked, 400) == {"number"}


def test_online_features__for_a_stranger_and_an_auditor() -> None:
    world.service()
    asked = [Caller(user).post(ADDRESS, rows("s1")).status_code for user in (charlie(), audrey())]
    assert asked == [404, 200]


# ---------------------------------------------------------------------- what is remembered


def test_online_features__asked_again__need_no_query() -> None:
    filled_service()
    caller = Caller(alice())
    caller.post(ADDRESS, rows("s1"))
    with CaptureQueriesContext(connection) as queries:
        assert caller.post(ADDRESS, rows("s2", "s3")).status_code == 200
    assert len(queries) == 0  # the store is asked past Django


def test_online_features__with_a_token_that_was_revoked__end_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    world.service()
    caller = Caller(alice())
    assert caller.post(ADDRESS, rows("s1")).status_code == 200
    ApiToken.objects.all().delete()
    assert plain.SECONDS <= 5
    later = time.monotonic() + plain.SECONDS
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert problem(caller.post(ADDRESS, rows("s1")))[0] == 401


def test_online_features__refusals__are_not_remembered() -> None:
    service = world.service()
    user = charlie()
    caller = Caller(user)
    assert caller.post(ADDRESS, rows("s1")).status_code == 404
    user.groups.add(service.owner)
    assert caller.post(ADDRESS, rows("s1")).status_code == 200


def test_vectors__of_a_service_with_transforms__are_computed_after_the_read() -> None:
    filled = filled_service()
    code = 'def bigger(amount, shop_facts__size):\n    return {"sum": amount + shop_facts__size}'
    actions.define_transform(
        name="bigger",
        code=code,
        features=[{"name": "sum", "dtype": "float64"}],
        owner=filled.owner,
        actor=ROBOT,
        now=NOON,
    )
    service = actions.define_service(
        name="toy",
        features=["shop_facts.size"],
        request_features=["amount"],
        transforms=["bigger"],
        owner=filled.owner,
        actor=ROBOT,
        now=NOON,
    )
    asked = [{"shop": "s3", "amount": 0.5}, {"shop": "none", "amount": 1}]
    read = online.vectors(service, asked, now=NOON)
    assert read.names == ("shop_facts__size", "bigger__sum")
    assert read.rows == [[3.0, 3.5], [None, None]]
    assert read.statuses == [["present", "present"], ["unknown", "null"]]
    assert read.ages[0][1] == 0.0
    answer = Caller(alice()).post(ADDRESS, {"rows": asked}).json()
    assert answer["rows"] == read.rows
    assert refused_fields(Caller(alice()).post(ADDRESS, rows("s3"))) == {"amount"}
