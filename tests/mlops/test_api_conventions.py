"""What holds at every address of the API: who may come in, strict questions, problem documents, pages."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.test import Client, RequestFactory
from django.urls import URLPattern

from mlops import api
from mlops.problems import server_error
from tests.builders import alice, audrey, charlie, registered_model
from tests.mlops import world as building
from tests.mlops.calls import Caller, problem, refused_fields
from tests.mlops.world import World

pytestmark = pytest.mark.django_db

OF = {"endpoints": "endpoint", "services": "service", "models": "registered_model"}
"""Whose name stands behind a part of an address."""
ROWS = {
    "training-runs": "training_run", "evidence": "evidence", "gate-runs": "gate_run", "rollouts": "rollout",
    "incidents": "incident", "events": "event",
}  # fmt: skip
"""What has the id behind a part of an address."""
OTHERS = {
    "number": 1, "before": 1, "after": 3, "position": 1, "path": "model.skops", "request_id": "r", "tier": "standard",
    "check_id": "auc-floor", "fallback": "careful", "metric": "complaints",
}  # fmt: skip


def addresses(world: World) -> dict[str, str]:
    """Every address of the API, about one team's things."""
    return {_route(pattern): _address(pattern, world) for pattern in api.v1}


def _route(pattern: URLPattern) -> str:
    return str(pattern.pattern)


def _address(pattern: URLPattern, world: World) -> str:
    made: list[str] = []
    for part in re.split("/(?![^<]*>)", _route(pattern)):
        parameter = part.strip("<>").rpartition(":")[2]
        if not part.startswith("<"):
            made.append(part)
        elif parameter == "name":
            made.append(world[OF[made[-1]]].name)
        elif parameter in ("decision", "freeze"):
            made.append(str(world[parameter].pk))
        elif parameter == "pk":
            made.append(str(world[ROWS[made[-1]]].pk))
        else:
            made.append(str(OTHERS[parameter]))
    return f"/api/v1/{'/'.join(made)}"


LINEAGE_EVENTS = {"lineage", "lineage/", "lineage/batch", "lineage/batch/"}
SHARED = {"features/plan/", "features/apply/", "push/", *LINEAGE_EVENTS}
"""What is nobody's until its body says whose."""
INTAKE = {"predictions/", "outcomes/"}
"""Lines of JSON about an endpoint that the query names."""
LISTS = {
    "models/", "endpoints/", "incidents/", "events/", "lineage/as-of/", "log/checkpoints/", "log/verification/",
    "dossiers/verifier/", "policy-templates/<slug:tier>/",
}  # fmt: skip
"""What everybody may ask for, and gets what is theirs to see."""
NOT_YET = (
    "card/", "files/<path:path>", "dossiers/<int:position>/", "reports/<int:position>/", "request_id>/", "replay/",
)  # fmt: skip
"""Ends of addresses of what the world does not have."""


def ask(client: Client, route: str, address: str, team: str = "delay") -> Any:
    asked = {
        "lineage/backwards/": {"of": f"version:{team}-arrival/1"},
        "lineage/forwards/": {"feature": f"{team}_weather.delay"},
    }
    if "get" in _methods()[route]:
        return client.get(address, asked.get(route))
    if route in INTAKE:
        return client.post(f"{address}?endpoint={team}-warning", b"{}", content_type="application/x-ndjson")
    return client.post(address, {"reason": "x"}, content_type="application/json")


def _methods() -> dict[str, set[str]]:
    return {
        _route(pattern): {each for each in ("get", "post", "put") if hasattr(pattern.callback.cls, each)}
        for pattern in api.v1
    }


# ---------------------------------------------------------------------- who may come in


def test_every_address__without_a_token__asks_for_one() -> None:
    for route, address in addresses(building.build()).items():
        response = ask(Client(), route, address)

        assert problem(response)[0] == 401, address
        assert response["WWW-Authenticate"] == "Bearer"


def test_every_address__of_another_teams_things__is_not_there() -> None:
    theirs = building.build("search")
    dana = Caller(building.build().scientist).client
    for route, address in addresses(theirs).items():
        response = ask(dana, route, address, "search")
        if route in LISTS or route == "lineage/forwards/":  # of others it says only whom to ask
            assert "search-arrival" not in response.getvalue().decode(), address
        elif route in SHARED:
            assert problem(response)[0] == 422, address
        elif route == "lineage/backwards/":
            assert problem(response)[0] in (400, 404), address
        else:
            assert problem(response)[0] == 404, address


def test_every_address__of_ones_own_things__answers() -> None:
    world = building.build()
    dana = Caller(world.scientist).client
    for route, address in addresses(world).items():
        response = ask(dana, route, address)
        expected = {200} if "get" in _methods()[route] else {409, 422, 403, 200}
        assert response.status_code in ({200, 404} if route.endswith(NOT_YET) else expected), address


@pytest.mark.parametrize("text", ["gh_nobody", "\xff\xfe", "two words", ""])
def test_a_token__that_is_none__is_refused(text: str) -> None:
    response = Client(headers={"Authorization": f"Bearer {text}"}).get("/api/v1/models/")

    assert problem(response)[0] == 401


def test_a_session__of_the_portal__is_no_token() -> None:
    client = Client()
    client.force_login(alice())

    assert problem(client.get("/api/v1/models/"))[0] == 401


def test_an_account__that_was_closed__has_no_token() -> None:
    caller = Caller(user := alice())
    user.is_active = False
    user.save()

    assert problem(caller.get("models/"))[0] == 401


# ---------------------------------------------------------------------- strict questions


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ({"teir": "standard"}, "teir"),
        ({"tier": "low"}, "tier"),
        ({"page_size": "0"}, "page_size"),
        ({"page_size": "201"}, "page_size"),
        ({"page_size": "ten"}, "page_size"),
        ({"cursor": "nonsense"}, "cursor"),
    ],
)
def test_listing__asked_wrongly__is_refused_by_parameter(query: dict[str, str], named: str) -> None:
    registered_model()

    assert refused_fields(Caller(alice()).get("models/", **query), 400) == {named}


@pytest.mark.parametrize("cursor", ["cD1hYmM=", "cD0lMDA="], ids=["a text for a number", "a NUL"])
def test_cursor__of_another_listing__is_refused(cursor: str) -> None:
    assert refused_fields(Caller(alice()).get("events/", cursor=cursor), 400) == {"cursor"}


def test_one_thing__asked_with_a_parameter_it_does_not_have__is_refused() -> None:
    registered_model()

    assert refused_fields(Caller(alice()).get("models/late-arrival/", verbose="1"), 400) == {"verbose"}


@pytest.mark.parametrize(
    ("content", "kind", "code"),
    [
        ("{", "application/json", 400),
        ("[" * 100_000, "application/json", 400),
        ('{"a": NaN}', "application/json", 400),
        ("a=b", "application/x-www-form-urlencoded", 415),
        ('["a list"]', "application/json", 422),
    ],
)
def test_body__that_can_not_be_read__is_refused(content: str, kind: str, code: int) -> None:
    registered_model()
    client = Caller(alice()).client

    assert problem(client.post("/api/v1/models/late-arrival/evidence/", content, content_type=kind))[0] == code


def test_body__larger_than_is_read__is_refused(settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
    registered_model()

    assert problem(Caller(alice()).post("models/late-arrival/evidence/", {"report": "x" * 200}))[0] == 413


def test_body__with_a_field_nobody_knows__names_it_and_those_there_are() -> None:
    registered_model()
    response = Caller(alice()).post("models/late-arrival/gate-runs/", {"version": 1, "reasn": "typo"})

    assert refused_fields(response) == {"reasn"}
    assert "There are: version, reason" in response.json()["detail"]


def test_method__that_an_address_does_not_have__is_refused() -> None:
    registered_model()

    assert problem(Caller(alice()).client.delete("/api/v1/models/late-arrival/"))[0] == 405


# ---------------------------------------------------------------------- problems


@pytest.mark.parametrize(
    "address", ["/api/", "/api/v1/", "/api/v1/models", "/api/v2/models/", "/api/v1/models/9!/", "/api/v1/events/%0A/"]
)
@pytest.mark.parametrize("method", ["get", "post"])
def test_address__that_is_none__is_a_problem_too(address: str, method: str) -> None:
    assert problem(getattr(Client(enforce_csrf_checks=True), method)(address))[0] == 404


def test_defect__in_the_api__is_told_as_a_problem_without_its_traceback() -> None:
    response = server_error(RequestFactory().get("/api/v1/models/"))
    page = server_error(RequestFactory().get("/models/late-arrival/"))

    assert problem_of(response)["title"] == "Internal Server Error"
    assert page["Content-Type"].startswith("text/html")


def problem_of(response: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(response.content)
    return found


# ---------------------------------------------------------------------- pages


def test_pages__followed_to_the_end__show_every_row_once() -> None:
    names = [f"model-{letter}" for letter in "abcde"]
    for name in names:
        registered_model(name)
    caller = Caller(alice())

    seen, page = [], caller.get("models/", page_size=2).json()
    seen += [row["name"] for row in page["results"]]
    while page["next"]:
        page = caller.client.get(page["next"]).json()
        seen += [row["name"] for row in page["results"]]

    assert seen == names


def test_models__for_a_stranger_an_owner_and_an_auditor() -> None:
    registered_model()

    seen = [len(Caller(user).get("models/").json()["results"]) for user in (charlie(), alice(), audrey())]

    assert seen == [0, 1, 1]
