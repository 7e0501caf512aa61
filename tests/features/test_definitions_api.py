"""Plan and apply over HTTP: strict bodies, faults by object and field, conflicts, and the models that are hurt."""

from __future__ import annotations

from typing import Any

import pytest

from features.models import FeatureViewVersion
from tests.builders import alice, charlie, group
from tests.features import store
from tests.features.test_plan import PLATFORM, SCIENCE, SOURCE, VIEW, author, files
from tests.mlops import world as building
from tests.mlops.calls import Caller, problem, refused_fields

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _readings() -> None:
    group(SCIENCE), group(PLATFORM)
    store.write_source("readings", [store.reading(hour, temp=float(hour)) for hour in range(300)])


@pytest.fixture
def caller() -> Caller:
    return Caller(author())


def plan(caller: Caller, told: dict[str, Any], **more: Any) -> dict[str, Any]:
    answer = caller.post("features/plan/", {"definitions": told, **more})
    assert answer.status_code == 200, answer.content
    found: dict[str, Any] = answer.json()
    return found


def apply(caller: Caller, told: dict[str, Any], **more: Any) -> dict[str, Any]:
    digest = plan(caller, told, publish=more.get("publish", False))["digest"]
    answer = caller.post("features/apply/", {"definitions": told, "digest": digest, **more})
    assert answer.status_code == 200, answer.content
    found: dict[str, Any] = answer.json()
    return found


def test_plan_then_apply__answers_what_it_did(caller: Caller) -> None:
    applied = apply(caller, files(), publish=True, reason="Reviewed.")

    assert applied["to_do"] == 3
    assert [change["label"] for change in applied["changes"]] == ["carrier_origin", "readings", "weather@1"]
    assert applied["changes"][2]["publishes"] is True
    assert FeatureViewVersion.objects.get().state == "published"
    assert plan(caller, files(), publish=True)["to_do"] == 0


def test_plan__of_a_changed_view__names_the_live_models_that_pin_it() -> None:
    world = building.build()
    told = {
        "views": {
            "delay_weather": {
                "entity": "delay-airport",
                "sources": ["readings"],
                "expression": "SELECT origin, temp AS temperature, happened, arrived FROM readings",
                "features": ["temperature"],
                "event_timestamp": "happened",
                "known_at": "arrived",
                "owner": "delay-science",
            }
        },
    }
    store.source(store.reading(hour) for hour in range(3))

    (change,) = plan(Caller(world.scientist), told)["changes"]

    assert (change["label"], change["pinned_by"]) == ("delay_weather@2", ["delay-inputs@1"])
    used = {(use["model"], use["role"], use["owner"]) for use in change["used_by"]}
    assert used == {
        ("delay-arrival v1", "champion", "delay-science"),
        ("delay-arrival v3", "canary", "delay-science"),
    }
    assert "error" in change["review"]["values"]  # the version in force can not be computed


def test_plan__with_faults__names_object_and_field(caller: Caller) -> None:
    told = files(views={"weather": {**VIEW, "expression": "DROP TABLE readings"}, "storm": {"ttl": "soon"}})
    assert refused_fields(caller.post("features/plan/", {"definitions": told})) == {
        "views.storm.entity",
        "views.storm.sources",
        "views.storm.expression",
        "views.storm.owner",
        "views.storm.ttl",
    }
    told["views"].pop("storm")
    assert refused_fields(caller.post("features/plan/", {"definitions": told})) == {"views.weather.expression"}


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"definitions"}),
        ({"definitions": {}}, {"definitions"}),
        ({"definitions": {"vews": {}}}, {"vews"}),
        ({"definitions": {"views": []}}, {"views"}),
        ({"definitions": {"views": {"a": 1}}}, {"views.a"}),
        ({"definitions": {"entities": {"a": {"join_keys": "x"}}}}, {"entities.a.join_keys"}),
        ({"definitions": {"entities": {"a": {"join_keys": ["x"], "keys": 1}}}}, {"entities.a.keys"}),
        ({"definitions": {"entities": {"A b": {"join_keys": ["x"]}}}}, {"entities.A b.name"}),
        ({"definitions": {}, "force": True}, {"force"}),
    ],
)
def test_plan__of_a_body_that_is_wrong__is_refused(caller: Caller, body: dict[str, Any], fields: set[str]) -> None:
    assert refused_fields(caller.post("features/plan/", body)) == fields


def test_apply__without_the_digest_of_a_plan__is_refused(caller: Caller) -> None:
    assert refused_fields(caller.post("features/apply/", {"definitions": files()})) == {"digest"}
    status, body = problem(caller.post("features/apply/", {"definitions": files(), "digest": "0" * 64}))
    assert (status, "Plan again" in body["detail"]) == (409, True)


def test_apply__with_publish_and_no_reason__is_refused(caller: Caller) -> None:
    digest = plan(caller, files(), publish=True)["digest"]
    body = {"definitions": files(), "digest": digest, "publish": True}
    assert refused_fields(caller.post("features/apply/", body)) == {"reason"}


def test_plan__by_strangers__is_refused() -> None:
    status, body = problem(Caller(charlie()).post("features/plan/", {"definitions": files()}))
    assert (status, body["detail"]) == (403, "sources.readings: Only members of the group delay-platform can do this.")
    alone = {"sources": {"readings": {**SOURCE, "owner": SCIENCE}}}
    assert Caller(alice()).post("features/plan/", {"definitions": alone}).status_code == 200
    assert Caller().post("features/plan/", {"definitions": alone}).status_code == 401
