"""Registering over HTTP: a real artifact with its lineage, once; and what is refused with which field named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test.utils import CaptureQueriesContext

from audit import clock
from audit.models import Event
from registry.models import ModelVersion
from tests.builders import NOON, alice, audrey, charlie, paula, registered_model
from tests.mlops import world as building
from tests.mlops.calls import Caller, problem, refused_fields
from tests.registry import world

pytestmark = pytest.mark.django_db

CODE = "c0de" * 16
VERSIONS = "models/late-arrival/versions/"


@pytest.fixture(autouse=True)
def _noon() -> Iterator[None]:
    with clock.at(NOON):
        yield


def form(lineage: Any = None, content: bytes | None = None) -> dict[str, Any]:
    file = SimpleUploadedFile("model.skops", world.model_bytes() if content is None else content)
    said = {} if lineage is None else {"lineage": lineage if isinstance(lineage, str) else json.dumps(lineage)}
    return {"artifact": file, **said}


# ---------------------------------------------------------------------- registering


def test_version__sent_with_its_lineage__is_registered_where_location_says() -> None:
    service = world.service()
    registered_model()
    lineage = {
        "service": str(service),
        "label": "late",
        "parameters": {"C": 1.0},
        "metrics": {"roc_auc": 0.71},
        "commit": "abc",
        "dirty": True,
        "code_digest": CODE,
        "seed": 7,
        "signature": {"inputs": [{"name": "amount", "type": "double"}]},
        "note": "First.",
    }
    caller = Caller(alice())

    response = caller.form(VERSIONS, form(lineage))

    assert response.status_code == 201, response.content
    assert response["Location"] == "/api/v1/models/late-arrival/versions/1/"
    found = caller.client.get(response["Location"]).json()
    assert {name: found[name] for name in lineage} == lineage
    assert (found["load_class"], found["registered_by"]) == ("skops", "alice")
    assert found["lineage"]["kind"] == "model version"
    assert Event.objects.get(name="model_version.registered").actor == alice()


def test_version__sent_again__is_the_same_one_and_no_second_event() -> None:
    registered_model()
    caller = Caller(alice())
    first = caller.form(VERSIONS, form({"code_digest": CODE}))
    with clock.at(NOON.replace(hour=13)):
        again = caller.form(VERSIONS, form({"code_digest": CODE}))
        other = caller.form(VERSIONS, form({"code_digest": "f00d" * 16}))

    assert [each.status_code for each in (first, again, other)] == [201, 200, 201]
    assert (again.json()["number"], again["Location"]) == (1, first["Location"])
    assert Event.objects.filter(name="model_version.registered").count() == 2


def test_version__without_any_lineage__is_registered_and_shown_as_unverified() -> None:
    registered_model()
    answer = Caller(alice()).form(VERSIONS, form()).json()

    assert [part["is_verified"] for part in answer["lineage"]["parts"]] == [
        *(True, False, False, False, False),
        *(False, False, True),
    ]


def test_version__that_is_no_model__is_quarantined() -> None:
    registered_model()

    assert Caller(alice()).form(VERSIONS, form(content=b"no model at all")).json()["load_class"] == "quarantined"


@pytest.mark.parametrize(
    ("lineage", "field"),
    [
        ({"sevice": "toy@1"}, "lineage.sevice"),
        ({"service": "toy@9"}, "lineage.service"),
        ({"service": "toy"}, "lineage.service"),
        ({"dataset": "0" * 64}, "lineage.dataset"),
        ({"code_digest": "short"}, "lineage.code_digest"),
        ({"seed": -1}, "lineage.seed"),
        ({"parameters": [1]}, "lineage.parameters"),
        ({"metrics": {"a": "\0"}}, "lineage.metrics"),
        ('{"metrics": {"auc": NaN}}', "lineage.metrics"),
        ({"signature": {"inputs": ["amount"]}}, "signature"),
        ("no json", "lineage"),
        ("[]", "lineage"),
    ],
)
def test_lineage__with_something_wrong__names_it_and_nothing_is_registered(lineage: Any, field: str) -> None:
    registered_model()

    assert refused_fields(Caller(alice()).form(VERSIONS, form(lineage))) == {field}
    assert not ModelVersion.objects.exists()


def test_artifact__missing_empty_or_too_large__is_refused(settings: Any) -> None:
    settings.GATEHOUSE_MAX_ARTIFACT_BYTES = 100
    registered_model()
    caller = Caller(alice())

    assert refused_fields(caller.form(VERSIONS, {"lineage": "{}"})) == {"artifact"}
    assert refused_fields(caller.form(VERSIONS, form(content=b""))) == {"artifact"}
    assert refused_fields(caller.form(VERSIONS, form(content=b"x" * 101))) == {"artifact"}
    settings.GATEHOUSE_MAX_ARTIFACT_BYTES = -(2**20)
    assert problem(caller.form(VERSIONS, form()))[0] == 413


def test_artifact__sent_as_json__is_the_wrong_media_type() -> None:
    registered_model()

    assert problem(Caller(alice()).post(VERSIONS, {}))[0] == 415


def test_registering__is_for_data_science() -> None:
    registered_model()

    answers = [problem(Caller(user).form(VERSIONS, form())) for user in (charlie(), audrey(), paula())]

    assert [code for code, _ in answers] == [404, 403, 403]
    assert "Data science: model quality (delay-science)" in answers[2][1]["detail"]


# ---------------------------------------------------------------------- looking


def test_model__tells_tier_owners_champion_and_pipelines() -> None:
    there = building.build()

    answer = Caller(there.owner).get("models/delay-arrival/").json()

    assert (answer["tier"], answer["champion"]) == ("standard", 1)
    assert answer["owners"] == {
        "data_science": "delay-science",
        "platform": "delay-platform",
        "product": "delay-product",
    }
    assert [(each["name"], each["service"]) for each in answer["pipelines"]] == [("trees", "delay-inputs@1")]


def test_listings__cost_the_same_however_many_rows() -> None:
    caller = Caller(alice())
    caller.get("models/")  # notes that the token was used: once a minute
    for path, another in (("models/", registered_model), (VERSIONS, None)):
        registered_model()
        counts = []
        for n in range(3):
            if another:
                another(f"model-{n}")
            else:
                world.version(commit=str(n))
            with CaptureQueriesContext(
                connection,
            ) as queries:
                assert caller.get(path).status_code == 200
            counts.append(len(queries))
        assert counts[0] == counts[2], path


def test_versions__by_code__are_found() -> None:
    world.version(code_digest=CODE)
    world.version(code_digest="f00d" * 16)

    found = Caller(alice()).get(VERSIONS, code_digest=CODE).json()["results"]

    assert [row["number"] for row in found] == [1]


@pytest.mark.parametrize("number", [0, 7, 10**30])
def test_version__that_is_not_there__is_not_found(number: int) -> None:
    registered_model()

    assert problem(Caller(alice()).get(f"{VERSIONS}{number}/"))[0] == 404


# ---------------------------------------------------------------------- training


def test_training__requested__has_an_address_and_a_second_one_conflicts() -> None:
    world.pipeline()
    caller, body = Caller(alice()), {"pipeline": "toy", "window": {"name": "expanding"}, "reason": "Fresh data."}
    first = caller.post("models/late-arrival/training-runs/", body)

    assert first.status_code == 201
    run = caller.client.get(first["Location"]).json()
    assert (run["state"], run["pipeline"], run["requested_by"], run["version"]) == ("requested", "toy", "alice", None)
    assert problem(caller.post("models/late-arrival/training-runs/", body))[0] == 409


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"pipeline": "none"}, "pipeline"),
        ({"window": {"name": "last-month"}}, "window"),
        ({"window": "expanding"}, "window"),
        ({"parameters": {"seed": "one"}}, "parameters"),
        ({"reason": ""}, "reason"),
    ],
)
def test_training__asked_wrongly__is_refused_by_field(change: dict[str, Any], field: str) -> None:
    world.pipeline()
    body = {"pipeline": "toy", "window": {"name": "expanding"}, "reason": "Fresh data.", **change}

    assert refused_fields(Caller(alice()).post("models/late-arrival/training-runs/", body)) == {field}


# ---------------------------------------------------------------------- features


def test_online_features__unknown_entity__are_nulls() -> None:
    world.service()
    answer = Caller(alice()).post("features/services/toy/online/", {"rows": [{"shop": "s1"}, {"shop": "s2"}]}).json()

    assert answer["service"] == "toy@1"
    assert answer["names"] == ["shop_facts__size"]
    assert (answer["rows"], answer["ages"], answer["statuses"]) == ([[None]] * 2, [[None]] * 2, [["unknown"]] * 2)


def test_online_features__without_a_join_key__names_it() -> None:
    world.service()

    assert refused_fields(Caller(alice()).post("features/services/toy/online/", {"rows": [{"x": 1}]})) == {"shop"}


def test_online_features__for_somebody_who_consumes_nothing_of_it__are_not_there() -> None:
    service = world.service()
    body = {"rows": [{"shop": "s1"}]}

    assert problem(Caller(paula()).post("features/services/toy/online/", body))[0] == 404
    world.pipeline(service=service)
    assert Caller(paula()).post("features/services/toy/online/", body).status_code == 200
