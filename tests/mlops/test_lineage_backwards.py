"""Back from a version, a prediction, an incident to everything it was made from, and on to what hangs on it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest
from django.urls import reverse

from audit import clock
from audit.errors import InvalidInput, NotFound
from features.models import DataSource
from mlops.lineage import Graph, Node, backwards, onwards
from mlops.lineage.addresses import KINDS
from monitoring.models import Incident
from registry.models import ExternalEdge, ExternalNode, ModelVersion
from rollout import prediction_log
from rollout.models import Rollout
from tests.builders import NOON, alice, audrey, charlie
from tests.mlops import lineage_world as world
from tests.mlops import world as building
from tests.mlops.lineage_walk import a_version

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


def edges(graph: Graph) -> set[tuple[str, str]]:
    return {(edge.from_key, edge.to_key) for edge in graph.edges}


def node(graph: Graph, key: str) -> Node:
    return next(each for each in graph.nodes if each.key == key)


def made(**fields: Any) -> ModelVersion:
    """A version with a dataset and features of one view."""
    world.views()
    taken = world.service("weather.temp", name="inputs")
    told = {"service": taken, "dataset": world.dataset(taken), "commit": "c" * 40, "code_digest": "d" * 64}
    return a_version(world.model(), **told | fields)


def test_backwards__version__leads_to_the_sources_with_digests() -> None:
    version = made()
    graph = backwards("version:late-arrival/1", reader=alice())
    assert edges(graph) >= {
        ("source:readings", "view:weather@1"),
        ("view:weather@1", "service:inputs@1"),
        ("service:inputs@1", f"dataset:{'d' * 64}"),
        (f"dataset:{'d' * 64}", "version:late-arrival/1"),
        (f"code:{'d' * 64}", "version:late-arrival/1"),
        (f"artifact:{version.artifact_digest}", "version:late-arrival/1"),
    }
    assert dict(node(graph, f"dataset:{'d' * 64}").facts)["SHA-256"] == "d" * 64
    assert node(graph, "view:weather@1").url == reverse("portal:feature-view-version", args=["weather", 1])


def test_backwards__version_of_which_nothing_is_known__says_what_is_unverified() -> None:
    a_version(world.model())
    graph = backwards("version:late-arrival/1", reader=alice())
    unverified = {each.kind for each in graph.nodes if not each.is_verified}
    assert unverified == {"code", "training", "dataset", "feature service"}
    assert len(graph.edges) == 5


def test_backwards__source_that_another_tool_fills__goes_on_to_what_that_told() -> None:
    made()
    job = _external("job", "load")
    raw, ours = _external("dataset", "raw"), _external("dataset", "readings", "readings")
    for upstream, downstream in ((raw, job), (job, ours), (ours, raw)):  # a circle, too
        ExternalEdge.objects.create(upstream=upstream, downstream=downstream, first_seen=NOON, last_seen=NOON)
    graph = backwards("version:late-arrival/1", reader=alice())
    assert edges(graph) >= {
        ("external:dataset:warehouse/raw", "external:job:warehouse/load"),
        ("external:job:warehouse/load", "external:dataset:warehouse/readings"),
        ("external:dataset:warehouse/readings", "source:readings"),
    }
    assert not node(graph, "external:dataset:warehouse/raw").is_verified


def _external(kind: str, name: str, source: str = "") -> ExternalNode:
    ours = DataSource.objects.filter(name=source).first()
    return ExternalNode.objects.create(
        kind=kind, namespace="warehouse", name=name, source=ours, first_seen=NOON, last_seen=NOON
    )


def logged(version: ModelVersion | None, rollout: Rollout, **changes: str) -> None:
    """One prediction, two hours after the version was promoted."""
    at = NOON + 3 * world.HOUR
    row = dict.fromkeys(prediction_log.PREDICTION.names) | {
        "request_id": "ask/1", "at": at, "endpoint": rollout.endpoint.name, "entity": "N1", "arm": "champion",
        "version_id": version.pk if version else None, "answered_by": "champion" if version else "fallback",
        "score": 0.25, "status": "ok",
        **changes,
    }  # fmt: skip
    prediction_log.append(rollout.endpoint.name, pa.Table.from_pylist([row], schema=prediction_log.PREDICTION))


def test_backwards__prediction__leads_over_rollout_gates_and_policy_to_the_sources() -> None:
    version = made()
    rollout = world.served(version)
    logged(version, rollout)
    key = "prediction:late-arrival-point/ask/1"
    graph = backwards(key, reader=alice())
    gate_run = f"gate_run:{rollout.gate_run_id}"
    assert edges(graph) >= {
        ("version:late-arrival/1", gate_run),
        (f"policy:{version.registered_model_id}/1", gate_run),
        (gate_run, f"rollout:{rollout.pk}"),
        (f"rollout:{rollout.pk}", key),
        ("source:readings", "view:weather@1"),
    }
    assert dict(node(graph, key).facts)["Score"] == "0.25"


def test_backwards__prediction_that_no_version_answered__says_so() -> None:
    version = made()
    logged(None, world.served(version))
    graph = backwards("prediction:late-arrival-point/ask/1", reader=alice())
    assert [each.label for each in graph.of_kind("model version")] == [
        "No version answered: the endpoint's fallback did."
    ]


def test_backwards__prediction_of_a_canary_that_failed__leads_to_the_incumbent_that_answered() -> None:
    incumbent = made()
    world.served(incumbent)
    candidate = a_version(incumbent.registered_model)
    rollout = world.served(candidate)
    logged(candidate, rollout, arm="canary", salt=rollout.salt)
    graph = backwards("prediction:late-arrival-point/ask/1", reader=alice())
    assert [each.key for each in graph.of_kind("model version")] == ["version:late-arrival/1"]


def test_backwards__prediction_that_was_not_logged__is_not_found() -> None:
    world.served(made())
    with pytest.raises(NotFound):
        backwards("prediction:late-arrival-point/unheard", reader=alice())


def test_backwards__stranger__finds_nothing_of_the_model() -> None:
    rollout = world.served(made())
    keys = ["version:late-arrival/1", f"rollout:{rollout.pk}", f"gate_run:{rollout.gate_run_id}", f"dataset:{'d' * 64}",
            "prediction:late-arrival-point/ask/1"]  # fmt: skip
    for key in keys:
        with pytest.raises(NotFound):
            backwards(key, reader=charlie())
    assert backwards("view:weather@1", reader=charlie()).nodes  # features belong to all


@pytest.mark.parametrize(
    "key", ["", "version", "version:", "version:late-arrival", "version:late-arrival/0", "unheard:3", "incident:x",
            "incident:٣", "view:weather", "service:a@b", "prediction:alone", "rollout:" + "9" * 30],
)  # fmt: skip
def test_backwards__no_key__is_refused(key: str) -> None:
    with pytest.raises(InvalidInput):
        backwards(key, reader=audrey())


@pytest.mark.parametrize("kind", KINDS)
def test_backwards__thing_that_is_not_there__is_not_found(kind: str) -> None:
    names = {
        "version": "unheard/1", "prediction": "unheard/1", "dataset": "f" * 64, "source": "unheard",
        "external": "dataset:un/heard", **dict.fromkeys(("service", "view", "transform"), "unheard@1"),
    }  # fmt: skip
    with pytest.raises(NotFound):
        backwards(f"{kind}:{names.get(kind, '4711')}", reader=audrey())


def test_backwards__everything_of_a_world__can_be_asked_for() -> None:
    with clock.at(NOON + 40 * DAY):
        town = building.build("delay")
        asked = {
            "incident": town["incident"].pk, "rethink": town["rethink"].pk, "retraining": town["retraining"].pk,
            "run": town["training_run"].pk, "gate_run": town["gate_run"].pk, "rollout": town["rolled_back"].pk,
            "service": town["service"], "view": town["view_version"], "transform": town["transform"],
            "source": town["data_source"], "dataset": town["dataset"].digest,
        }  # fmt: skip
        for kind, name in asked.items():
            key = f"{kind}:{name}"
            assert key in backwards(key, reader=town.scientist), key


def test_backwards__incident_of_a_roll_back__leads_to_the_rollout_and_its_version() -> None:
    with clock.at(NOON + 40 * DAY):
        town = building.build("delay")
        rollout = town["rolled_back"]
        incident = building.an_incident(town, key=f"rolled_back:{rollout.pk}", kind="rolled_back")
        Incident.objects.filter(pk=incident.pk).update(cause_key=f"rolled_back:{rollout.pk}")
        graph = backwards(f"incident:{incident.pk}", reader=town.scientist)
    assert (f"rollout:{rollout.pk}", f"incident:{incident.pk}") in edges(graph)
    assert "version:delay-arrival/4" in graph


def test_onwards__version__leads_over_gates_and_rollout_to_what_it_answered() -> None:
    version = made()
    rollout = world.served(version)
    graph = onwards(version, now=NOON + DAY)
    (predictions,) = graph.of_kind("predictions")
    assert edges(graph) >= {
        ("version:late-arrival/1", f"gate_run:{rollout.gate_run_id}"),
        (f"gate_run:{rollout.gate_run_id}", f"rollout:{rollout.pk}"),
        (f"rollout:{rollout.pk}", predictions.key),
    }
    assert dict(predictions.facts)["From"] == "2013-04-01 13:00"


def test_onwards__world__reaches_incidents_retrainings_and_the_rethink() -> None:
    with clock.at(NOON + 40 * DAY):
        town = building.build("delay")
    graph = onwards(town["champion"], now=NOON + 40 * DAY)
    assert {each.kind for each in graph.nodes} >= {"incident", "retraining", "rethink", "gate run", "rollout"}
