"""The lineage's addresses: what they answer, what they refuse, and what they do not tell strangers."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from audit import clock
from tests.builders import NOON, alice, charlie
from tests.mlops import lineage_world as world
from tests.mlops.calls import Caller, problem
from tests.mlops.lineage_walk import a_version

pytestmark = pytest.mark.django_db
DIFF = "models/late-arrival/versions/1/diff/2/"


def town() -> None:
    """Two versions of a model, the first of which serves."""
    world.views()
    taken = world.service("weather.temp", name="inputs")
    first = a_version(world.model(), service=taken, dataset=world.dataset(taken))
    world.served(first)
    a_version(world.model(), service=taken, parameters={"C": 2})


def test_backwards__version__is_a_graph_of_keys() -> None:
    town()
    answer = Caller(alice()).get("lineage/backwards/", of="version:late-arrival/1").json()
    assert {"from": "source:readings", "to": "view:weather@1"} in answer["edges"]
    kept = {node["key"]: node for node in answer["nodes"]}
    assert kept["source:readings"]["kind"] == "data source"
    assert not any(node["is_verified"] for node in answer["nodes"] if node["kind"] == "code")


def test_forwards__column__is_the_impact_with_whom_to_ask() -> None:
    town()
    answer = Caller(alice()).get("lineage/forwards/", column="readings.temp").json()
    assert [(each["label"], each["endpoints"]) for each in answer["affected"]] == [
        ("late-arrival v1", ["late-arrival-point"])
    ]
    assert answer["owners"] == ["delay-science"]
    every = Caller(alice()).get("lineage/forwards/", source="readings", versions="all").json()
    assert [each["label"] for each in every["affected"]] == ["late-arrival v1", "late-arrival v2"]


def test_as_of__moment__tells_what_served_with_its_events() -> None:
    town()
    caller = Caller(alice())
    (served,) = caller.get("lineage/as-of/", at="2013-04-01T14:00:00Z").json()["served"]
    assert served["champion"]["number"] == 1
    assert served["gates"]["verdicts"] == {"auc-floor": "passed"}
    assert [event["name"] for event in served["events"]][-1] == "alias.champion_moved"
    assert caller.get("lineage/as-of/", at="2013-04-01T12:00:00Z").json()["served"] == []


def test_as_of__without_a_moment__is_now() -> None:
    town()
    caller = Caller(alice())
    with clock.at(NOON + 5 * world.HOUR):
        answer = caller.get("lineage/as-of/").json()
    assert answer["at"] == "2013-04-01T17:00:00Z"
    assert len(answer["served"]) == 1


def test_diff__two_versions__is_what_differs() -> None:
    town()
    answer = Caller(alice()).get(DIFF).json()
    assert (answer["before"], answer["after"], answer["is_same"]) == ("late-arrival v1", "late-arrival v2", False)
    assert answer["parameters"] == [{"name": "C", "before": None, "after": "2", "kind": "added"}]


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("lineage/backwards/", {}),
        ("lineage/backwards/", {"of": "nonsense"}),
        ("lineage/backwards/", {"of": "source:a\0b"}),
        ("lineage/backwards/", {"of": "version:late-arrival/1", "deep": "1"}),
        ("lineage/forwards/", {}),
        ("lineage/forwards/", {"column": "temp"}),
        ("lineage/forwards/", {"source": "readings", "versions": "some"}),
        ("lineage/as-of/", {"at": "yesterday"}),
        (DIFF, {"form": "html"}),
    ],
)
def test_query__that_can_not_be_read__is_a_problem_that_names_it(path: str, query: dict[str, Any]) -> None:
    world.model()
    status, body = problem(Caller(alice()).get(path, **query))
    assert status == 400
    assert body["errors"]


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("lineage/backwards/", {"of": "version:late-arrival/1"}),
        ("lineage/forwards/", {"source": "unheard"}),
        (DIFF, {}),
    ],
)
def test_thing__not_there_or_a_strangers__is_not_found(path: str, query: dict[str, Any]) -> None:
    town()
    assert problem(Caller(charlie()).get(path, **query))[0] == 404
    assert problem(Caller().get(path, **query))[0] == 401


@pytest.mark.parametrize("versions", [2, 9])
def test_lists__of_many_versions__ask_a_fixed_number_of_queries(versions: int) -> None:
    town()
    for _ in range(versions - 2):
        a_version(world.model(), parameters={"n": 1})
    caller = Caller(alice())
    for path in ("models/", "models/late-arrival/versions/"):
        with CaptureQueriesContext(connection) as asked:
            assert caller.get(path).status_code == 200
        assert len(asked) <= 12, (path, [query["sql"] for query in asked])
